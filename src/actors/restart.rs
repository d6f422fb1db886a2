//! When a fallen instance is started again. Pure; time is an argument.
//!
//! A fall after useful work is a mishap: the next start comes quickly. Falls without a finished
//! batch in between are a crash loop: the back-off doubles, and after too many of them in a window
//! the stage is down, with one attempt per cool-off; so it is after as many loads in a row that fail,
//! however long each of them takes. A fall with a job aboard may be the job's doing and counts half;
//! that of a job tried again is expected and does not count.

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
    /// How many falls without a finished batch in between, within the window, make the stage down. A
    /// fall with jobs aboard counts half, that of a job tried again not at all.
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

/// What an instance was doing when it fell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum During {
    /// It was being built, or did nothing.
    Load,
    /// It computed jobs that it had not fallen with before.
    Work,
    /// It computed a job that travelled alone because the stage falls often.
    Alone,
    /// It computed a job that had been aboard at a fall before.
    Retry,
}

impl During {
    /// In halves.
    fn weight(self) -> usize {
        match self {
            Self::Load => 2,
            Self::Work | Self::Alone => 1,
            Self::Retry => 0,
        }
    }
}

/// A lane's history of falls.
#[derive(Clone, Debug)]
pub struct Restarts {
    spec: RestartSpec,
    falls: VecDeque<(Instant, During)>,
    streak: u32,
    /// Loads in a row that failed.
    failed_loads: usize,
    progress: Option<Instant>,
    jitter: u64,
}

impl Restarts {
    /// A clean history. `seed` makes the jitter repeatable.
    pub fn new(spec: RestartSpec, seed: u64) -> Self {
        Self {
            spec,
            falls: VecDeque::new(),
            streak: 0,
            failed_loads: 0,
            progress: None,
            jitter: seed | 1,
        }
    }

    /// A load succeeded.
    pub fn on_load(&mut self) {
        self.failed_loads = 0;
    }

    /// A batch was finished: whatever happened before is no crash loop.
    pub fn on_progress(&mut self, now: Instant) {
        self.progress = Some(now);
        self.falls.clear();
        self.streak = 0;
        self.failed_loads = 0;
    }

    /// An instance fell.
    pub fn on_fall(&mut self, during: During, now: Instant) -> Plan {
        let window = Duration::from_secs(self.spec.window_s);
        let is_old = |(at, _): &(Instant, During)| now.saturating_duration_since(*at) > window;
        while self.falls.front().is_some_and(is_old) {
            self.falls.pop_front();
        }
        let lives = self.progress.is_some_and(|at| now.saturating_duration_since(at) <= window);
        if during == During::Retry || during == During::Alone && lives {
            return Plan::Restart(self.jittered(self.spec.backoff_ms));
        }
        self.falls.push_back((now, during));
        self.failed_loads += usize::from(during == During::Load);
        let mut is_down = self.failed_loads > self.spec.max_restarts;
        while self.weight() > 2 * self.spec.max_restarts {
            self.falls.pop_front();
            is_down = true;
        }
        if is_down {
            return Plan::Down(Duration::from_secs(self.spec.cool_off_s));
        }
        let doubled = self.spec.backoff_ms.saturating_mul(1 << self.streak.min(20));
        self.streak = self.streak.saturating_add(1);
        Plan::Restart(self.jittered(doubled.min(self.spec.backoff_max_ms)))
    }

    fn weight(&self) -> usize {
        self.falls.iter().map(|(_, during)| during.weight()).sum()
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
            let Plan::Restart(pause) = restarts.on_fall(During::Load, start) else { panic!() };
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
            assert!(matches!(restarts.on_fall(During::Load, start), Plan::Restart(_)));
        }
        assert_eq!(restarts.on_fall(During::Load, start), Plan::Down(Duration::from_secs(15)));
        assert_eq!(restarts.on_fall(During::Load, start), Plan::Down(Duration::from_secs(15)));
        restarts.on_progress(start);
        assert!(matches!(restarts.on_fall(During::Load, start), Plan::Restart(_)));
    }

    #[test]
    fn falls_with_jobs_aboard_count_half_and_retries_not_at_all() {
        let mut restarts = Restarts::new(RestartSpec::default(), 1);
        let start = crate::clock::now();
        for _ in 0..10 {
            assert!(matches!(restarts.on_fall(During::Work, start), Plan::Restart(_)));
            for _ in 0..5 {
                let Plan::Restart(pause) = restarts.on_fall(During::Retry, start) else { panic!() };
                assert!(pause <= Duration::from_millis(24), "{pause:?}");
            }
        }
        assert!(matches!(restarts.on_fall(During::Work, start), Plan::Down(_)));
    }

    #[test]
    fn falls_outside_the_window_are_forgotten() {
        let mut restarts = Restarts::new(RestartSpec::default(), 1);
        let start = crate::clock::now();
        for i in 0..50 {
            let plan = restarts.on_fall(During::Work, start + Duration::from_secs(61 * i));
            assert!(matches!(plan, Plan::Restart(_)), "{i}");
        }
    }

    #[test]
    fn loads_that_fail_slowly_are_down_all_the_same() {
        let mut restarts = Restarts::new(RestartSpec::default(), 1);
        let start = crate::clock::now();
        let plan = |i: u32, restarts: &mut Restarts| {
            restarts.on_fall(During::Load, start + Duration::from_secs(121) * i)
        };
        assert!((0..5).all(|i| matches!(plan(i, &mut restarts), Plan::Restart(_))));
        assert!(matches!(plan(5, &mut restarts), Plan::Down(_)));
        restarts.on_load();
        assert!(matches!(plan(6, &mut restarts), Plan::Restart(_)));
    }

    #[test]
    fn a_flood_of_poison_does_not_stop_a_stage_that_finishes_batches() {
        let mut restarts = Restarts::new(RestartSpec::default(), 1);
        let start = crate::clock::now();
        restarts.on_progress(start);
        for i in 0..50 {
            let plan = restarts.on_fall(During::Alone, start + Duration::from_secs(1) * i);
            assert!(matches!(plan, Plan::Restart(pause) if pause < Duration::from_millis(25)));
        }
        let late = start + Duration::from_secs(100);
        let plans: Vec<_> = (0..11).map(|_| restarts.on_fall(During::Alone, late)).collect();
        assert!(matches!(plans[10], Plan::Down(_)), "nothing has been finished for too long");
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
                if matches!(restarts.on_fall(During::Load, now), Plan::Restart(_)) {
                    quick.push(now);
                }
                let recent = quick.iter().filter(|t| now.duration_since(**t) <= window).count();
                prop_assert!(recent <= max, "{recent} > {max}");
            }
        }
    }
}
