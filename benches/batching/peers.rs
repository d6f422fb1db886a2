//! The batching rules of other servers, over the queue each of them has: first come, first served.

use std::collections::VecDeque;

use super::traffic::Job;
use super::world::{Ask, Policy};

const MS: u64 = 1_000_000;

/// Triton's dynamic batcher with its default of no queue policy: a free instance takes what is there if
/// the batch is full or the oldest request has waited `max_queue_delay_microseconds`. Nothing is dropped.
pub(crate) struct Triton {
    pub(crate) queue: VecDeque<Job>,
    pub(crate) limit: usize,
    pub(crate) delay: u64,
}

impl Policy for Triton {
    fn arrive(&mut self, job: Job, _: u64) {
        self.queue.push_back(job);
    }

    fn ask(&mut self, now: u64) -> Ask {
        let Some(oldest) = self.queue.front() else { return Ask::Idle };
        let due = oldest.arrival + self.delay;
        if self.queue.len() < self.limit && now < due {
            return Ask::Until(due);
        }
        take(&mut self.queue, self.limit)
    }

    fn done(&mut self, _: &[Job], _: u64, _: u64) {}
}

/// mosec: a worker takes one task, then waits `max_wait_time` from that moment for the rest of the batch.
/// More than `capacity` tasks are refused; none is dropped.
pub(crate) struct Mosec {
    pub(crate) queue: VecDeque<Job>,
    pub(crate) limit: usize,
    pub(crate) wait: u64,
    /// When the first task of the next batch was taken.
    pub(crate) since: Option<u64>,
}

impl Policy for Mosec {
    fn arrive(&mut self, job: Job, _: u64) {
        if self.queue.len() < 1024 {
            self.queue.push_back(job);
        }
    }

    fn ask(&mut self, now: u64) -> Ask {
        if self.queue.is_empty() {
            return Ask::Idle;
        }
        let due = *self.since.get_or_insert(now) + self.wait;
        if self.queue.len() < self.limit && now < due {
            return Ask::Until(due);
        }
        self.since = None;
        take(&mut self.queue, self.limit)
    }

    fn done(&mut self, _: &[Job], _: u64, _: u64) {}
}

/// LitServe: windows of `batch_timeout` follow each other while the worker is free, whether or not anybody
/// comes; who came in one of them, or before, is its batch. Nothing is dropped.
pub(crate) struct LitServe {
    pub(crate) queue: VecDeque<Job>,
    pub(crate) limit: usize,
    pub(crate) timeout: u64,
    /// The end of this window.
    pub(crate) end: Option<u64>,
}

impl Policy for LitServe {
    fn arrive(&mut self, job: Job, _: u64) {
        self.queue.push_back(job);
    }

    fn ask(&mut self, now: u64) -> Ask {
        let end = *self.end.get_or_insert(now + self.timeout);
        let arrivals_before = self.queue.front().is_some_and(|job| job.arrival <= end);
        if self.queue.len() >= self.limit || (now >= end && arrivals_before) {
            self.end = None;
            return take(&mut self.queue, self.limit);
        }
        if now > end {
            let windows = (now - end).div_ceil(self.timeout);
            self.end = Some(end + windows * self.timeout);
        }
        match (self.queue.is_empty(), self.end) {
            (false, Some(end)) => Ask::Until(end),
            _ => Ask::Idle,
        }
    }

    fn done(&mut self, _: &[Job], _: u64, _: u64) {}
}

/// Text Embeddings Inference: the backend asks for a batch whenever it is free, and gets what is there.
/// Callers leave at their deadline; who left is dropped when a batch is formed.
pub(crate) struct Tei {
    pub(crate) queue: VecDeque<Job>,
    pub(crate) limit: usize,
}

impl Policy for Tei {
    fn arrive(&mut self, job: Job, _: u64) {
        self.queue.push_back(job);
    }

    fn ask(&mut self, now: u64) -> Ask {
        self.queue.retain(|job| job.deadline > now);
        if self.queue.is_empty() { Ask::Idle } else { take(&mut self.queue, self.limit) }
    }

    fn done(&mut self, _: &[Job], _: u64, _: u64) {}
}

/// `BentoML`'s adaptive batching: a line `a·n + b` is fitted to the last fifty batches at most every five
/// seconds; it waits while `n · (age of the newest + tick + a)` is at most 0.95 of the mean wait of the oldest,
/// looks once a millisecond, and drops the oldest if it would take `max_latency` or more.
pub(crate) struct Bento {
    pub(crate) queue: VecDeque<Job>,
    limit: usize,
    max_latency: f64,
    /// (size, seconds, wait of the oldest)
    samples: VecDeque<(f64, f64, f64)>,
    line: (f64, f64),
    wait: f64,
    batches: usize,
    refreshed: u64,
    /// The controller looked last, or a multiple of a tick before.
    tick: u64,
    waited: f64,
}

/// Batches that serve to train, and how many of the first of them are not recorded.
const TRAINING: usize = 11;
const SKIPPED: usize = 2;

impl Bento {
    pub(crate) fn new(limit: usize, max_latency_ns: u64) -> Self {
        let max_latency = max_latency_ns as f64 / 1e9;
        let line = ((max_latency * 2.0 / 30.0).min(2.0), (max_latency / 30.0).min(1.0));
        Self {
            queue: VecDeque::new(),
            limit,
            max_latency,
            samples: VecDeque::new(),
            line,
            wait: 0.01,
            batches: 0,
            refreshed: 0,
            tick: 0,
            waited: 0.0,
        }
    }

    fn refresh(&mut self) {
        let n = self.samples.len() as f64;
        let sum = |of: fn(&(f64, f64, f64)) -> f64| self.samples.iter().map(of).sum::<f64>();
        let (x, y) = (sum(|s| s.0) / n, sum(|s| s.1) / n);
        let xx = sum(|s| s.0 * s.0) - n * x * x;
        let xy = sum(|s| s.0 * s.1) - n * x * y;
        // Least squares of the least norm where all batches are of one size.
        let a = if xx > 1e-9 { xy / xx } else { x * y / (x * x + 1.0) };
        self.line = (a.max(1e-6), (y - a * x).max(0.0));
        self.wait = (sum(|s| s.2) / n).max(0.0);
    }
}

impl Policy for Bento {
    fn arrive(&mut self, job: Job, now: u64) {
        if self.queue.is_empty() {
            self.tick = now;
        }
        self.queue.push_back(job);
    }

    fn ask(&mut self, now: u64) -> Ask {
        let ticks = now.saturating_sub(self.tick).div_ceil(MS);
        if self.tick + ticks * MS > now {
            return Ask::Until(self.tick + ticks * MS);
        }
        self.tick = now;
        let age = |job: Option<&Job>| job.map_or(0.0, |job| (now - job.arrival) as f64 / 1e9);
        let (a, b) = self.line;
        let training = self.batches < TRAINING;
        while self.queue.len() > 1 {
            let own = if training { 0.0 } else { a * self.queue.len() as f64 + b };
            if age(self.queue.front()) + own < self.max_latency {
                break;
            }
            self.queue.pop_front();
        }
        if self.queue.is_empty() {
            return Ask::Idle;
        }
        let n = self.queue.len();
        let cost = n as f64 * (age(self.queue.back()) + 0.001 + a);
        if !training && n < self.limit && cost <= 0.95 * self.wait {
            return Ask::Until(now + MS);
        }
        self.waited = if training { 0.0 } else { age(self.queue.front()) };
        take(&mut self.queue, self.limit)
    }

    fn done(&mut self, batch: &[Job], since: u64, now: u64) {
        self.batches += 1;
        if self.batches <= SKIPPED {
            return;
        }
        self.samples.push_back((batch.len() as f64, (now - since) as f64 / 1e9, self.waited));
        if self.samples.len() > 50 {
            self.samples.pop_front();
        }
        if self.batches <= TRAINING || now - self.refreshed > 5_000 * MS {
            self.refreshed = now;
            self.refresh();
        }
    }
}

fn take(queue: &mut VecDeque<Job>, limit: usize) -> Ask {
    Ask::Start(queue.drain(..limit.min(queue.len())).collect())
}
