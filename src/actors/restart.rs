//! When a fallen instance is started again. Pure; time is an argument.
//!
//! A fall after useful work is a mishap: the next start comes quickly. Falls without a finished
//! batch in between are a crash loop: the back-off doubles, and after too many of them in a window
//! the stage is down, with one attempt per cool-off.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Settings: `[stages.NAME.restart]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestartSpec {
    /// Pause before the first restart, in milliseconds; doubles with every further fall.
    pub backoff_ms: u64,
    /// Longest pause, in milliseconds.
    pub backoff_max_ms: u64,
    /// How many falls without a finished batch in between, within the window, make the stage down.
    pub max_restarts: usize,
    /// Length of the window, in seconds.
    pub window_s: u64,
    /// While the stage is down, one attempt is made per so many seconds.
    pub cool_off_s: u64,
}

impl Default for RestartSpec {
    fn default() -> Self {
        Self {
            backoff_ms: 20,
            backoff_max_ms: 5_000,
            max_restarts: 5,
            window_s: 60,
            cool_off_s: 15,
        }
    }
}

/// What to do after a fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Start again after this pause.
    Restart(Duration),
    /// The stage is down; one attempt after this pause.
    Down(Duration),
}

/// A stage's history of falls.
#[derive(Clone, Debug)]
pub struct Restarts {
    spec: RestartSpec,
    falls: VecDeque<Instant>,
    streak: u32,
    jitter: u64,
}

impl Restarts {
    /// A clean history. `seed` makes the jitter repeatable.
    pub fn new(spec: RestartSpec, seed: u64) -> Self {
        Self { spec, falls: VecDeque::new(), streak: 0, jitter: seed | 1 }
    }

    /// A batch was finished: whatever happened before is no crash loop.
    pub fn on_progress(&mut self) {
        self.falls.clear();
        self.streak = 0;
    }

    /// An instance fell.
    pub fn on_fall(&mut self, now: Instant) -> Plan {
        let window = Duration::from_secs(self.spec.window_s);
        while self.falls.front().is_some_and(|fall| now.saturating_duration_since(*fall) > window) {
            self.falls.pop_front();
        }
        self.falls.push_back(now);
        if self.falls.len() > self.spec.max_restarts {
            self.falls.pop_front();
            return Plan::Down(Duration::from_secs(self.spec.cool_off_s));
        }
        let doubled = self.spec.backoff_ms.saturating_mul(1 << self.streak.min(20));
        self.streak = self.streak.saturating_add(1);
        Plan::Restart(self.jittered(doubled.min(self.spec.backoff_max_ms)))
    }

    /// Up to a fifth more, so that stages that fell together do not start together.
    fn jittered(&mut self, millis: u64) -> Duration {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let fifth = millis as f64 / 5.0 * (self.jitter % 1000) as f64 / 1000.0;
        Duration::from_secs_f64((millis as f64 + fifth) / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_pause_doubles_up_to_its_limit() {
        let spec = RestartSpec { max_restarts: 100, ..RestartSpec::default() };
        let mut restarts = Restarts::new(spec, 7);
        let start = crate::clock::now();
        let mut floor = 20;
        for _ in 0..12 {
            let Plan::Restart(pause) = restarts.on_fall(start) else { panic!() };
            let (low, high) = (Duration::from_millis(floor), Duration::from_millis(floor) * 6 / 5);
            assert!(pause >= low && pause <= high, "{pause:?} {floor}");
            floor = (floor * 2).min(5_000);
        }
    }

    #[test]
    fn too_many_falls_in_the_window_are_down_and_progress_forgives() {
        let mut restarts = Restarts::new(RestartSpec::default(), 1);
        let start = crate::clock::now();
        for _ in 0..5 {
            assert!(matches!(restarts.on_fall(start), Plan::Restart(_)));
        }
        assert_eq!(restarts.on_fall(start), Plan::Down(Duration::from_secs(15)));
        assert_eq!(restarts.on_fall(start), Plan::Down(Duration::from_secs(15)));
        restarts.on_progress();
        assert!(matches!(restarts.on_fall(start), Plan::Restart(_)));
    }

    #[test]
    fn falls_outside_the_window_are_forgotten() {
        let mut restarts = Restarts::new(RestartSpec::default(), 1);
        let start = crate::clock::now();
        for i in 0..50 {
            let plan = restarts.on_fall(start + Duration::from_secs(61 * i));
            assert!(matches!(plan, Plan::Restart(_)), "{i}");
        }
    }

    proptest! {
        /// Without progress, never more than `max_restarts` quick restarts in any window.
        #[test]
        fn the_limit_holds(gaps in prop::collection::vec(0u64..40, 1..60), max in 1usize..6) {
            let spec = RestartSpec { max_restarts: max, ..RestartSpec::default() };
            let window = Duration::from_secs(spec.window_s);
            let mut restarts = Restarts::new(spec, 3);
            let (mut now, mut quick) = (crate::clock::now(), Vec::new());
            for gap in gaps {
                now += Duration::from_secs(gap);
                if matches!(restarts.on_fall(now), Plan::Restart(_)) {
                    quick.push(now);
                }
                let recent = quick.iter().filter(|t| now.duration_since(**t) <= window).count();
                prop_assert!(recent <= max, "{recent} > {max}");
            }
        }
    }
}
