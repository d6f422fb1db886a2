//! When a batch is formed, and how large: the batching rules. Pure; no clock.
//!
//! A free instance asks the rule; the rule says take so many, or wait so long. Waiting is useful
//! only while it pays, so the default rule waits only if another job is expected soon and a larger
//! batch is cheaper per job.

mod rules;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::latency::LatencyTable;

pub use rules::Rules;

/// Settings: `[stages.NAME.batching]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchingSpec {
    /// Name of the rule.
    pub rule: String,
    /// Largest batch.
    pub max_batch: usize,
    /// Longest time the oldest job waits for company, in milliseconds.
    pub max_wait_ms: u64,
}

impl Default for BatchingSpec {
    fn default() -> Self {
        Self { rule: "adaptive".into(), max_batch: 8, max_wait_ms: 5 }
    }
}

/// What a rule may know of the queue. There is at least one job in it.
#[derive(Clone, Debug)]
pub struct QueueView<'a> {
    /// Jobs waiting.
    pub len: usize,
    /// When the job that has waited longest entered.
    pub oldest: Instant,
    /// When the last job entered.
    pub newest: Instant,
    /// The earliest deadline among the jobs that would be taken and can be met at all.
    pub tightest: Instant,
    /// Mean time between arrivals, if known.
    pub gap: Option<Duration>,
    /// Largest batch at present.
    pub limit: usize,
    /// How long batches take.
    pub latency: &'a LatencyTable,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Form a batch of this many now.
    Take(usize),
    /// Ask again when a job arrives, at the latest after this long.
    Wait(Duration),
}

/// Decides when a batch is formed. Chosen by name in `batching.rule`.
pub trait BatchingRule: Send + Sync {
    /// Called with the queue's lock held: must be quick and must not block.
    fn decide(&self, queue: &QueueView<'_>, now: Instant) -> Decision;
}

/// Takes what is there at once.
#[derive(Clone, Copy, Debug)]
pub struct Immediate;

impl BatchingRule for Immediate {
    fn decide(&self, queue: &QueueView<'_>, now: Instant) -> Decision {
        Decision::Take(fitting(queue, now))
    }
}

/// Waits until the batch is full or the oldest job has waited `max_wait`.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Longest wait of the oldest job.
    pub max_wait: Duration,
}

impl BatchingRule for Window {
    fn decide(&self, queue: &QueueView<'_>, now: Instant) -> Decision {
        let left = self.max_wait.saturating_sub(now.saturating_duration_since(queue.oldest));
        if queue.len >= queue.limit || left.is_zero() || slack(queue, queue.len, now).is_zero() {
            return Decision::Take(fitting(queue, now));
        }
        Decision::Wait(left.min(slack(queue, queue.len, now)))
    }
}

/// Waits only while waiting pays: within the window, while the next arrival is expected inside it,
/// while a larger batch is cheaper per job, and while the tightest deadline allows.
#[derive(Clone, Copy, Debug)]
pub struct Adaptive {
    /// Longest wait of the oldest job.
    pub max_wait: Duration,
}

impl BatchingRule for Adaptive {
    fn decide(&self, queue: &QueueView<'_>, now: Instant) -> Decision {
        match self.patience(queue, now) {
            Some(wait) if !wait.is_zero() => Decision::Wait(wait),
            _ => Decision::Take(fitting(queue, now)),
        }
    }
}

impl Adaptive {
    /// How long it pays to wait for one more job.
    fn patience(&self, queue: &QueueView<'_>, now: Instant) -> Option<Duration> {
        if queue.len >= queue.limit {
            return None;
        }
        let left = self.max_wait.checked_sub(now.saturating_duration_since(queue.oldest))?;
        let gap = queue.gap?;
        // Twice the mean gap of silence: the burst is over.
        let quiet_in = (gap * 2).checked_sub(now.saturating_duration_since(queue.newest))?;
        if gap > left || !larger_is_cheaper(queue) {
            return None;
        }
        Some(left.min(quiet_in).min(slack(queue, queue.len + 1, now)))
    }
}

/// Whether one more job lowers the time per job by at least a twentieth. Unknown counts as yes.
fn larger_is_cheaper(queue: &QueueView<'_>) -> bool {
    let per_job = |n: usize| Some(queue.latency.mean(n)?.as_secs_f64() / n as f64);
    match (per_job(queue.len), per_job(queue.len + 1)) {
        (Some(now), Some(then)) => then < 0.95 * now,
        _ => true,
    }
}

/// Time until a batch of `n` must start if the tightest deadline is to be met.
fn slack(queue: &QueueView<'_>, n: usize, now: Instant) -> Duration {
    let needed = queue.latency.bound(n).unwrap_or_default();
    queue.tightest.saturating_duration_since(now).saturating_sub(needed)
}

/// The largest batch that still meets the tightest deadline aboard; at least one job. A deadline
/// that even a batch of one would miss does not make the others wait.
fn fitting(queue: &QueueView<'_>, now: Instant) -> usize {
    let most = queue.len.min(queue.limit).max(1);
    let remaining = queue.tightest.saturating_duration_since(now);
    if queue.latency.bound(1).is_some_and(|bound| bound > remaining) {
        return most;
    }
    (2..=most)
        .rev()
        .find(|n| queue.latency.bound(*n).is_none_or(|bound| bound <= remaining))
        .unwrap_or(1)
}

/// The rule that `spec` names among those that come with roadcrew, or `None`.
pub fn rule(spec: &BatchingSpec) -> Option<Box<dyn BatchingRule>> {
    Rules::default().build(spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Batches that cost `base` plus `each` per job.
    fn table(base: u64, each: u64) -> LatencyTable {
        let mut table = LatencyTable::new(8);
        for n in 1..=8 {
            for _ in 0..40 {
                table.observe(n, ms(base + each * n as u64));
            }
        }
        table
    }

    fn queue(latency: &LatencyTable, start: Instant, len: usize) -> QueueView<'_> {
        QueueView {
            len,
            oldest: start,
            newest: start,
            tightest: start + Duration::from_secs(9),
            gap: Some(ms(1)),
            limit: 8,
            latency,
        }
    }

    #[test]
    fn a_full_batch_goes_at_once() {
        let (latency, start) = (table(10, 1), crate::clock::now());
        let decision = Adaptive { max_wait: ms(5) }.decide(&queue(&latency, start, 9), start);
        assert_eq!(decision, Decision::Take(8));
    }

    #[test]
    fn it_waits_for_company_that_is_expected_and_not_longer() {
        let (latency, start) = (table(10, 1), crate::clock::now());
        let rule = Adaptive { max_wait: ms(5) };
        assert_eq!(rule.decide(&queue(&latency, start, 1), start), Decision::Wait(ms(2)));
        let quiet = rule.decide(&queue(&latency, start, 1), start + ms(2));
        assert_eq!(quiet, Decision::Take(1), "twice the mean gap without an arrival");
    }

    #[test]
    fn it_does_not_wait_where_batching_saves_nothing_or_nobody_is_expected() {
        let start = crate::clock::now();
        let rule = Adaptive { max_wait: ms(5) };
        let linear = table(0, 10);
        assert_eq!(rule.decide(&queue(&linear, start, 1), start), Decision::Take(1));
        let latency = table(10, 1);
        let mut rare = queue(&latency, start, 1);
        rare.gap = Some(ms(500));
        assert_eq!(rule.decide(&rare, start), Decision::Take(1));
    }

    #[test]
    fn the_tightest_deadline_aboard_bounds_the_batch() {
        let (latency, start) = (table(10, 10), crate::clock::now());
        let mut tight = queue(&latency, start, 8);
        tight.tightest = start + ms(45);
        assert_eq!(Immediate.decide(&tight, start), Decision::Take(3));
        tight.tightest = start + ms(5);
        let hopeless = Immediate.decide(&tight, start);
        assert_eq!(hopeless, Decision::Take(8), "nobody is helped by a small batch");
    }

    proptest! {
        /// Under every rule: at most the limit, at least one, never a wait beyond the window, and
        /// a decision to take once the window has passed.
        #[test]
        fn every_rule_keeps_its_bounds(
            which in 0..3_usize, len in 1usize..40, limit in 1usize..16, age in 0u64..30,
            since in 0u64..30, left in 0u64..100, gap in prop::option::of(0u64..20),
            base in 0u64..20, each in 0u64..20,
        ) {
            let name = Rules::default().names().nth(which).map(str::to_owned).unwrap();
            let spec = BatchingSpec { rule: name, max_batch: limit, max_wait_ms: 10 };
            let rule = rule(&spec).unwrap();
            let (start, latency) = (crate::clock::now(), table(base, each));
            let now = start + ms(age);
            let view = QueueView {
                len, limit, oldest: start, newest: start + ms(since.min(age)),
                tightest: now + ms(left), gap: gap.map(ms), latency: &latency,
            };
            match rule.decide(&view, now) {
                Decision::Take(n) => prop_assert!(n >= 1 && n <= limit && n <= len),
                Decision::Wait(wait) => {
                    prop_assert!(len < limit && age < 10);
                    prop_assert!(wait > Duration::ZERO && wait <= ms(10 - age));
                    prop_assert!(wait <= ms(left), "waits past the tightest deadline");
                }
            }
        }
    }
}
