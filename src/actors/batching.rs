//! When a batch is formed, and how large: the batching rules. Pure; no clock.
//!
//! A free instance asks the rule; the rule says take so many, or wait so long. A queue fills batches by
//! itself: what comes while one is computed makes the next one larger, so a rule that never waits reaches full
//! batches when they are needed. Waiting pays only in two cases, and the default rule waits in no others.

mod rules;
mod size;

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
        // Before anything is known, a wait could last until the deadline.
        let is_cold = queue.latency.expected(1).is_zero();
        if queue.len >= queue.limit || wait.is_zero() || is_cold {
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
mod frontier_tests;

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

    fn queue<'a>(
        latency: &'a LatencyTable,
        now: Instant,
        deadlines: &'a [Instant],
    ) -> QueueView<'a> {
        QueueView {
            len: deadlines.len(),
            oldest: now,
            newest: now,
            deadlines,
            gap: Some(ms(1)),
            allowance: Duration::from_secs(9),
            limit: 8,
            latency,
        }
    }

    /// Deadlines so many milliseconds from now.
    fn within<const N: usize>(now: Instant, millis: [u64; N]) -> [Instant; N] {
        millis.map(|at| now + ms(at))
    }

    const ADAPTIVE: Adaptive = Adaptive { max_wait: Duration::from_millis(5) };

    #[test]
    fn a_full_batch_goes_at_once() {
        let (latency, now) = (table(10, 1), crate::clock::now());
        let deadlines = within(now, [9_000; 9]);
        assert_eq!(ADAPTIVE.decide(&queue(&latency, now, &deadlines), now), Decision::Take(8));
    }

    #[test]
    fn it_waits_where_places_are_short_or_who_comes_next_would_be_shut_out() {
        let (latency, now) = (table(10, 1), crate::clock::now());
        let deadlines = within(now, [9_000]);
        let crowded = queue(&latency, now, &deadlines);
        assert_eq!(ADAPTIVE.decide(&crowded, now), Decision::Wait(ms(5)));
        let quiet = ADAPTIVE.decide(&QueueView { gap: Some(ms(4)), ..crowded.clone() }, now);
        assert_eq!(quiet, Decision::Take(1), "full batches could do more than comes");
        let hurried = QueueView { gap: Some(ms(4)), allowance: ms(20), ..crowded.clone() };
        assert_eq!(ADAPTIVE.decide(&hurried, now), Decision::Wait(ms(5)));
        let over = ADAPTIVE.decide(&QueueView { gap: Some(ms(0)), ..crowded }, now + ms(2));
        assert_eq!(over, Decision::Take(1), "eight mean gaps without an arrival");
    }

    #[test]
    fn it_does_not_wait_longer_than_the_wait_saves() {
        let (latency, now) = (table(4, 0), crate::clock::now());
        let deadlines = within(now, [9_000; 7]);
        let hurried = |len: usize, gap| QueueView {
            gap: Some(ms(gap)),
            allowance: ms(5),
            ..queue(&latency, now, &deadlines[..len])
        };
        for (len, gap, waits) in [(1, 3, true), (1, 5, false), (3, 1, true), (5, 1, false)] {
            let decision = ADAPTIVE.decide(&hurried(len, gap), now);
            assert_eq!(
                matches!(decision, Decision::Wait(_)),
                waits,
                "{len} wait, one every {gap} ms"
            );
        }
        let linear = table(0, 10);
        let saves_nothing = QueueView { latency: &linear, ..hurried(1, 1) };
        assert_eq!(ADAPTIVE.decide(&saves_nothing, now), Decision::Take(1));
    }

    #[test]
    fn nobody_who_can_be_in_time_is_lost_while_all_can_be() {
        let (latency, now) = (table(10, 10), crate::clock::now());
        let deadlines = within(now, [45, 900, 900, 900, 900, 900, 900, 900]);
        assert_eq!(Immediate.decide(&queue(&latency, now, &deadlines), now), Decision::Take(3));
        let hopeless = within(now, [5, 900, 900, 900, 900, 900, 900, 900]);
        assert_eq!(Immediate.decide(&queue(&latency, now, &hopeless), now), Decision::Take(7));
    }

    #[test]
    fn once_somebody_must_be_lost_the_most_answers_per_second_decide() {
        let (latency, now) = (table(10, 10), crate::clock::now());
        let deadlines = within(now, [21, 22, 23, 80, 80, 80, 80, 80, 80, 80]);
        assert_eq!(Immediate.decide(&queue(&latency, now, &deadlines), now), Decision::Take(7));
    }

    #[test]
    fn where_batching_saves_nothing_nobody_waits_for_the_others() {
        let (latency, now) = (table(0, 10), crate::clock::now());
        let deadlines = within(now, [9_000; 8]);
        assert_eq!(ADAPTIVE.decide(&queue(&latency, now, &deadlines), now), Decision::Take(1));
    }

    #[test]
    fn a_padded_size_is_not_filled_for_its_own_sake() {
        let (mut latency, now) = (LatencyTable::new(8), crate::clock::now());
        for (n, took) in [(1, 4), (2, 6), (3, 11), (4, 11), (5, 19), (6, 19), (7, 19), (8, 19)] {
            latency.observe(n, ms(took));
        }
        let deadlines = within(now, [9_000; 8]);
        for (len, takes) in [(5, 4), (6, 4), (8, 8)] {
            let queue = queue(&latency, now, &deadlines[..len]);
            assert_eq!(Immediate.decide(&queue, now), Decision::Take(takes), "{len} wait");
        }
    }

    #[test]
    fn who_cannot_be_in_time_takes_along_whom_it_costs_nothing() {
        let now = crate::clock::now();
        let deadlines = within(now, [5; 8]);
        for (base, each, takes) in [(100, 1, 6), (10, 10, 1)] {
            let latency = table(base, each);
            let hopeless = Immediate.decide(&queue(&latency, now, &deadlines), now);
            assert_eq!(hopeless, Decision::Take(takes), "{base} + {each}·n");
        }
    }

    #[test]
    fn nothing_known_means_all_that_wait_and_at_once() {
        let (latency, now) = (LatencyTable::new(8), crate::clock::now());
        let deadlines = within(now, [50; 5]);
        for rule in Rules::default().names() {
            let spec = BatchingSpec { rule: rule.into(), ..BatchingSpec::default() };
            let decision =
                super::rule(&spec).unwrap().decide(&queue(&latency, now, &deadlines), now);
            assert_eq!(decision, Decision::Take(5), "{rule}");
        }
    }

    proptest! {
        /// Under every rule: at most the limit, at least one, never a wait beyond the window, and
        /// a decision to take once the window has passed.
        #[test]
        fn every_rule_keeps_its_bounds(
            which in 0..3_usize, len in 1usize..40, limit in 1usize..16, age in 0u64..30,
            since in 0u64..30, left in prop::collection::vec(0u64..100, 40), gap in prop::option::of(0u64..20),
            base in 0u64..20, each in 0u64..20,
        ) {
            let name = Rules::default().names().nth(which).map(str::to_owned).unwrap();
            let spec = BatchingSpec { rule: name, max_batch: limit, max_wait_ms: 10 };
            let rule = rule(&spec).unwrap();
            let (start, latency) = (crate::clock::now(), table(base, each));
            let now = start + ms(age);
            let mut deadlines: Vec<_> = left[..len].iter().map(|at| now + ms(*at)).collect();
            deadlines.sort();
            let view = QueueView {
                len, limit, oldest: start, newest: start + ms(since.min(age)), deadlines: &deadlines,
                allowance: ms(left[0]), gap: gap.map(ms), latency: &latency,
            };
            match rule.decide(&view, now) {
                Decision::Take(n) => prop_assert!(n >= 1 && n <= limit && n <= len),
                Decision::Wait(wait) => {
                    prop_assert!(len < limit && age < 10);
                    prop_assert!(wait > Duration::ZERO && wait <= ms(10 - age));
                    let can_be_met = deadlines.iter().find(|at| **at >= now + latency.expected(1));
                    let met = can_be_met.is_some_and(|at| now + wait <= *at);
                    prop_assert!(met, "waits past a deadline that can be met");
                }
            }
        }
    }
}
