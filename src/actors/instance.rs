//! An instance: one OS thread that runs one backend.
//!
//! Takes batches from its stage's mailbox until the mailbox closes, the backend falls, or it is
//! given up. The jobs stay in the instance's [`Berth`], shared with the stage's actor; only images
//! are lent to the backend, so a backend that panics or hangs takes no job with it.
//!
//! Must not know: what the stage is for, or where a job goes next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::job::{Job, JobId};
use super::latency::LatencyTable;
use super::mailbox::{Batch, Mailbox};
use crate::backends::{Backend, BackendContext, BackendError, Factory, Fault, Input};
use crate::clock;
use crate::metrics;
use crate::prediction::{Cause, Prediction, StageName};

/// An idle stage that has computed nothing for so long is asked as if it cost nothing: what was
/// learned may be out of date, and a stage that is never asked never learns better.
const STALE: Duration = Duration::from_secs(5);

/// After so many good batches the batch limit recovers by one.
const RECOVER_AFTER: usize = 16;

/// What a stage's instances, its actor and the supervisor share.
pub(crate) struct StageShared {
    pub(crate) index: usize,
    pub(crate) name: StageName,
    pub(crate) mailbox: Mailbox<Arc<Job>>,
    pub(crate) latency: Mutex<LatencyTable>,
    /// When the latency table last learned something.
    pub(crate) learned: Mutex<Option<Instant>>,
    /// Largest batch that the settings allow.
    pub(crate) max_batch: AtomicUsize,
    /// Largest batch at present.
    pub(crate) limit: AtomicUsize,
    pub(crate) epochs: AtomicU64,
    pub(crate) berths: Vec<Berth>,
    /// A batch that takes longer than this counts as hung, in milliseconds.
    pub(crate) hang_ms: AtomicU64,
}

impl StageShared {
    fn shrink(&self, failed_size: usize) {
        let limit = (failed_size / 2).max(1);
        self.limit.fetch_min(limit, Ordering::AcqRel);
        metrics::batch_limit(&self.name, self.limit.load(Ordering::Acquire));
    }

    fn grow(&self) {
        let most = self.max_batch.load(Ordering::Acquire);
        let grown = |n: usize| (n < most).then_some(n + 1);
        if let Ok(before) = self.limit.fetch_update(Ordering::AcqRel, Ordering::Acquire, grown) {
            metrics::batch_limit(&self.name, before + 1);
        }
    }

    /// Takes other limits from now on.
    pub(crate) fn retune(&self, max_batch: usize, hang_ms: u64) {
        self.max_batch.store(max_batch, Ordering::Release);
        self.limit.store(max_batch, Ordering::Release);
        self.hang_ms.store(hang_ms, Ordering::Release);
        metrics::batch_limit(&self.name, max_batch);
    }

    /// Predicted waiting plus computing time of a job that entered at `now`.
    pub(crate) fn predicted(&self, ready: usize, now: Instant) -> Duration {
        let limit = self.limit.load(Ordering::Acquire);
        let busy = self.berths.iter().filter(|berth| berth.busy_since().is_some()).count();
        let queued = self.mailbox.len();
        let fresh = |at: Instant| now.saturating_duration_since(at) < STALE;
        if busy == 0 && queued == 0 && !self.learned.lock().is_some_and(fresh) {
            return Duration::ZERO;
        }
        let table = self.latency.lock();
        let Some(full) = table.mean(limit) else { return Duration::ZERO };
        let own = table.bound(1).unwrap_or(full);
        drop(table);
        let turns = (queued / limit.max(1) + busy) / ready.max(1);
        own + full * u32::try_from(turns).unwrap_or(u32::MAX)
    }
}

/// The jobs that are aboard an instance.
#[derive(Debug)]
pub(crate) struct Aboard {
    pub(crate) jobs: Vec<Arc<Job>>,
    since: Instant,
}

/// Where an instance's jobs are kept. Whoever holds the current epoch may load and unload; an
/// instance that was given up finds its epoch out of date and touches nothing.
#[derive(Debug, Default)]
pub(crate) struct Berth {
    state: Mutex<BerthState>,
    /// Batches that ended in predictions here, over all incarnations.
    progress: AtomicU64,
}

#[derive(Debug, Default)]
struct BerthState {
    epoch: u64,
    aboard: Option<Aboard>,
}

impl Berth {
    /// Hands the berth to a new incarnation; what the old one held comes back.
    pub(crate) fn assign(&self, epoch: u64) -> Option<Aboard> {
        let mut state = self.state.lock();
        state.epoch = epoch;
        state.aboard.take()
    }

    /// Batches that ended in predictions here, over all incarnations.
    pub(crate) fn progress(&self) -> u64 {
        self.progress.load(Ordering::Acquire)
    }

    /// When the batch aboard was begun, if there is one.
    pub(crate) fn busy_since(&self) -> Option<Instant> {
        self.state.lock().aboard.as_ref().map(|aboard| aboard.since)
    }

    fn is(&self, epoch: u64) -> bool {
        self.state.lock().epoch == epoch
    }

    fn board(&self, epoch: u64, jobs: Vec<Arc<Job>>) -> Result<(), Vec<Arc<Job>>> {
        let mut state = self.state.lock();
        if state.epoch != epoch {
            return Err(jobs);
        }
        state.aboard = Some(Aboard { jobs, since: clock::now() });
        Ok(())
    }

    fn unload(&self, epoch: u64) -> Option<Aboard> {
        let mut state = self.state.lock();
        if state.epoch == epoch { state.aboard.take() } else { None }
    }
}

/// What an instance tells its stage and the supervisor.
pub(crate) trait Listener: Send {
    /// It is built and warm.
    fn ready(&self, load_time: Duration);
    /// A batch ended in predictions.
    fn answered(&self, predictions: Vec<(JobId, Prediction)>);
    /// A batch ended without predictions; the instance goes on.
    fn failed(&self, cause: Cause, jobs: Vec<JobId>);
    /// The instance is over; its jobs have been given back.
    fn fell(&self, cause: Cause, detail: String);
}

/// Everything an instance needs to live.
pub(crate) struct Instance {
    pub(crate) lane: usize,
    pub(crate) epoch: u64,
    pub(crate) shared: Arc<StageShared>,
    pub(crate) factory: Factory,
    pub(crate) context: BackendContext,
    pub(crate) listener: Box<dyn Listener>,
}

/// Why an instance's life ended.
struct Fall {
    cause: Cause,
    detail: String,
    jobs: Vec<JobId>,
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
            Err(detail) => return self.listener.fell(Cause::Load, detail),
        };
        self.listener.ready(clock::now().saturating_duration_since(born));
        let berth = &self.shared.berths[self.lane];
        // A batching rule is a researcher's code too.
        let fall = guarded(|| self.work(&mut *backend)).unwrap_or_else(|detail| {
            let jobs = berth.unload(self.epoch).map(|aboard| ids(&aboard.jobs));
            Some(Fall { cause: Cause::Panic, detail, jobs: jobs.unwrap_or_default() })
        });
        if let Some(Fall { cause, jobs, .. }) = &fall {
            self.listener.failed(*cause, jobs.clone());
        }
        // Dropping a backend may panic or hang as well. The jobs are out of its reach by now, and
        // the berth counts as busy meanwhile, so that a hang is noticed.
        let watched = berth.board(self.epoch, Vec::new()).is_ok();
        let dropped = guarded(|| drop(backend));
        let abandoned = watched && berth.unload(self.epoch).is_none();
        if let Err(detail) = dropped {
            tracing::warn!(stage = %self.shared.name, detail, "the backend panicked when dropped");
        }
        if let Some(Fall { cause, detail, .. }) = fall
            && !abandoned
        {
            self.listener.fell(cause, detail);
        }
    }

    fn load(&self) -> Result<Box<dyn Backend>, String> {
        let built = guarded(|| {
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

    /// Takes batches until there are no more, or until the backend falls.
    fn work(&self, backend: &mut dyn Backend) -> Option<Fall> {
        let berth = &self.shared.berths[self.lane];
        let mut good_batches = 0_usize;
        loop {
            let limit = self.shared.limit.load(Ordering::Acquire);
            let over = || !berth.is(self.epoch);
            let batch = self.shared.mailbox.take(limit, &self.shared.latency, &over)?;
            self.note_taken(&batch);
            let jobs: Vec<_> = batch.entries.into_iter().map(|entry| entry.job).collect();
            if jobs.is_empty() {
                continue;
            }
            let inputs: Vec<Input> = jobs.iter().map(|job| job.request.input.clone()).collect();
            if let Err(jobs) = berth.board(self.epoch, jobs) {
                self.listener.failed(Cause::Actor, ids(&jobs));
                return None;
            }
            let outcome = self.infer(backend, &inputs);
            let Some(aboard) = berth.unload(self.epoch) else {
                metrics::late_answer(&self.shared.name);
                return None;
            };
            let jobs = ids(&aboard.jobs);
            match outcome {
                Ok(predictions) => {
                    good_batches += 1;
                    if good_batches.is_multiple_of(RECOVER_AFTER) {
                        self.shared.grow();
                    }
                    berth.progress.fetch_add(1, Ordering::AcqRel);
                    self.listener.answered(jobs.into_iter().zip(predictions).collect());
                }
                Err((cause @ (Cause::Retry | Cause::TooBig), detail)) => {
                    tracing::warn!(stage = %self.shared.name, %cause, detail, "a batch failed");
                    metrics::batch_failed(&self.shared.name, cause);
                    self.listener.failed(cause, jobs);
                }
                Err((cause, detail)) => return Some(Fall { cause, detail, jobs }),
            }
        }
    }

    /// Runs a batch; one that is too big is halved and run again, down to single inputs.
    fn infer(
        &self,
        backend: &mut dyn Backend,
        inputs: &[Input],
    ) -> Result<Vec<Prediction>, (Cause, String)> {
        let begun = clock::now();
        let result = guarded(|| backend.infer(inputs));
        let took = clock::now().saturating_duration_since(begun);
        match result {
            Err(panic) => Err((Cause::Panic, panic)),
            Ok(Ok(predictions)) if predictions.len() == inputs.len() => {
                self.note_done(&predictions, took);
                Ok(predictions)
            }
            Ok(Ok(predictions)) => {
                let (said, asked) = (predictions.len(), inputs.len());
                Err((Cause::WrongCount, format!("{said} predictions for {asked} inputs")))
            }
            Ok(Err(BackendError { fault: Fault::TooBig, .. })) if inputs.len() > 1 => {
                metrics::batch_failed(&self.shared.name, Cause::TooBig);
                self.shared.shrink(inputs.len());
                let (left, right) = inputs.split_at(inputs.len() / 2);
                let mut predictions = self.infer(backend, left)?;
                predictions.extend(self.infer(backend, right)?);
                Ok(predictions)
            }
            Ok(Err(error)) => Err((error.fault.into(), format!("{:#}", error.source))),
        }
    }

    /// Learns from a batch, unless the instance was given up meanwhile: what a hang took says
    /// nothing of the next batch.
    fn note_done(&self, predictions: &[Prediction], took: Duration) {
        if !self.shared.berths[self.lane].is(self.epoch) {
            return;
        }
        self.shared.latency.lock().observe(predictions.len(), took);
        *self.shared.learned.lock() = Some(clock::now());
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
