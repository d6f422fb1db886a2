//! A stage's mailbox: the [`Former`] behind a lock, where instances wait for their batches.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::batching::BatchingRule;
use super::former::{Dropped, Entry, Formed, Former, Passage, Queued};
use super::job::{JobId, Priority};
use super::latency::LatencyTable;
use crate::clock;

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

struct State<J> {
    former: Former<J>,
    closed: bool,
}

/// The queue between the supervisor and a stage's instances.
pub struct Mailbox<J> {
    state: Mutex<State<J>>,
    arrival: Condvar,
    capacity: usize,
}

impl<J: Queued> Mailbox<J> {
    /// An empty mailbox for at most `capacity` jobs.
    pub fn new(capacity: usize, rule: Box<dyn BatchingRule>) -> Self {
        let state = State { former: Former::new(rule), closed: false };
        Self { state: Mutex::new(state), arrival: Condvar::new(), capacity }
    }

    /// Puts a job in and says how many are there now. When the mailbox is full, the dead are cleared
    /// out first.
    ///
    /// # Errors
    /// [`Full`] if that does not help.
    pub fn push(&self, job: J, passage: Passage, now: Instant) -> Result<usize, Full> {
        let mut state = self.state.lock();
        let former = &mut state.former;
        if former.len() >= self.capacity {
            former.drop_closed();
        }
        if former.len() >= self.capacity {
            return Err(Full);
        }
        former.push(job, passage, now);
        let depth = former.len();
        drop(state);
        self.arrival.notify_one();
        Ok(depth)
    }

    /// Waits until the rule forms a batch of at most `limit()` jobs. `None` once the mailbox is
    /// closed, or when `stop` says so.
    pub fn take(
        &self,
        limit: &dyn Fn() -> usize,
        latency: &Mutex<LatencyTable>,
        stop: &dyn Fn() -> bool,
    ) -> Option<Batch<J>> {
        let mut state = self.state.lock();
        let mut dropped = Dropped::default();
        loop {
            if state.closed || stop() {
                // Whoever woke us may have meant it for a colleague.
                self.arrival.notify_one();
                return None;
            }
            // A statement of its own: the table's lock must not be held while waiting.
            let formed = state.former.form(limit(), &latency.lock(), clock::now(), &mut dropped);
            match formed {
                Formed::Batch(entries) => {
                    let left = state.former.len();
                    if left > 0 {
                        self.arrival.notify_one();
                    }
                    return Some(Batch { entries, dropped, left });
                }
                Formed::Wait(at_most) => {
                    self.arrival.wait_for(&mut state, at_most);
                }
                Formed::Empty => self.arrival.wait(&mut state),
            }
        }
    }

    /// Batches are formed by another rule from now on.
    pub fn set_rule(&self, rule: Box<dyn BatchingRule>) {
        self.state.lock().former.set_rule(rule);
        self.arrival.notify_all();
    }

    /// Wakes every waiting instance so that it looks at its `stop` again.
    pub fn wake_all(&self) {
        // Taking the lock orders this after the check of any instance about to wait.
        drop(self.state.lock());
        self.arrival.notify_all();
    }

    /// No instance gets another batch; what is queued comes back.
    pub fn close(&self) -> Vec<Entry<J>> {
        let mut state = self.state.lock();
        state.closed = true;
        let rest = state.former.drain();
        drop(state);
        self.arrival.notify_all();
        rest
    }

    /// Takes everything that is queued; the mailbox stays open.
    pub fn drain(&self) -> Vec<Entry<J>> {
        self.state.lock().former.drain()
    }

    /// Jobs waiting.
    pub fn len(&self) -> usize {
        self.state.lock().former.len()
    }

    /// Whether no job waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Jobs that would be served before a job like this that came now.
    pub fn ahead_of(&self, priority: Priority, deadline: Instant) -> usize {
        self.state.lock().former.ahead_of(priority, deadline)
    }

    /// The jobs that are queued.
    pub fn ids(&self) -> Vec<JobId> {
        self.state.lock().former.jobs().map(Queued::id).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::batching::Immediate;
    use super::super::job::{Job, Ticket, tests::job};
    use super::*;

    const FAR: Duration = Duration::from_secs(9);

    fn mailbox(capacity: usize) -> Mailbox<Arc<Job>> {
        Mailbox::new(capacity, Box::new(Immediate))
    }

    fn put(mailbox: &Mailbox<Arc<Job>>, id: u64) -> Ticket {
        let now = clock::now();
        let (job, ticket) = job(id, now + FAR, Priority::Normal);
        mailbox.push(job, Passage::Shared, now).unwrap();
        ticket
    }

    #[test]
    fn full_means_full_of_the_living() {
        let mailbox = mailbox(1);
        let gone = put(&mailbox, 1);
        let (second, _ticket) = job(2, clock::now() + FAR, Priority::Normal);
        assert!(mailbox.push(second.clone(), Passage::Shared, clock::now()).is_err());
        drop(gone);
        assert_eq!(mailbox.push(second, Passage::Shared, clock::now()).unwrap(), 1);
    }

    #[test]
    fn closing_gives_the_rest_back_and_ends_the_takers() {
        let mailbox = mailbox(8);
        let _ticket = put(&mailbox, 1);
        assert_eq!(mailbox.close().len(), 1);
        let latency = Mutex::new(LatencyTable::new(8));
        assert!(mailbox.take(&|| 8, &latency, &|| false).is_none());
    }

    #[test]
    fn a_waiting_instance_gets_what_comes() {
        let mailbox = Arc::new(mailbox(8));
        let taker = mailbox.clone();
        let build = std::thread::Builder::new().name("taker".into());
        let taken = build.spawn(move || {
            let latency = Mutex::new(LatencyTable::new(8));
            taker.take(&|| 8, &latency, &|| false).map(|batch| batch.entries.len())
        });
        let _ticket = put(&mailbox, 1);
        assert_eq!(taken.unwrap().join().unwrap(), Some(1));
    }
}
