//! How large the next batch should be. Pure.
//!
//! There are two regimes. While everybody who waits can be answered in time, time is worth nothing and nobody
//! may be lost: the tightest deadline decides. Once somebody must be lost, it does not matter who, and time is
//! worth what full batches make of it: then the size with the most answers per second is best, of those who will
//! be in time. Serving the tightest deadline first would then spend small, dear batches on those who are about to
//! be late, and goodput collapses. Which regime it is, a plan for those who wait tells.

use std::time::Instant;

use super::QueueView;

/// Of sizes within this share of the best rate, the smallest is taken: a batch that saves nothing only makes
/// the first wait for the last.
const AS_GOOD: f64 = 0.98;

/// After its first batch, a plan must leave room of a full batch divided by this, for those who come meanwhile.
const ROOM: u32 = 8;

/// A plan of more batches than this is not followed to its end.
const HORIZON: usize = 64;

/// The size of the batch that is best started now; at least one. If nobody can be in time, as many as ride along
/// for free: they may be lucky.
pub(super) fn size(queue: &QueueView<'_>, now: Instant) -> usize {
    let alive = alive(queue, now);
    if alive.is_empty() {
        return riding_along(queue);
    }
    in_time_for_all(queue, alive, now).or_else(|| in_time_most(queue, alive, now)).unwrap_or(1)
}

/// The deadlines that a batch of one would meet.
pub(super) fn alive<'a>(queue: &QueueView<'a>, now: Instant) -> &'a [Instant] {
    let soonest = now + queue.latency.expected(1);
    &queue.deadlines[queue.deadlines.partition_point(|at| *at < soonest)..]
}

/// The first batch of a plan that is in time for everybody: each batch as the tightest deadline allows.
fn in_time_for_all(queue: &QueueView<'_>, mut left: &[Instant], now: Instant) -> Option<usize> {
    let (mut first, mut at) = (None, now);
    for _ in 0..HORIZON {
        let Some(tightest) = left.first() else { break };
        let n = best_rate(queue, left.len(), |n| at + queue.latency.expected(n) <= *tightest)?;
        at += queue.latency.expected(n);
        left = &left[n..];
        if first.is_none() {
            first = Some(n);
            at += queue.latency.expected(queue.limit) / ROOM;
        }
    }
    first
}

/// The batch with the most answers in time per second.
fn in_time_most(queue: &QueueView<'_>, alive: &[Instant], now: Instant) -> Option<usize> {
    let in_time = |n: usize| {
        let end = now + queue.latency.expected(n);
        alive.len() - alive.partition_point(|at| *at < end)
    };
    best_rate(queue, alive.len(), |n| in_time(n) >= n)
}

/// Of the sizes up to `most` that will do, the one with the most answers per second.
fn best_rate(queue: &QueueView<'_>, most: usize, will_do: impl Fn(usize) -> bool) -> Option<usize> {
    let rate = |n: usize| n as f64 / queue.latency.expected(n).as_secs_f64().max(1e-9);
    let sizes = || (1..=most.min(queue.limit)).filter(|n| will_do(*n));
    let best = sizes().map(rate).fold(0.0, f64::max);
    sizes().find(|n| rate(*n) >= AS_GOOD * best)
}

/// The largest batch that takes hardly longer than one job alone.
fn riding_along(queue: &QueueView<'_>) -> usize {
    let alone = queue.latency.expected(1);
    let most = queue.deadlines.len().min(queue.limit);
    (2..=most).rev().find(|n| queue.latency.expected(*n) <= alone + alone / 20).unwrap_or(1)
}
