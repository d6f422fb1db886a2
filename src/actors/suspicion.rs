//! Whose fault a stage's falls are: the images', or its own. Pure; time is an argument.
//!
//! A job whose batch fell is tried again alone. If it falls alone too, it is taken for poison: two
//! restarts, and the stage is rid of it. A backend that falls now and then, whatever the image, looks
//! the same to a single job, so a job that nobody else can answer gets one last chance; what comes of
//! it tells which of the two the stage is, and is remembered.
//!
//! The breaker opens where falls are frequent: jobs then travel alone and one fall convicts, so that
//! a flood of poison costs one restart each and no batch-mate its time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Falls, alone or in company, after which a job is taken for poison.
const TOLERANCE: u8 = 2;

/// The breaker judges by so many batches at most.
const BATCHES: usize = 32;

/// The breaker does not open for fewer falls than this among them.
const MIN_FALLS: usize = 8;

/// The breaker opens when at least one batch in so many falls.
const ONE_IN: usize = 4;

/// How long what was learned counts.
const MEMORY: Duration = Duration::from_secs(60);

/// What is known of one stage.
#[derive(Clone, Debug, Default)]
pub struct Suspicion {
    batches: VecDeque<(Instant, bool)>,
    falls: usize,
    last_chance: Option<(Instant, bool)>,
}

impl Suspicion {
    /// A batch ended: in predictions, or in a fall.
    pub fn on_batch(&mut self, fell: bool, now: Instant) {
        let is_old = |(at, _): &(Instant, bool)| now.saturating_duration_since(*at) > MEMORY;
        while self.batches.len() >= BATCHES || self.batches.front().is_some_and(is_old) {
            if let Some((_, fell)) = self.batches.pop_front() {
                self.falls -= usize::from(fell);
            }
        }
        self.batches.push_back((now, fell));
        self.falls += usize::from(fell);
    }

    /// What came of a last chance.
    pub fn on_last_chance(&mut self, fell: bool, now: Instant) {
        self.last_chance = Some((now, fell));
    }

    /// Whether falls are so frequent that jobs must travel alone.
    pub fn is_open(&self) -> bool {
        self.falls >= MIN_FALLS && self.falls * ONE_IN >= self.batches.len()
    }

    /// After how many falls a job is taken for poison that was or was not `alone` at the last of them.
    /// One that another stage has convicted gets no second try here.
    pub fn tolerance(&self, alone: bool, convicted_elsewhere: bool) -> u8 {
        if alone && (convicted_elsewhere || self.is_open()) { 1 } else { TOLERANCE }
    }

    /// Whether a job taken for poison may be tried once more, where nothing else can answer it: not
    /// while the breaker is open, nor when the last such try was in vain.
    pub fn grants_last_chance(&self, now: Instant) -> bool {
        let in_vain =
            |(at, fell): (Instant, bool)| fell && now.saturating_duration_since(at) <= MEMORY;
        !self.is_open() && !self.last_chance.is_some_and(in_vain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_breaker_opens_on_a_flood_and_closes_again() {
        let (mut suspicion, now) = (Suspicion::default(), crate::clock::now());
        for fell in [true, false].into_iter().cycle().take(14) {
            suspicion.on_batch(fell, now);
        }
        assert!(!suspicion.is_open(), "seven falls are no flood");
        suspicion.on_batch(true, now);
        assert!(suspicion.is_open());
        assert_eq!(suspicion.tolerance(true, false), 1);
        assert_eq!(suspicion.tolerance(false, false), 2, "a fall in company proves nothing");
        for _ in 0..24 {
            suspicion.on_batch(false, now);
        }
        assert!(!suspicion.is_open());
    }

    #[test]
    fn a_stage_that_falls_every_seventh_time_is_no_flood() {
        let (mut suspicion, now) = (Suspicion::default(), crate::clock::now());
        for n in 1..500 {
            suspicion.on_batch(n % 7 == 0, now);
            assert!(!suspicion.is_open(), "{n}");
        }
    }

    #[test]
    fn old_falls_are_forgotten() {
        let (mut suspicion, now) = (Suspicion::default(), crate::clock::now());
        for _ in 0..20 {
            suspicion.on_batch(true, now);
        }
        suspicion.on_batch(false, now + MEMORY * 2);
        assert!(!suspicion.is_open());
    }

    #[test]
    fn a_last_chance_in_vain_is_the_last_for_a_while() {
        let (mut suspicion, now) = (Suspicion::default(), crate::clock::now());
        assert!(suspicion.grants_last_chance(now));
        suspicion.on_last_chance(true, now);
        assert!(!suspicion.grants_last_chance(now));
        assert!(suspicion.grants_last_chance(now + MEMORY * 2));
        suspicion.on_last_chance(false, now);
        assert!(suspicion.grants_last_chance(now));
    }
}
