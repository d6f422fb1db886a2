//! Keeps the metagraph fresh: when to read it again, and the loop that does.

use std::time::{Duration, Instant};

use super::error::{ChainError, Fault};
use super::node::Node;
use crate::bittensor::Snapshot;
use crate::clock;

/// The pause after the first failure; it doubles with each one that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// When to try next. Pure: the time and the dice are arguments.
#[derive(Clone, Debug)]
pub struct Pace {
    every: Duration,
    failures: u32,
}

impl Pace {
    /// Reads every so often, as long as that works.
    pub fn new(every: Duration) -> Self {
        Self { every, failures: 0 }
    }

    /// When to try again after an attempt that ended now. `dice` is between 0 and 1, and spreads
    /// those who began at the same time: a tenth of the interval either way while all is well, and
    /// up to half of the pause, downwards, after a failure. The pause is never longer than the
    /// interval.
    pub fn next(&mut self, is_success: bool, now: Instant, dice: f64) -> Instant {
        let dice = dice.clamp(0.0, 1.0);
        if is_success {
            self.failures = 0;
            return now + self.every.mul_f64(0.9 + 0.2 * dice);
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(20)).min(self.every);
        self.failures = self.failures.saturating_add(1);
        now + pause.mul_f64(1.0 - 0.5 * dice)
    }

    /// How many attempts in a row have failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// Reads the metagraph of one subnet from one node, again and again.
#[derive(Clone, Debug)]
pub struct Refresher {
    /// The node.
    pub node: Node,
    /// The subnet.
    pub netuid: u16,
    /// How often.
    pub pace: Pace,
    /// How long one reading may take.
    pub within: Duration,
}

impl Refresher {
    /// Reads now, and again when it is time, until it is dropped. Every snapshot is handed to
    /// `put`; every failure to `failed`, with how long it will be until the next attempt.
    ///
    /// Needs a tokio runtime. Decoding takes some milliseconds of its thread each time; nothing
    /// blocks it.
    pub async fn run(
        mut self,
        mut put: impl FnMut(Snapshot),
        mut failed: impl FnMut(&ChainError, Duration),
    ) {
        loop {
            let outcome = self.read().await;
            let now = clock::now();
            let next = self.pace.next(outcome.is_ok(), now, rand::random());
            let pause = next - now;
            match outcome {
                Ok(snapshot) => put(snapshot),
                Err(error) => failed(&error, pause),
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One reading, in a task of its own: should what a node sends make the decoder panic, only
    /// this reading is lost.
    async fn read(&self) -> Result<Snapshot, ChainError> {
        let (node, netuid, within) = (self.node.clone(), self.netuid, self.within);
        let reading = tokio::spawn(async move { node.metagraph(netuid, within).await });
        let mut reading = Aborted(reading);
        (&mut reading.0).await.unwrap_or_else(|error| {
            let what = format!("reading the metagraph ended early: {error}");
            Err(ChainError::new(Fault::Reply, what))
        })
    }
}

/// A task that ends when whoever waits for it is gone.
struct Aborted<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Aborted<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVERY: Duration = Duration::from_secs(300);

    #[test]
    fn failures_are_tried_again_soon_and_then_less_often() {
        let (mut pace, now) = (Pace::new(EVERY), clock::now());
        let mut pause = |is_success| (pace.next(is_success, now, 0.0) - now).as_secs();
        assert_eq!(pause(true), 270);
        let failing: Vec<_> = (0..10).map(|_| pause(false)).collect();
        assert_eq!(failing, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(pause(true), 270);
        assert_eq!(pause(false), 2, "a success begins anew");
    }

    proptest! {
        #[test]
        fn the_next_attempt_is_never_at_once_and_never_far_off(
            outcomes in proptest::collection::vec((any::<bool>(), any::<f64>()), 1..200),
            every in 10u64..100_000,
        ) {
            let every = Duration::from_secs(every);
            let (mut pace, now) = (Pace::new(every), clock::now());
            for (is_success, dice) in outcomes {
                let pause = pace.next(is_success, now, dice) - now;
                prop_assert!(pause >= Duration::from_secs(1), "{pause:?}");
                prop_assert!(pause <= every.mul_f64(1.1), "{pause:?}");
                prop_assert_eq!(is_success, pace.failures() == 0);
            }
        }
    }
}
