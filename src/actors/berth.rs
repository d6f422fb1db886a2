//! A berth: where an instance's jobs are kept, on the engine's side.
//!
//! Whoever holds the current epoch may load and unload; an instance that was given up finds its
//! epoch out of date and touches nothing. So a backend that panics or hangs takes no job with it, and
//! what it says too late is heard by nobody.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::former::Passage;
use super::job::Job;
use super::lease::Lease;
use crate::backends::Input;
use crate::clock;

/// The jobs that are aboard an instance, those that the backend has first.
#[derive(Debug)]
pub(crate) struct Aboard {
    jobs: VecDeque<Arc<Job>>,
    running: usize,
    since: Instant,
    /// How they travel.
    pub(crate) passage: Passage,
}

impl Aboard {
    /// The jobs that the backend had, and those that only waited for their turn.
    pub(crate) fn split(self) -> (Vec<Arc<Job>>, Vec<Arc<Job>>) {
        let mut running = Vec::from(self.jobs);
        let waiting = running.split_off(self.running.min(running.len()));
        (running, waiting)
    }
}

/// What the backend has, and since when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Busy {
    pub(crate) since: Instant,
    /// Pictures: one per image, and a clip's frames.
    pub(crate) pictures: usize,
}

/// Where an instance's jobs are kept.
#[derive(Debug, Default)]
pub(crate) struct Berth {
    state: Mutex<State>,
    called: Condvar,
    /// Batches that ended in predictions here, over all incarnations.
    progress: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    epoch: u64,
    on_duty: bool,
    dismissed: bool,
    lease: Option<Arc<Lease>>,
    aboard: Option<Aboard>,
}

impl Berth {
    /// Hands the berth to a new incarnation; what the old one held comes back.
    pub(crate) fn assign(&self, epoch: u64) -> Option<Aboard> {
        let mut state = self.state.lock();
        state.epoch = epoch;
        state.on_duty = false;
        let aboard = state.aboard.take();
        drop(state);
        self.called.notify_all();
        aboard
    }

    /// Says whose thread it is that has the berth.
    pub(crate) fn hire(&self, lease: Arc<Lease>) {
        self.state.lock().lease = Some(lease);
    }

    /// The thread that has the berth is nobody's any more.
    pub(crate) fn let_go(&self) -> Option<Arc<Lease>> {
        self.state.lock().lease.take()
    }

    /// Takes the berth from an instance that has had something aboard since then, if it still has.
    pub(crate) fn give_up(&self, epoch: u64, since: Instant) -> Option<Aboard> {
        let mut state = self.state.lock();
        let aboard = state.aboard.take_if(|aboard| aboard.since == since)?;
        state.epoch = epoch;
        state.on_duty = false;
        Some(aboard)
    }

    /// Calls a spare to duty.
    pub(crate) fn call(&self) {
        self.state.lock().on_duty = true;
        self.called.notify_all();
    }

    /// Nobody will be called any more.
    pub(crate) fn dismiss(&self) {
        self.state.lock().dismissed = true;
        self.called.notify_all();
    }

    /// Waits to be called. False if that will not happen.
    pub(crate) fn wait_for_duty(&self, epoch: u64) -> bool {
        let mut state = self.state.lock();
        while !state.on_duty && !state.dismissed && state.epoch == epoch {
            self.called.wait(&mut state);
        }
        state.on_duty && state.epoch == epoch
    }

    /// Whether this incarnation is still the one.
    pub(crate) fn is(&self, epoch: u64) -> bool {
        self.state.lock().epoch == epoch
    }

    /// Takes jobs aboard.
    ///
    /// # Errors
    /// The jobs, if the instance has been given up.
    pub(crate) fn board(
        &self,
        epoch: u64,
        jobs: Vec<Arc<Job>>,
        passage: Passage,
    ) -> Result<(), Vec<Arc<Job>>> {
        let mut state = self.state.lock();
        if state.epoch != epoch {
            return Err(jobs);
        }
        state.aboard = Some(Aboard { jobs: jobs.into(), running: 0, since: clock::now(), passage });
        Ok(())
    }

    /// Lends the inputs of the first `n` jobs aboard to the backend; jobs that nobody waits for any
    /// more leave instead. `None` if the instance has been given up.
    pub(crate) fn begin(&self, epoch: u64, n: usize) -> Option<Vec<Input>> {
        let mut state = self.state.lock();
        let now = clock::now();
        let aboard = (state.epoch == epoch).then_some(state.aboard.as_mut()).flatten()?;
        let n = n.min(aboard.jobs.len());
        let rest = aboard.jobs.split_off(n);
        aboard.jobs.retain(|job| !job.slot.is_closed() && job.request.deadline > now);
        aboard.running = aboard.jobs.len();
        aboard.since = now;
        let inputs = aboard.jobs.iter().map(|job| job.request.input.clone()).collect();
        aboard.jobs.extend(rest);
        Some(inputs)
    }

    /// Takes out the jobs that the backend has finished. `None` if the instance has been given up.
    pub(crate) fn finish(&self, epoch: u64) -> Option<Vec<Arc<Job>>> {
        let mut state = self.state.lock();
        let aboard = (state.epoch == epoch).then_some(state.aboard.as_mut()).flatten()?;
        let running = std::mem::take(&mut aboard.running);
        let done = aboard.jobs.drain(..running).collect();
        if aboard.jobs.is_empty() {
            state.aboard = None;
        }
        Some(done)
    }

    /// Takes everything out. `None` if there is nothing, or the instance has been given up.
    pub(crate) fn unload(&self, epoch: u64) -> Option<Aboard> {
        let mut state = self.state.lock();
        if state.epoch == epoch { state.aboard.take() } else { None }
    }

    /// What the backend has, if anything.
    pub(crate) fn busy(&self) -> Option<Busy> {
        let state = self.state.lock();
        let aboard = state.aboard.as_ref()?;
        let running = aboard.jobs.iter().take(aboard.running);
        let pictures = running.map(|job| job.request.input.pictures()).sum();
        Some(Busy { since: aboard.since, pictures })
    }

    /// Batches that ended in predictions here, over all incarnations.
    pub(crate) fn progress(&self) -> u64 {
        self.progress.load(Ordering::Acquire)
    }

    /// A batch ended in predictions.
    pub(crate) fn note_progress(&self) {
        self.progress.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::job::{Priority, Ticket, tests::job};
    use super::*;

    fn jobs(n: u64) -> (Vec<Arc<Job>>, Vec<Ticket>) {
        let deadline = clock::now() + Duration::from_secs(9);
        (0..n).map(|id| job(id, deadline, Priority::Normal)).unzip()
    }

    fn numbers(jobs: &[Arc<Job>]) -> Vec<u64> {
        jobs.iter().map(|job| job.id.0).collect()
    }

    #[test]
    fn only_the_current_incarnation_touches_what_is_aboard() {
        let (berth, (jobs, _tickets)) = (Berth::default(), jobs(2));
        berth.assign(1);
        berth.board(1, jobs.clone(), Passage::Shared).unwrap();
        assert_eq!(berth.begin(1, 2).unwrap().len(), 2);
        let aboard = berth.assign(2).unwrap();
        assert_eq!(numbers(&aboard.split().0), [0, 1], "the successor's stage gets them");
        assert!(berth.finish(1).is_none() && berth.unload(1).is_none());
        assert!(berth.board(1, jobs, Passage::Shared).is_err());
    }

    #[test]
    fn who_only_waits_for_a_turn_is_told_from_who_was_computed() {
        let (berth, (jobs, _tickets)) = (Berth::default(), jobs(4));
        berth.assign(1);
        berth.board(1, jobs, Passage::Shared).unwrap();
        assert_eq!(berth.begin(1, 1).unwrap().len(), 1);
        assert_eq!(numbers(&berth.finish(1).unwrap()), [0]);
        berth.begin(1, 1).unwrap();
        let (running, waiting) = berth.unload(1).unwrap().split();
        assert_eq!((numbers(&running), numbers(&waiting)), (vec![1], vec![2, 3]));
    }

    #[test]
    fn who_has_left_is_not_computed() {
        let (berth, (jobs, mut tickets)) = (Berth::default(), jobs(3));
        berth.assign(1);
        berth.board(1, jobs, Passage::Shared).unwrap();
        drop(tickets.remove(1));
        assert_eq!(berth.begin(1, 3).unwrap().len(), 2);
        assert_eq!(numbers(&berth.finish(1).unwrap()), [0, 2]);
        assert!(berth.busy().is_none());
    }

    #[test]
    fn a_spare_waits_until_it_is_called_or_dismissed() {
        let berth = Arc::new(Berth::default());
        berth.assign(1);
        let waiting = |epoch| {
            let berth = berth.clone();
            let build = std::thread::Builder::new().name("spare".into());
            build.spawn(move || berth.wait_for_duty(epoch)).unwrap()
        };
        let first = waiting(1);
        berth.call();
        assert!(first.join().unwrap());
        let given_up = waiting(2);
        assert!(!given_up.join().unwrap(), "not its berth");
        berth.assign(3);
        let third = waiting(3);
        berth.dismiss();
        assert!(!third.join().unwrap());
    }
}
