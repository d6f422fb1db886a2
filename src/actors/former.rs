//! The batch former: which of the waiting jobs form the next batch, and when. Pure; time is an
//! argument.
//!
//! Ordered by priority and deadline, not by arrival. Jobs whose caller left or whose deadline has
//! passed are dropped when a batch is formed, so they are never computed. Retries (jobs that were
//! aboard when an instance fell) go before all others, and alone.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::batching::{BatchingRule, Decision, QueueView};
use super::job::{JobId, Priority};
use super::latency::LatencyTable;

/// A gap between arrivals counts as at most so many mean ones: one long silence does not tell that jobs come
/// rarely, and the first of a burst is followed by others.
const LONG_GAP: f64 = 2.0;

/// Of every so many jobs taken while validators or normal requests wait, one is a bulk job.
const BULK_EVERY: usize = 20;

/// What the former must know of a job.
pub trait Queued {
    /// Its number.
    fn id(&self) -> JobId;
    /// Who is served first.
    fn priority(&self) -> Priority;
    /// When its answer must be there.
    fn deadline(&self) -> Instant;
    /// Whether nobody waits for it any more.
    fn is_closed(&self) -> bool;
}

/// How a job travels through a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Passage {
    /// With batch-mates.
    Shared,
    /// In a batch of its own: the stage falls so often that nobody should share a fate.
    Alone,
    /// In a batch of its own and before all others: it was aboard when an instance fell.
    Retry,
}

/// A job that waits.
#[derive(Debug)]
pub struct Entry<J> {
    /// The job.
    pub job: J,
    /// How it travels.
    pub passage: Passage,
    /// When it was put in.
    pub entered: Instant,
}

/// Jobs that were dropped when a batch was formed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dropped {
    /// Their callers had left.
    pub client_gone: usize,
    /// Their deadlines had passed.
    pub late: usize,
}

/// What came of trying to form a batch.
#[derive(Debug)]
pub enum Formed<J> {
    /// These jobs, in order of service.
    Batch(Vec<Entry<J>>),
    /// Try again when a job arrives, at the latest after this long.
    Wait(Duration),
    /// There is nothing to form a batch of.
    Empty,
}

/// Order of service: retries first, then by priority and deadline; the number makes keys unique.
type Key = (Reverse<bool>, Priority, Instant, JobId);

/// The jobs that wait for a stage.
pub struct Former<J> {
    rule: Box<dyn BatchingRule>,
    urgent: BTreeMap<Key, Entry<J>>,
    bulk: BTreeMap<Key, Entry<J>>,
    since_bulk: usize,
    /// When the last job came, and how long it could wait.
    newest: Option<(Instant, Duration)>,
    gap_s: Option<f64>,
}

impl<J: Queued> Former<J> {
    /// Nobody waits yet.
    pub fn new(rule: Box<dyn BatchingRule>) -> Self {
        Self {
            rule,
            urgent: BTreeMap::new(),
            bulk: BTreeMap::new(),
            since_bulk: 0,
            newest: None,
            gap_s: None,
        }
    }

    /// Forms batches by another rule from now on.
    pub fn set_rule(&mut self, rule: Box<dyn BatchingRule>) {
        self.rule = rule;
    }

    /// Jobs that wait.
    pub fn len(&self) -> usize {
        self.urgent.len() + self.bulk.len()
    }

    /// Whether no job waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Jobs that would be served before a job like this that came now. Where urgent jobs queue up,
    /// more of them will come, and bulk lives on its share.
    pub fn ahead_of(&self, priority: Priority, deadline: Instant) -> usize {
        let place: Key = (Reverse(false), priority, deadline, JobId(0));
        if priority != Priority::Bulk {
            return self.urgent.range(..place).count();
        }
        let bulk = self.bulk.range(..place).count();
        if self.urgent.len() < BULK_EVERY {
            return self.urgent.len() + bulk;
        }
        (bulk + 1) * BULK_EVERY
    }

    /// The jobs that wait, in no particular order.
    pub fn jobs(&self) -> impl Iterator<Item = &J> {
        self.urgent.values().chain(self.bulk.values()).map(|entry| &entry.job)
    }

    /// A job comes.
    pub fn push(&mut self, job: J, passage: Passage, now: Instant) {
        let allowance = job.deadline().saturating_duration_since(now);
        if let Some((newest, _)) = self.newest.replace((now, allowance)) {
            let gap = now.saturating_duration_since(newest).as_secs_f64().min(1.0);
            let mean = self.gap_s.unwrap_or(gap);
            // Never so small that it could not grow again.
            self.gap_s = Some(mean + (gap.min(LONG_GAP * mean + 1e-5) - mean) / 8.0);
        }
        let is_retry = passage == Passage::Retry;
        let key = (Reverse(is_retry), job.priority(), job.deadline(), job.id());
        let bulk = job.priority() == Priority::Bulk && !is_retry;
        let entry = Entry { job, passage, entered: now };
        if bulk { &mut self.bulk } else { &mut self.urgent }.insert(key, entry);
    }

    /// Forms a batch of at most `limit` jobs, if it is time to. The dead are dropped first.
    pub fn form(
        &mut self,
        limit: usize,
        latency: &LatencyTable,
        now: Instant,
        dropped: &mut Dropped,
    ) -> Formed<J> {
        self.drop_dead(now, dropped);
        match self.decide(limit, latency, now) {
            Some(Decision::Take(n)) => {
                // Who must be answered before its end has no use of a place in it, and another has.
                let end = now + latency.expected(n.min(limit));
                Formed::Batch(self.pop(n.min(limit), end))
            }
            Some(Decision::Wait(at_most)) => Formed::Wait(at_most),
            None => Formed::Empty,
        }
    }

    /// Drops the jobs that nobody waits for any more.
    pub fn drop_closed(&mut self) {
        self.retain(|entry| !entry.job.is_closed());
    }

    /// Gives back every job that waits.
    pub fn drain(&mut self) -> Vec<Entry<J>> {
        let urgent = std::mem::take(&mut self.urgent);
        let bulk = std::mem::take(&mut self.bulk);
        urgent.into_values().chain(bulk.into_values()).collect()
    }

    fn retain(&mut self, mut keep: impl FnMut(&Entry<J>) -> bool) {
        self.urgent.retain(|_, entry| keep(entry));
        self.bulk.retain(|_, entry| keep(entry));
    }

    fn drop_dead(&mut self, now: Instant, dropped: &mut Dropped) {
        self.retain(|entry| {
            // At its deadline a job is answered from the caller's side, and closed.
            if entry.job.deadline() <= now {
                dropped.late += 1;
                return false;
            }
            let gone = entry.job.is_closed();
            dropped.client_gone += usize::from(gone);
            !gone
        });
    }

    fn decide(&self, limit: usize, latency: &LatencyTable, now: Instant) -> Option<Decision> {
        let entries = || self.urgent.values().chain(self.bulk.values());
        if entries().next()?.passage != Passage::Shared {
            return Some(Decision::Take(1));
        }
        let shared = entries().filter(|entry| entry.passage == Passage::Shared);
        let mut deadlines: Vec<Instant> = shared.map(|entry| entry.job.deadline()).collect();
        deadlines.sort_unstable();
        let (newest, allowance) = self.newest?;
        let view = QueueView {
            len: self.len(),
            oldest: entries().map(|e| e.entered).min()?,
            newest,
            allowance,
            deadlines: &deadlines,
            gap: self.gap_s.map(Duration::from_secs_f64),
            limit,
            latency,
        };
        Some(self.rule.decide(&view, now))
    }

    /// Takes up to `n` jobs in order of service, those first that can be answered in time; who travels
    /// alone ends the batch or is all of it.
    fn pop(&mut self, n: usize, soonest: Instant) -> Vec<Entry<J>> {
        let mut batch = Vec::with_capacity(n);
        while batch.len() < n {
            let Some((queue, key)) = self.next(soonest) else { break };
            let from = if queue == Turn::Bulk { &mut self.bulk } else { &mut self.urgent };
            let shared = from.get(&key).is_some_and(|entry| entry.passage == Passage::Shared);
            if !shared && !batch.is_empty() {
                break;
            }
            let Some(entry) = from.remove(&key) else { break };
            self.since_bulk = if queue == Turn::Bulk { 0 } else { self.since_bulk + 1 };
            batch.push(entry);
            if !shared {
                break;
            }
        }
        batch
    }

    /// Whose turn it is.
    fn next(&self, soonest: Instant) -> Option<(Turn, Key)> {
        let first = |queue: &BTreeMap<Key, Entry<J>>| {
            let in_time = |(_, _, deadline, _): &&Key| *deadline >= soonest;
            queue.keys().find(in_time).or_else(|| queue.keys().next()).copied()
        };
        let (urgent, bulk) = (first(&self.urgent), first(&self.bulk));
        let retry_first = urgent.is_some_and(|(retry, ..)| retry.0);
        let turn_of_bulk = self.since_bulk + 1 >= BULK_EVERY && !retry_first;
        match (urgent, bulk) {
            (_, Some(key)) if turn_of_bulk => Some((Turn::Bulk, key)),
            (Some(key), _) => Some((Turn::Urgent, key)),
            (None, Some(key)) => Some((Turn::Bulk, key)),
            (None, None) => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Urgent,
    Bulk,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::batching::{Immediate, Rules};
    use super::*;
    use crate::clock;

    const FAR: Duration = Duration::from_secs(9);

    /// A job that is nothing but its place in the order.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Waiting {
        id: u64,
        priority: Priority,
        deadline: Instant,
        closed: bool,
    }

    impl Queued for Waiting {
        fn id(&self) -> JobId {
            JobId(self.id)
        }
        fn priority(&self) -> Priority {
            self.priority
        }
        fn deadline(&self) -> Instant {
            self.deadline
        }
        fn is_closed(&self) -> bool {
            self.closed
        }
    }

    fn waiting(id: u64, within: Duration, priority: Priority, now: Instant) -> Waiting {
        Waiting { id, priority, deadline: now + within, closed: false }
    }

    fn former() -> Former<Waiting> {
        Former::new(Box::new(Immediate))
    }

    fn form(former: &mut Former<Waiting>, limit: usize, now: Instant) -> Vec<u64> {
        match former.form(limit, &LatencyTable::new(32), now, &mut Dropped::default()) {
            Formed::Batch(entries) => entries.iter().map(|e| e.job.id).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn served_by_priority_then_deadline() {
        let (mut former, now) = (former(), clock::now());
        for (id, within, priority) in [
            (1, FAR * 2, Priority::Normal),
            (2, FAR, Priority::Normal),
            (3, FAR * 3, Priority::Validator),
            (4, FAR / 2, Priority::Bulk),
        ] {
            former.push(waiting(id, within, priority, now), Passage::Shared, now);
        }
        assert_eq!(former.ahead_of(Priority::Validator, now + FAR * 4), 1);
        assert_eq!(former.ahead_of(Priority::Validator, now), 0, "its deadline is tighter");
        assert_eq!(former.ahead_of(Priority::Normal, now + FAR * 4), 3);
        assert_eq!(form(&mut former, 8, now), [3, 2, 1, 4]);
    }

    #[test]
    fn bulk_keeps_its_share() {
        let (mut former, now) = (former(), clock::now());
        for id in 0..110 {
            let priority = if id < 100 { Priority::Validator } else { Priority::Bulk };
            former.push(waiting(id, FAR, priority, now), Passage::Shared, now);
        }
        assert_eq!(
            former.ahead_of(Priority::Bulk, now + FAR * 2),
            11 * 20,
            "and nothing beyond it"
        );
        let first_sixty: Vec<_> = (0..6).flat_map(|_| form(&mut former, 10, now)).collect();
        let bulk = first_sixty.iter().filter(|id| **id >= 100).count();
        assert_eq!(bulk, 3, "one in twenty");
    }

    #[test]
    fn the_dead_are_never_handed_out() {
        let (mut former, now) = (former(), clock::now());
        let gone = Waiting { closed: true, ..waiting(1, FAR, Priority::Normal, now) };
        let late = waiting(2, Duration::ZERO, Priority::Normal, now);
        for job in [gone, late, waiting(3, FAR, Priority::Normal, now)] {
            former.push(job, Passage::Shared, now);
        }
        let mut dropped = Dropped::default();
        let formed = former.form(8, &LatencyTable::new(8), now, &mut dropped);
        assert!(matches!(formed, Formed::Batch(batch) if batch.len() == 1));
        assert_eq!((dropped.client_gone, dropped.late), (1, 1));
    }

    #[test]
    fn a_retry_goes_first_and_alone_and_others_may_travel_alone_in_their_turn() {
        let (mut former, now) = (former(), clock::now());
        former.push(waiting(1, FAR / 2, Priority::Validator, now), Passage::Shared, now);
        former.push(waiting(2, FAR, Priority::Bulk, now), Passage::Retry, now);
        former.push(waiting(3, FAR, Priority::Validator, now), Passage::Alone, now);
        former.push(waiting(4, FAR, Priority::Normal, now), Passage::Shared, now);
        assert_eq!(form(&mut former, 8, now), [2]);
        assert_eq!(form(&mut former, 8, now), [1]);
        assert_eq!(form(&mut former, 8, now), [3]);
        assert_eq!(form(&mut former, 8, now), [4]);
    }

    #[test]
    fn in_a_crowd_places_go_to_those_who_can_be_answered_in_time() {
        let (mut former, now) = (former(), clock::now());
        let mut latency = LatencyTable::new(2);
        latency.observe(2, Duration::from_millis(100));
        for (id, ms) in [(1, 20), (2, 50), (3, 150), (4, 200)] {
            let job = waiting(id, Duration::from_millis(ms), Priority::Normal, now);
            former.push(job, Passage::Shared, now);
        }
        let mut take = |limit| match former.form(limit, &latency, now, &mut Dropped::default()) {
            Formed::Batch(entries) => entries.iter().map(|e| e.job.id).collect(),
            _ => Vec::new(),
        };
        assert_eq!(take(2), [3, 4]);
        assert_eq!(take(2), [1, 2], "when nobody else waits, they may still be lucky");
    }

    proptest! {
        /// Under every rule: no job is handed out twice or lost, none that is dead, none with
        /// company that travels alone, and never more than the limit.
        #[test]
        fn every_batch_is_fit_to_run(
            rule in 0..3_usize,
            jobs in prop::collection::vec((0..3_usize, 0..3_usize, 0u64..200, any::<bool>()), 1..60),
            limit in 1usize..10, step in 1u64..20,
        ) {
            let rules = Rules::default();
            let name = rules.names().nth(rule).unwrap().to_owned();
            let spec = super::super::batching::BatchingSpec { rule: name, max_batch: limit, max_wait_ms: 5 };
            let mut former = Former::new(rules.build(&spec).unwrap());
            let start = clock::now();
            let priorities = [Priority::Validator, Priority::Normal, Priority::Bulk];
            let passages = [Passage::Shared, Passage::Alone, Passage::Retry];
            for (id, (priority, passage, ms, closed)) in jobs.iter().enumerate() {
                let job = Waiting {
                    closed: *closed,
                    ..waiting(id as u64, Duration::from_millis(*ms), priorities[*priority], start)
                };
                former.push(job, passages[*passage], start);
            }
            let (mut now, mut seen, mut dropped) = (start, 0, Dropped::default());
            let latency = LatencyTable::new(limit);
            loop {
                match former.form(limit, &latency, now, &mut dropped) {
                    Formed::Empty => break,
                    Formed::Wait(wait) => {
                        prop_assert!(wait <= Duration::from_millis(5));
                        now += wait;
                    }
                    Formed::Batch(batch) => {
                        prop_assert!(!batch.is_empty() && batch.len() <= limit);
                        let lonely = batch.iter().any(|e| e.passage != Passage::Shared);
                        prop_assert!(!lonely || batch.len() == 1);
                        prop_assert!(batch.iter().all(|e| !e.job.closed && e.job.deadline > now));
                        seen += batch.len();
                        now += Duration::from_millis(step);
                    }
                }
            }
            prop_assert_eq!(seen + dropped.client_gone + dropped.late, jobs.len());
        }
    }
}
