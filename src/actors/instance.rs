//! An instance: one OS thread that runs one backend.
//!
//! Takes batches from its stage's mailbox until the mailbox closes, the backend falls, or it is
//! given up. The jobs stay in the instance's [`Berth`](super::berth::Berth), shared with the stage's
//! actor; only images are lent to the backend, so a backend that panics or hangs takes no job with it.
//!
//! Must not know: what the stage is for, or where a job goes next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::berth::Berth;
use super::former::Passage;
use super::job::{Job, JobId};
use super::killpoint;
use super::lease::Lease;
use super::mailbox::Batch;
use super::shared::StageShared;
use crate::backends::{Backend, BackendContext, Factory, Input};
use crate::clock;
use crate::memory;
use crate::metrics;
use crate::prediction::{Cause, Prediction};

/// After so many good batches the batch limit recovers by one.
const RECOVER_AFTER: usize = 16;

/// A backend that reports itself broken for so many jobs in a row, each alone, is believed: it is the
/// backend and not the image.
const MAX_BROKEN: usize = 3;

/// What an instance tells its stage and the supervisor.
pub(crate) trait Listener: Send {
    /// It is built and warm, and its backend is of this version.
    fn ready(&self, load_time: Duration, version: String);
    /// A batch ended in predictions.
    fn answered(&self, predictions: Vec<(JobId, Prediction)>);
    /// A batch ended without predictions.
    fn failed(&self, cause: Cause, jobs: Vec<JobId>);
    /// Jobs that were aboard have not been computed and will not be.
    fn returned(&self, jobs: Vec<JobId>);
    /// It takes no more batches; its jobs have been given back.
    fn leaving(&self);
    /// The instance is over.
    fn fell(&self, fall: Fall);
}

/// Why an instance's life ended.
#[derive(Clone, Debug)]
pub(crate) struct Fall {
    pub(crate) cause: Cause,
    pub(crate) detail: String,
    /// How what it had travelled: a fall with a job tried again teaches nothing new of the stage.
    pub(crate) passage: Passage,
}

impl Fall {
    pub(crate) fn without_jobs(cause: Cause, detail: String) -> Self {
        Self { cause, detail, passage: Passage::Shared }
    }
}

/// Everything an instance needs to live.
pub(crate) struct Instance {
    pub(crate) lane: usize,
    pub(crate) epoch: u64,
    pub(crate) shared: Arc<StageShared>,
    pub(crate) factory: Factory,
    pub(crate) context: BackendContext,
    pub(crate) listener: Box<dyn Listener>,
    pub(crate) lease: Arc<Lease>,
}

impl Drop for Instance {
    /// The thread's last act: if it was left behind, it is no longer.
    fn drop(&mut self) {
        if self.lease.end() {
            metrics::abandoned_threads(&self.shared.name, -1.0);
        }
    }
}

/// Jobs in nobody's keeping for a moment; should the thread fall right then, they are routed again.
struct Loose<'a> {
    jobs: Vec<Arc<Job>>,
    listener: &'a dyn Listener,
}

impl Drop for Loose<'_> {
    fn drop(&mut self) {
        if !self.jobs.is_empty() {
            self.listener.failed(Cause::Actor, ids(&self.jobs));
        }
    }
}

impl Instance {
    /// Starts the thread.
    pub(crate) fn spawn(self) -> std::io::Result<()> {
        let name = format!("{}-{}.{}", self.shared.name, self.lane, self.epoch);
        std::thread::Builder::new().name(name).spawn(move || self.live()).map(drop)
    }

    fn live(self) {
        let born = clock::now();
        let mut backend = match self.load() {
            Ok(backend) => backend,
            Err(detail) => {
                return self.listener.fell(Fall::without_jobs(Cause::Load, detail));
            }
        };
        let version = guarded(|| backend.version()).unwrap_or_default();
        memory::trim();
        self.listener.ready(clock::now().saturating_duration_since(born), version);
        // What panics here is not the backend: a batching rule is a researcher's code too.
        let fall = guarded(|| self.work(&mut *backend))
            .unwrap_or_else(|detail| Some(Fall::without_jobs(Cause::Actor, detail)));
        if let Some(fall) = &fall {
            self.give_back(fall.cause);
            self.listener.leaving();
        }
        self.bury(backend, fall);
    }

    fn berth(&self) -> &Berth {
        &self.shared.berths[self.lane]
    }

    fn load(&self) -> Result<Box<dyn Backend>, String> {
        let built = guarded(|| {
            killpoint::reach("instance.loading", &self.shared.name);
            let mut backend = (self.factory)(&self.context)?;
            backend.warm_up().map_err(|e| anyhow::anyhow!("warm-up: {e:#}"))?;
            anyhow::Ok(backend)
        });
        match built {
            Ok(Ok(backend)) => Ok(backend),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(panic) => Err(format!("panic: {panic}")),
        }
    }

    /// The jobs aboard are routed again: those that the backend had bear the cause.
    fn give_back(&self, cause: Cause) {
        let Some(aboard) = self.berth().unload(self.epoch) else { return };
        let (running, waiting) = aboard.split();
        self.listener.failed(cause, ids(&running));
        self.listener.returned(ids(&waiting));
    }

    /// Drops the backend, which may panic or hang as well. The jobs are out of its reach by now, and
    /// the berth counts as busy meanwhile, so that a hang is noticed.
    fn bury(&self, backend: Box<dyn Backend>, fall: Option<Fall>) {
        let watched = self.berth().board(self.epoch, Vec::new(), Passage::Shared).is_ok();
        let dropped = guarded(|| drop(backend));
        let abandoned = watched && self.berth().unload(self.epoch).is_none();
        if let Err(detail) = dropped {
            tracing::warn!(stage = %self.shared.name, detail, "the backend panicked when dropped");
        }
        if let Some(fall) = fall
            && !abandoned
        {
            self.listener.fell(fall);
        }
    }

    /// Computes batches until there are no more, or until the backend falls.
    fn work(&self, backend: &mut dyn Backend) -> Option<Fall> {
        if !self.berth().wait_for_duty(self.epoch) {
            return None;
        }
        let mut tally = Tally::default();
        while let Some((size, passage)) = self.take_aboard() {
            // Runs to be made of what is aboard, the next one last.
            let mut runs = vec![size];
            while let Some(n) = runs.pop() {
                let inputs = self.berth().begin(self.epoch, n)?;
                if inputs.is_empty() {
                    continue;
                }
                killpoint::reach("instance.aboard", &self.shared.name);
                let outcome = self.run(backend, &inputs);
                killpoint::reach("instance.computed", &self.shared.name);
                match self.settle(outcome, (inputs.len(), passage), &mut tally) {
                    Next::Go => {}
                    Next::Split(parts) => runs.extend(parts),
                    Next::Late => {
                        metrics::late_answer(&self.shared.name);
                        return None;
                    }
                    Next::Fall(cause, detail) => return Some(Fall { cause, detail, passage }),
                }
            }
            // What nobody waited for any more.
            self.berth().unload(self.epoch);
        }
        None
    }

    /// Waits for a batch and takes it into the berth. `None` once there is none to wait for.
    fn take_aboard(&self) -> Option<(usize, Passage)> {
        let over = || !self.berth().is(self.epoch);
        let limit = || self.shared.limit();
        loop {
            let batch = self.shared.mailbox.take(&limit, &self.shared.latency, &over)?;
            self.note_taken(&batch);
            let passage = batch.entries.first().map_or(Passage::Shared, |entry| entry.passage);
            let jobs = batch.entries.into_iter().map(|entry| entry.job).collect();
            let mut loose = Loose { jobs, listener: &*self.listener };
            killpoint::reach("instance.taken", &self.shared.name);
            let size = loose.jobs.len();
            if size == 0 {
                continue;
            }
            match self.berth().board(self.epoch, std::mem::take(&mut loose.jobs), passage) {
                Ok(()) => return Some((size, passage)),
                Err(jobs) => {
                    self.listener.returned(ids(&jobs));
                    return None;
                }
            }
        }
    }

    /// Lends the inputs to the backend.
    fn run(&self, backend: &mut dyn Backend, inputs: &[Input]) -> Result<Vec<Prediction>, Failed> {
        let begun = clock::now();
        let result = guarded(|| backend.infer(inputs));
        let took = clock::now().saturating_duration_since(begun);
        match result {
            Err(panic) => Err((Cause::Panic, panic)),
            Ok(Ok(predictions)) if predictions.len() == inputs.len() => {
                self.note_done(inputs, &predictions, took);
                Ok(predictions)
            }
            Ok(Ok(predictions)) => {
                let (said, asked) = (predictions.len(), inputs.len());
                Err((Cause::WrongCount, format!("{said} predictions for {asked} inputs")))
            }
            Ok(Err(error)) => Err((error.fault.into(), format!("{:#}", error.source))),
        }
    }

    /// What follows from a run. An error that the backend reports ends no instance as long as one
    /// image may be to blame: the batch is taken apart, down to single images.
    fn settle(
        &self,
        outcome: Result<Vec<Prediction>, Failed>,
        (size, passage): (usize, Passage),
        tally: &mut Tally,
    ) -> Next {
        let (cause, detail) = match outcome {
            Ok(predictions) => return self.answer(predictions, tally),
            Err((cause @ (Cause::Panic | Cause::WrongCount | Cause::DeviceLost), detail)) => {
                return Next::Fall(cause, detail);
            }
            Err(failed) => failed,
        };
        tracing::warn!(stage = %self.shared.name, %cause, detail, size, "a batch failed");
        metrics::batch_failed(&self.shared.name, cause);
        match cause {
            Cause::TooBig if size > 1 => {
                self.shared.shrink(size);
                return Next::Split(vec![size - size / 2, size / 2]);
            }
            Cause::Broken if size > 1 => return Next::Split(vec![1; size]),
            // The same image again says nothing more of the backend.
            Cause::Broken if passage != Passage::Retry => tally.broken += 1,
            _ => {}
        }
        if tally.broken >= MAX_BROKEN {
            return Next::Fall(cause, detail);
        }
        let Some(jobs) = self.berth().finish(self.epoch) else { return Next::Late };
        self.listener.failed(cause, ids(&jobs));
        Next::Go
    }

    /// A run ended in predictions.
    fn answer(&self, predictions: Vec<Prediction>, tally: &mut Tally) -> Next {
        let Some(jobs) = self.berth().finish(self.epoch) else { return Next::Late };
        let mut loose = Loose { jobs, listener: &*self.listener };
        killpoint::reach("instance.finished", &self.shared.name);
        tally.broken = 0;
        tally.good += 1;
        if tally.good.is_multiple_of(RECOVER_AFTER) {
            self.shared.grow();
        }
        self.berth().note_progress();
        let jobs = std::mem::take(&mut loose.jobs);
        self.listener.answered(ids(&jobs).into_iter().zip(predictions).collect());
        Next::Go
    }

    /// Learns from a batch, unless the instance was given up meanwhile: what a hang took says
    /// nothing of the next batch.
    fn note_done(&self, inputs: &[Input], predictions: &[Prediction], took: Duration) {
        if !self.berth().is(self.epoch) {
            return;
        }
        self.shared.learn(inputs.iter().map(Input::pictures).sum(), took);
        let abstained = predictions.iter().filter(|p| p.probability().is_none()).count();
        metrics::batch_done(&self.shared.name, predictions.len(), took, abstained);
    }

    fn note_taken(&self, batch: &Batch<Arc<Job>>) {
        let (name, now) = (&self.shared.name, clock::now());
        metrics::queue_depth(name, batch.left);
        for entry in &batch.entries {
            metrics::queue_wait(name, now.saturating_duration_since(entry.entered));
        }
        for _ in 0..batch.dropped.client_gone {
            metrics::queue_dropped(name, "client_gone");
        }
        for _ in 0..batch.dropped.late {
            metrics::queue_dropped(name, "deadline");
        }
    }
}

/// Why a run ended without predictions, for the router and for people.
type Failed = (Cause, String);

/// What an instance counts of its life.
#[derive(Debug, Default)]
struct Tally {
    /// Good batches.
    good: usize,
    /// Jobs in a row for which the backend, each time alone with one, reported itself broken.
    broken: usize,
}

/// What to do after a run.
enum Next {
    /// Go on.
    Go,
    /// Run the same jobs again in parts, the last first.
    Split(Vec<usize>),
    /// The instance has been given up.
    Late,
    /// The backend cannot go on.
    Fall(Cause, String),
}

pub(crate) fn ids(jobs: &[Arc<Job>]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

/// The one `catch_unwind` of the codebase: the border between the engine and a researcher's code.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a message".into())
    })
}
