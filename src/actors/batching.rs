//! When a batch is formed, and how large: the batching rules. Pure; no clock.
//!
//! A free instance asks the rule; the rule says take so many, or wait so long. A queue fills batches by
//! itself: what comes while one is computed makes the next one larger, so a rule that never waits reaches full
//! batches when they are needed. Waiting pays only in two cases, and the default rule waits in no others.

mod rules;
mod size;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::latency::LatencyTable;

pub use rules::Rules;
use size::{alive, size};

/// After so many mean gaps without an arrival nobody is expected.
const SILENCE: u32 = 8;

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
    /// The deadlines of those that may travel together, the soonest first. At least one.
    pub deadlines: &'a [Instant],
    /// Mean time between arrivals, if known.
    pub gap: Option<Duration>,
    /// How long the last job that came can wait for its answer in all.
    pub allowance: Duration,
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
        Decision::Take(size(queue, now))
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
        let tightest = queue.deadlines[0].saturating_duration_since(now);
        let wait = left.min(tightest.saturating_sub(likely(queue.latency, queue.len)));
        if queue.len >= queue.limit || wait.is_zero() {
            return Decision::Take(size(queue, now));
        }
        Decision::Wait(wait)
    }
}

/// Waits for one more job only while that pays.
///
/// To compute `n` jobs now gives `n` answers in `c(n)`; to wait a gap `g` for one more gives `n + 1` in
/// `g + c(n + 1)`. The second rate is higher if `n·g` is less than what the company saves, which for costs of
/// `a + b·n` is `a`. But a rate is worth something only where the instance's time is short, and everywhere else
/// waiting is lost time. So it waits only if, besides, one of two things holds:
///
/// - more jobs come than full batches can do, so that every place that stays empty is an answer lost;
/// - who comes right after the start would be late: callers wait for less than this batch and one more.
///
/// It waits no longer than `max_wait`, than the tightest deadline aboard allows, and than eight gaps of silence,
/// after which the burst is over. Where a larger batch is not cheaper per job, or jobs come rarely, or
/// callers have time, it does not wait at all.
#[derive(Clone, Copy, Debug)]
pub struct Adaptive {
    /// Longest wait of the oldest job.
    pub max_wait: Duration,
}

impl BatchingRule for Adaptive {
    fn decide(&self, queue: &QueueView<'_>, now: Instant) -> Decision {
        let n = size(queue, now);
        match self.patience(queue, n, now) {
            Some(wait) if !wait.is_zero() => Decision::Wait(wait),
            _ => Decision::Take(n),
        }
    }
}

impl Adaptive {
    /// How long it pays to wait for one more job than `n`.
    fn patience(&self, queue: &QueueView<'_>, n: usize, now: Instant) -> Option<Duration> {
        let gap = queue.gap?;
        if n >= queue.limit || n < queue.len || !(is_overload(queue) || shuts_out(queue, n)) {
            return None;
        }
        let rate = |n: usize, wait: Duration| {
            n as f64 / (wait + queue.latency.expected(n)).as_secs_f64().max(1e-9)
        };
        if rate(n + 1, gap) <= rate(n, Duration::ZERO) {
            return None;
        }
        let left = self.max_wait.checked_sub(now.saturating_duration_since(queue.oldest))?;
        let silence = (gap * SILENCE).checked_sub(now.saturating_duration_since(queue.newest))?;
        let tightest = alive(queue, now).first()?.saturating_duration_since(now);
        let slack = tightest.checked_sub(likely(queue.latency, n + 1))?;
        Some(left.min(silence).min(slack))
    }
}

/// Whether more jobs come than full batches could do.
fn is_overload(queue: &QueueView<'_>) -> bool {
    let limit = u32::try_from(queue.limit).unwrap_or(u32::MAX);
    let full = queue.latency.expected(queue.limit);
    queue.gap.is_some_and(|gap| gap.saturating_mul(limit) <= full)
}

/// Whether a job that comes right after the start of a batch of `n`, and waits as long as the last one that
/// came, would be late after it.
fn shuts_out(queue: &QueueView<'_>, n: usize) -> bool {
    queue.allowance < queue.latency.expected(n) + queue.latency.expected(1)
}

/// What a batch of `n` will hardly exceed, if that is known; otherwise what it should take.
fn likely(latency: &LatencyTable, n: usize) -> Duration {
    latency.settled_bound(n).unwrap_or_else(|| latency.expected(n))
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
