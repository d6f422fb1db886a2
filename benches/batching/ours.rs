//! Ours: the real former, batching rule and latency table.

use std::time::{Duration, Instant};

use super::super::engine::{
    BatchingSpec, Dropped, Formed, Former, JobId, LatencyTable, Passage, Priority, Queued, rule,
};
use super::traffic::Job;
use super::world::{Ask, Policy};

/// A stage forgets the size at hand when it has learned nothing for so long.
const STALE: u64 = 1_000_000_000;

pub(crate) struct Ours {
    former: Former<Waiting>,
    latency: LatencyTable,
    limit: usize,
    start: Instant,
    learned: u64,
}

struct Waiting(Job, Instant);

impl Queued for Waiting {
    fn id(&self) -> JobId {
        JobId(self.0.id)
    }
    fn priority(&self) -> Priority {
        Priority::Normal
    }
    fn deadline(&self) -> Instant {
        self.1
    }
    fn is_closed(&self) -> bool {
        false
    }
}

impl Ours {
    /// A stage with this rule, as an operator gets it.
    pub(crate) fn new(name: &str, limit: usize, start: Instant) -> Self {
        let spec = BatchingSpec { rule: name.into(), max_batch: limit, ..BatchingSpec::default() };
        let rule = rule(&spec).expect("a rule that comes with roadcrew");
        let latency = LatencyTable::new(limit);
        Self { former: Former::new(rule), latency, limit, start, learned: 0 }
    }

    fn at(&self, ns: u64) -> Instant {
        self.start + Duration::from_nanos(ns)
    }
}

impl Policy for Ours {
    fn arrive(&mut self, job: Job, now: u64) {
        let waiting = Waiting(job, self.at(job.deadline));
        self.former.push(waiting, Passage::Shared, self.at(now));
    }

    fn ask(&mut self, now: u64) -> Ask {
        let at = self.at(now);
        match self.former.form(self.limit, &self.latency, at, &mut Dropped::default()) {
            Formed::Batch(batch) => Ask::Start(batch.iter().map(|entry| entry.job.0).collect()),
            Formed::Wait(at_most) => Ask::Until(now + at_most.as_nanos() as u64),
            Formed::Empty => Ask::Idle,
        }
    }

    fn done(&mut self, batch: &[Job], since: u64, now: u64) {
        if now - self.learned > (now - since) + STALE {
            self.latency.forget(batch.len());
        }
        self.learned = now;
        self.latency.observe(batch.len(), Duration::from_nanos(now - since));
    }
}
