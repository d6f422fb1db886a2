//! Whether a child that died is started again, and when. Pure; time is an argument.
//!
//! Who was ready for a while before dying was worth starting: the next start comes at once. Deaths
//! without such a spell in between are a crash loop: the pauses double, and after too many of them
//! the parent gives up, so that whoever watches over it sees the child's code.

use std::time::{Duration, Instant};

use crate::app::Exit;

/// Who was ready for so long did not die of being started.
pub const STEADY: Duration = Duration::from_secs(2);

/// So many starts again in a row, none of which led to a steady child; then the parent gives up.
pub const MAX_RESTARTS: u32 = 8;

/// The pause before the second start again in a row; it doubles with every further one. The first
/// comes at once.
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this code.
    Code(u8),
    /// This signal killed it.
    Signal(i32),
    /// It could not be started at all.
    Unborn,
}

impl End {
    /// The code that tells it to who watches over the parent; for a signal, as shells do, 128 and its
    /// number.
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX),
            Self::Unborn => Exit::Failure.code(),
        }
    }

    /// Whether another start would end in the same way.
    fn is_final(self) -> bool {
        [Exit::Usage, Exit::Config].iter().any(|exit| self == Self::Code(exit.code()))
    }
}

/// The end of a child that nobody had asked to end.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// How.
    pub end: End,
    /// Since when it could answer, if it ever could.
    pub ready_since: Option<Instant>,
}

/// What follows a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Another child is started after this pause.
    RestartAfter(Duration),
    /// The parent ends as well, with this code.
    GiveUp(u8),
}

/// The deaths since a child was last steady.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deaths {
    in_a_row: u32,
}

impl Deaths {
    /// A child has died at `now`.
    pub fn on(&mut self, death: Death, now: Instant) -> Decision {
        let was_ready_for = |since| now.saturating_duration_since(since);
        if death.ready_since.map(was_ready_for).is_some_and(|spell| spell >= STEADY) {
            self.in_a_row = 0;
        }
        self.in_a_row += 1;
        if death.end.is_final() || self.in_a_row > MAX_RESTARTS {
            return Decision::GiveUp(death.end.code());
        }
        let Some(doublings) = self.in_a_row.checked_sub(2) else {
            return Decision::RestartAfter(Duration::ZERO);
        };
        Decision::RestartAfter((FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn restart(decision: Decision) -> Option<Duration> {
        match decision {
            Decision::RestartAfter(pause) => Some(pause),
            Decision::GiveUp(_) => None,
        }
    }

    #[test]
    fn the_first_start_again_is_at_once_and_the_pauses_double_until_it_gives_up() {
        let (mut deaths, now) = (Deaths::default(), crate::clock::now());
        let death = Death { end: End::Code(70), ready_since: None };
        let pauses: Vec<_> = (0..MAX_RESTARTS).map(|_| deaths.on(death, now)).collect();
        let millis: Vec<_> =
            pauses.into_iter().map(|pause| restart(pause).unwrap().as_millis()).collect();
        assert_eq!(millis, [0, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(deaths.on(death, now), Decision::GiveUp(70));
    }

    #[test]
    fn wrong_arguments_and_settings_are_not_tried_again() {
        for code in [2, 78] {
            let death = Death { end: End::Code(code), ready_since: None };
            let decision = Deaths::default().on(death, crate::clock::now());
            assert_eq!(decision, Decision::GiveUp(code));
        }
    }

    #[test]
    fn a_signal_is_told_as_shells_do() {
        assert_eq!(End::Signal(9).code(), 137);
        assert_eq!(End::Signal(i32::MAX).code(), 255);
        assert_eq!(End::Unborn.code(), 1);
    }

    fn ends() -> impl Strategy<Value = End> {
        prop_oneof![
            any::<u8>().prop_map(End::Code),
            (1..65i32).prop_map(End::Signal),
            Just(End::Unborn)
        ]
    }

    proptest! {
        /// A child that is steady before every death is always started again at once, unless it says
        /// that this will not help; and it is never given up for anything else.
        #[test]
        fn who_was_steady_is_started_at_once(all in prop::collection::vec((ends(), 0u64..5_000), 1..60)) {
            let (mut deaths, mut now) = (Deaths::default(), crate::clock::now());
            for (end, more) in all {
                let ready_since = Some(now);
                now += STEADY + Duration::from_millis(more);
                let decision = deaths.on(Death { end, ready_since }, now);
                let expected = if matches!(end, End::Code(2 | 78)) {
                    Decision::GiveUp(end.code())
                } else {
                    Decision::RestartAfter(Duration::ZERO)
                };
                prop_assert_eq!(decision, expected);
            }
        }

        /// Whatever happens: without a steady child there are never more than so many starts again in
        /// a row, their pauses never shrink, and the code told at the end is that of the last.
        #[test]
        fn a_crash_loop_ends(all in prop::collection::vec((ends(), 0u64..4_000), 1..80)) {
            let (mut deaths, mut now) = (Deaths::default(), crate::clock::now());
            let (mut starts, mut last) = (0, Duration::ZERO);
            for (end, ready_ms) in all {
                let ready_since = Some(now);
                now += Duration::from_millis(ready_ms);
                if Duration::from_millis(ready_ms) >= STEADY {
                    (starts, last) = (0, Duration::ZERO);
                }
                match deaths.on(Death { end, ready_since }, now) {
                    Decision::RestartAfter(pause) => {
                        starts += 1;
                        prop_assert!(pause >= last && pause <= LONGEST_PAUSE);
                        prop_assert!(starts <= MAX_RESTARTS);
                        last = pause;
                        now += pause;
                    }
                    Decision::GiveUp(code) => {
                        prop_assert_eq!(code, end.code());
                        prop_assert!(starts == MAX_RESTARTS || matches!(end, End::Code(2 | 78)));
                        break;
                    }
                }
            }
        }
    }
}
