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

/// After so many good batches the batch limit recovers by one.
const RECOVER_AFTER: usize = 16;

/// What a stage's instances, its actor and the supervisor share.
pub(crate) struct StageShared {
    pub(crate) index: usize,
    pub(crate) name: StageName,
    pub(crate) mailbox: Mailbox<Arc<Job>>,
    pub(crate) latency: Mutex<LatencyTable>,
    pub(crate) max_batch: usize,
    /// Largest batch at present.
    pub(crate) limit: AtomicUsize,
    /// Batches that ended in predictions, over all incarnations.
    pub(crate) progress: AtomicU64,
    pub(crate) epochs: AtomicU64,
    pub(crate) berths: Vec<Berth>,
}

impl StageShared {
    fn shrink(&self, failed_size: usize) {
        let limit = (failed_size / 2).max(1);
        self.limit.fetch_min(limit, Ordering::AcqRel);
        metrics::batch_limit(&self.name, self.limit.load(Ordering::Acquire));
    }

    fn grow(&self) {
        let grown = |n: usize| (n < self.max_batch).then_some(n + 1);
        if let Ok(before) = self.limit.fetch_update(Ordering::AcqRel, Ordering::Acquire, grown) {
            metrics::batch_limit(&self.name, before + 1);
        }
    }

    /// Predicted waiting plus computing time of a job that entered now.
    pub(crate) fn predicted(&self, ready: usize) -> Duration {
        let limit = self.limit.load(Ordering::Acquire);
        let table = self.latency.lock();
        let Some(full) = table.mean(limit) else { return Duration::ZERO };
        let own = table.bound(1).unwrap_or(full);
        drop(table);
        let batches_ahead = self.mailbox.len() / limit.max(1);
        let busy = self.berths.iter().filter(|berth| berth.busy_since().is_some()).count();
        let turns = (batches_ahead + busy) / ready.max(1);
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
    /// The instance is over.
    fn fell(&self, cause: Cause, detail: String, jobs: Vec<JobId>);
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
            Err(detail) => return self.listener.fell(Cause::Load, detail, Vec::new()),
        };
        self.listener.ready(clock::now().saturating_duration_since(born));
        let fall = self.work(&mut *backend);
        // A backend that panics while it is dropped must not take the thread's report with it.
        let dropped = guarded(|| drop(backend));
        if let Some(Fall { cause, detail, jobs }) = fall {
            self.listener.fell(cause, detail, jobs);
        } else if let Err(detail) = dropped {
            tracing::warn!(stage = %self.shared.name, detail, "the backend panicked when dropped");
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
                    self.shared.progress.fetch_add(1, Ordering::AcqRel);
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
                self.shared.latency.lock().observe(inputs.len(), took);
                let abstained = predictions.iter().filter(|p| p.probability().is_none()).count();
                metrics::batch_done(&self.shared.name, inputs.len(), took, abstained);
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
