//! A stage's mailbox: a bounded queue, and the batch former that all its instances share.
//!
//! Ordered by priority and deadline, not by arrival. Jobs whose caller left or whose deadline has
//! passed are dropped when a batch is formed, so they are never computed. Suspects (jobs that were
//! aboard when an instance fell) are handed out one at a time, before all others.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::batching::{BatchingRule, Decision, QueueView};
use super::job::{JobId, Priority};
use super::latency::LatencyTable;
use crate::clock;

/// Of every so many jobs taken while validators or normal requests wait, one is a bulk job.
const BULK_EVERY: usize = 20;

/// What the mailbox must know of a job.
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

/// A job in the mailbox.
#[derive(Debug)]
pub struct Entry<J> {
    /// The job.
    pub job: J,
    /// Whether it must be computed without batch-mates.
    pub alone: bool,
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

/// A formed batch.
#[derive(Debug)]
pub struct Batch<J> {
    /// The jobs, in order of service.
    pub entries: Vec<Entry<J>>,
    /// What was dropped on the way.
    pub dropped: Dropped,
    /// How many jobs are left in the mailbox.
    pub left: usize,
}

/// The mailbox is full of jobs that somebody waits for.
#[derive(Clone, Copy, Debug)]
pub struct Full;

/// Order of service: suspects first, then by deadline; the number makes keys unique.
type Key = (Reverse<bool>, Priority, Instant, JobId);

struct Queue<J> {
    rule: Box<dyn BatchingRule>,
    urgent: BTreeMap<Key, Entry<J>>,
    bulk: BTreeMap<Key, Entry<J>>,
    since_bulk: usize,
    newest: Option<Instant>,
    gap_s: Option<f64>,
    closed: bool,
}

/// The queue between the supervisor and a stage's instances.
pub struct Mailbox<J> {
    queue: Mutex<Queue<J>>,
    arrival: Condvar,
    capacity: usize,
}

impl<J: Queued> Mailbox<J> {
    /// An empty mailbox for at most `capacity` jobs.
    pub fn new(capacity: usize, rule: Box<dyn BatchingRule>) -> Self {
        let queue = Queue {
            rule,
            urgent: BTreeMap::new(),
            bulk: BTreeMap::new(),
            since_bulk: 0,
            newest: None,
            gap_s: None,
            closed: false,
        };
        Self { queue: Mutex::new(queue), arrival: Condvar::new(), capacity }
    }

    /// Puts a job in and says how many are there now. When the mailbox is full, the dead are cleared
    /// out first.
    ///
    /// # Errors
    /// [`Full`] if that does not help.
    pub fn push(&self, job: J, alone: bool, now: Instant) -> Result<usize, Full> {
        let mut queue = self.queue.lock();
        if queue.len() >= self.capacity {
            queue.retain(|entry| !entry.job.is_closed());
        }
        if queue.len() >= self.capacity {
            return Err(Full);
        }
        queue.arrive(Entry { job, alone, entered: now }, now);
        let depth = queue.len();
        drop(queue);
        self.arrival.notify_one();
        Ok(depth)
    }

    /// Waits until the rule forms a batch of at most `limit` jobs. `None` once the mailbox is
    /// closed, or when `stop` says so.
    pub fn take(
        &self,
        limit: usize,
        latency: &Mutex<LatencyTable>,
        stop: &dyn Fn() -> bool,
    ) -> Option<Batch<J>> {
        let mut queue = self.queue.lock();
        let mut dropped = Dropped::default();
        loop {
            if queue.closed || stop() {
                // Whoever woke us may have meant it for a colleague.
                self.arrival.notify_one();
                return None;
            }
            let now = clock::now();
            queue.drop_dead(now, &mut dropped);
            // A statement of its own: the table's lock must not be held while waiting.
            let decision = queue.decide(limit, &latency.lock(), now);
            match decision {
                Some(Decision::Take(n)) => {
                    let entries = queue.pop(n.min(limit));
                    let left = queue.len();
                    if left > 0 {
                        self.arrival.notify_one();
                    }
                    return Some(Batch { entries, dropped, left });
                }
                Some(Decision::Wait(at_most)) => {
                    self.arrival.wait_for(&mut queue, at_most);
                }
                None => self.arrival.wait(&mut queue),
            }
        }
    }

    /// Batches are formed by another rule from now on.
    pub fn set_rule(&self, rule: Box<dyn BatchingRule>) {
        self.queue.lock().rule = rule;
        self.arrival.notify_all();
    }

    /// Wakes every waiting instance so that it looks at its `stop` again.
    pub fn wake_all(&self) {
        // Taking the lock orders this after the check of any instance about to wait.
        drop(self.queue.lock());
        self.arrival.notify_all();
    }

    /// No instance gets another batch; what is queued comes back.
    pub fn close(&self) -> Vec<Entry<J>> {
        let mut queue = self.queue.lock();
        queue.closed = true;
        let rest = queue.drain();
        drop(queue);
        self.arrival.notify_all();
        rest
    }

    /// Takes everything that is queued; the mailbox stays open.
    pub fn drain(&self) -> Vec<Entry<J>> {
        self.queue.lock().drain()
    }

    /// Jobs waiting.
    pub fn len(&self) -> usize {
        self.queue.lock().len()
    }

    /// Whether no job waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The jobs that are queued.
    pub fn ids(&self) -> Vec<JobId> {
        let queue = self.queue.lock();
        queue.urgent.values().chain(queue.bulk.values()).map(|entry| entry.job.id()).collect()
    }
}

impl<J: Queued> Queue<J> {
    fn len(&self) -> usize {
        self.urgent.len() + self.bulk.len()
    }

    fn arrive(&mut self, entry: Entry<J>, now: Instant) {
        if let Some(newest) = self.newest.replace(now) {
            let gap = now.saturating_duration_since(newest).as_secs_f64().min(1.0);
            self.gap_s = Some(self.gap_s.map_or(gap, |mean| mean + (gap - mean) / 8.0));
        }
        let (job, priority) = (&entry.job, entry.job.priority());
        let key = (Reverse(entry.alone), priority, job.deadline(), job.id());
        let bulk = priority == Priority::Bulk && !entry.alone;
        if bulk { &mut self.bulk } else { &mut self.urgent }.insert(key, entry);
    }

    fn retain(&mut self, mut keep: impl FnMut(&Entry<J>) -> bool) {
        self.urgent.retain(|_, entry| keep(entry));
        self.bulk.retain(|_, entry| keep(entry));
    }

    fn drop_dead(&mut self, now: Instant, dropped: &mut Dropped) {
        self.retain(|entry| {
            if entry.job.is_closed() {
                dropped.client_gone += 1;
                return false;
            }
            let late = entry.job.deadline() <= now;
            dropped.late += usize::from(late);
            !late
        });
    }

    fn decide(&self, limit: usize, latency: &LatencyTable, now: Instant) -> Option<Decision> {
        let entries = || self.urgent.values().chain(self.bulk.values());
        if entries().next()?.alone {
            return Some(Decision::Take(1));
        }
        let view = QueueView {
            len: self.len(),
            oldest: entries().map(|e| e.entered).min()?,
            newest: self.newest?,
            tightest: entries().take(limit).map(|e| e.job.deadline()).min()?,
            gap: self.gap_s.map(Duration::from_secs_f64),
            limit,
            latency,
        };
        Some(self.rule.decide(&view, now))
    }

    /// Takes up to `n` jobs in order of service; a suspect comes alone.
    fn pop(&mut self, n: usize) -> Vec<Entry<J>> {
        let mut batch = Vec::with_capacity(n);
        while batch.len() < n {
            let Some(entry) = self.pop_one() else { break };
            let alone = entry.alone;
            batch.push(entry);
            if alone {
                break;
            }
        }
        batch
    }

    fn pop_one(&mut self) -> Option<Entry<J>> {
        let turn_of_bulk = self.since_bulk + 1 >= BULK_EVERY && !self.bulk.is_empty();
        let urgent_first = self.urgent.first_key_value().is_some_and(|(_, e)| e.alone);
        if (turn_of_bulk || self.urgent.is_empty()) && !urgent_first {
            self.since_bulk = 0;
            return self.bulk.pop_first().map(|(_, entry)| entry);
        }
        self.since_bulk += 1;
        self.urgent.pop_first().map(|(_, entry)| entry)
    }

    fn drain(&mut self) -> Vec<Entry<J>> {
        let urgent = std::mem::take(&mut self.urgent);
        let bulk = std::mem::take(&mut self.bulk);
        urgent.into_values().chain(bulk.into_values()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::batching::Immediate;
    use std::sync::Arc;

    use super::super::job::{Job, Ticket, tests::job};
    use super::*;

    const FAR: Duration = Duration::from_secs(9);

    fn mailbox(capacity: usize) -> Mailbox<Arc<Job>> {
        Mailbox::new(capacity, Box::new(Immediate))
    }

    fn take(mailbox: &Mailbox<Arc<Job>>, limit: usize) -> Vec<u64> {
        let latency = Mutex::new(LatencyTable::new(32));
        let batch = mailbox.take(limit, &latency, &|| false).unwrap();
        batch.entries.iter().map(|e| e.job.id.0).collect()
    }

    fn put(mailbox: &Mailbox<Arc<Job>>, id: u64, deadline: Duration, priority: Priority) -> Ticket {
        let now = clock::now();
        let (job, ticket) = job(id, now + deadline, priority);
        mailbox.push(job, false, now).unwrap();
        ticket
    }

    #[test]
    fn served_by_priority_then_deadline() {
        let mailbox = mailbox(8);
        let _tickets = [
            put(&mailbox, 1, FAR * 2, Priority::Normal),
            put(&mailbox, 2, FAR, Priority::Normal),
            put(&mailbox, 3, FAR * 3, Priority::Validator),
            put(&mailbox, 4, FAR / 2, Priority::Bulk),
        ];
        assert_eq!(take(&mailbox, 8), [3, 2, 1, 4]);
    }

    #[test]
    fn bulk_keeps_its_share() {
        let mailbox = mailbox(200);
        let mut tickets: Vec<_> =
            (0..100).map(|i| put(&mailbox, i, FAR, Priority::Validator)).collect();
        tickets.extend((100..110).map(|i| put(&mailbox, i, FAR, Priority::Bulk)));
        let first_sixty: Vec<_> = (0..6).flat_map(|_| take(&mailbox, 10)).collect();
        let bulk = first_sixty.iter().filter(|id| **id >= 100).count();
        assert_eq!(bulk, 3, "one in twenty");
    }

    #[test]
    fn the_dead_are_never_handed_out() {
        let mailbox = mailbox(8);
        let gone = put(&mailbox, 1, FAR, Priority::Normal);
        let _late = put(&mailbox, 2, Duration::ZERO, Priority::Normal);
        let _alive = put(&mailbox, 3, FAR, Priority::Normal);
        drop(gone);
        let latency = Mutex::new(LatencyTable::new(8));
        let batch = mailbox.take(8, &latency, &|| false).unwrap();
        assert_eq!(batch.entries.len(), 1);
        assert_eq!((batch.dropped.client_gone, batch.dropped.late), (1, 1));
    }

    #[test]
    fn a_suspect_goes_first_and_alone() {
        let mailbox = mailbox(8);
        let _first = put(&mailbox, 1, FAR / 2, Priority::Validator);
        let (suspect, _ticket) = job(2, clock::now() + FAR, Priority::Bulk);
        mailbox.push(suspect, true, clock::now()).unwrap();
        assert_eq!(take(&mailbox, 8), [2]);
        assert_eq!(take(&mailbox, 8), [1]);
    }

    #[test]
    fn full_means_full_of_the_living() {
        let mailbox = mailbox(1);
        let gone = put(&mailbox, 1, FAR, Priority::Normal);
        let (second, _ticket) = job(2, clock::now() + FAR, Priority::Normal);
        assert!(mailbox.push(second.clone(), false, clock::now()).is_err());
        drop(gone);
        assert_eq!(mailbox.push(second, false, clock::now()).unwrap(), 1);
    }

    #[test]
    fn closing_gives_the_rest_back_and_ends_the_takers() {
        let mailbox = mailbox(8);
        let _ticket = put(&mailbox, 1, FAR, Priority::Normal);
        assert_eq!(mailbox.close().len(), 1);
        let latency = Mutex::new(LatencyTable::new(8));
        assert!(mailbox.take(8, &latency, &|| false).is_none());
    }
}
