//! A stage's actor: starts its instances, notices when they fall or hang, starts them again.
//!
//! A thin shell around [`Lanes`]. It never sees an image and never computes. What to do after a fall
//! is decided by the lanes; where the fallen instance's jobs go, by the supervisor.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::*;
use serde::{Deserialize, Serialize};

use super::batching::{BatchingRule, BatchingSpec};
use super::berth::Aboard;
use super::board::{Board, Doom, StageState};
use super::former::Passage;
use super::instance::{Fall, Instance, Listener, ids};
use super::job::JobId;
use super::killpoint;
use super::lanes::{Duty, LaneSpec, Lanes};
use super::lease::Lease;
use super::restart::{During, RestartSpec};
use super::shared::StageShared;
use super::supervisor::{Report, SupervisorPort};
use crate::backends::{BackendContext, Factory};
use crate::cascade::StageRule;
use crate::clock;
use crate::metrics;
use crate::prediction::{Cause, Prediction};

/// How often a stage looks after its instances.
const ROUND: Duration = Duration::from_millis(10);

/// Settings: `[stages.NAME]`, without the keys of the cascade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StageSpec {
    /// Name of the backend.
    pub backend: String,
    /// How many instances run side by side.
    pub instances: usize,
    /// How many more are loaded and stand by, to take over when one falls.
    pub spares: usize,
    /// A batch that takes longer than this counts as hung, in milliseconds. Once it is known how long
    /// batches take, a fraction of it may do.
    pub hang_ms: u64,
    /// A backend that takes longer than this to load counts as hung, in milliseconds.
    pub load_timeout_ms: u64,
    /// How batches are formed.
    pub batching: BatchingSpec,
    /// When a fallen instance is started again.
    pub restart: RestartSpec,
}

impl Default for StageSpec {
    fn default() -> Self {
        Self {
            backend: String::new(),
            instances: 1,
            spares: 0,
            hang_ms: 5_000,
            load_timeout_ms: 120_000,
            batching: BatchingSpec::default(),
            restart: RestartSpec::default(),
        }
    }
}

/// A stage as the engine is given it.
pub struct StagePlan {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub spec: StageSpec,
    /// When its scores end the walk, and when it is asked.
    pub rule: StageRule,
    /// Builds its backend.
    pub factory: Factory,
    /// What the factory is given.
    pub context: BackendContext,
    /// How its batches are formed.
    pub batching: Box<dyn BatchingRule>,
}

/// What of a stage can change while it serves.
pub struct StageTuning {
    /// How its batches are formed.
    pub batching: Box<dyn BatchingRule>,
    /// Largest batch; at most what the stage was started with, since its backend was built for that.
    pub max_batch: usize,
    /// A batch that takes longer than this counts as hung, in milliseconds.
    pub hang_ms: u64,
}

/// What the actor keeps of the plan.
#[derive(Clone)]
pub(crate) struct Blueprint {
    pub(crate) spec: StageSpec,
    pub(crate) factory: Factory,
    pub(crate) context: BackendContext,
}

/// The bound on threads that hung and were left behind, all stages together.
#[derive(Clone)]
pub(crate) struct HangLimit {
    pub(crate) count: Arc<AtomicUsize>,
    pub(crate) most: usize,
}

/// The actor.
pub(crate) struct Stage {
    blueprint: Blueprint,
    shared: Arc<StageShared>,
    board: Arc<Board>,
    supervisor: SupervisorPort,
    hang_limit: HangLimit,
    lanes: Lanes,
    progress_seen: Vec<u64>,
    /// What each lane's backend said of its version when it was loaded.
    versions: Vec<String>,
    waiting: Arc<AtomicUsize>,
}

impl Stage {
    pub(crate) fn new(
        blueprint: Blueprint,
        shared: Arc<StageShared>,
        board: Arc<Board>,
        supervisor: SupervisorPort,
        hang_limit: HangLimit,
    ) -> Self {
        let spec = &blueprint.spec;
        let lane_spec = LaneSpec {
            instances: spec.instances,
            spares: spec.spares,
            load_timeout: Duration::from_millis(spec.load_timeout_ms),
            restart: spec.restart.clone(),
        };
        let lanes = Lanes::new(lane_spec, shared.index as u64 * 1000, clock::now());
        let progress_seen: Vec<_> = shared.berths.iter().map(|berth| berth.progress()).collect();
        Self {
            lanes,
            blueprint,
            shared,
            board,
            supervisor,
            hang_limit,
            versions: vec![String::new(); progress_seen.len()],
            progress_seen,
            waiting: Arc::default(),
        }
    }

    /// Starts an instance in a lane.
    fn start(&mut self, lane: usize, address: &Addr<Self>) {
        let epoch = self.shared.next_epoch();
        self.shared.berths[lane].assign(epoch);
        let listener = StageListener {
            stage: address.clone(),
            supervisor: self.supervisor.clone(),
            index: self.shared.index,
            waiting: self.waiting.clone(),
            lane,
            epoch,
        };
        let lease = Lease::new(self.hang_limit.count.clone());
        self.shared.berths[lane].hire(lease.clone());
        let instance = Instance {
            lane,
            epoch,
            shared: self.shared.clone(),
            factory: self.blueprint.factory.clone(),
            context: self.blueprint.context.clone(),
            listener: Box::new(listener),
            lease,
        };
        self.lanes.started(lane, epoch, clock::now());
        if let Err(error) = instance.spawn() {
            let detail = format!("no thread: {error}");
            self.fall(lane, During::Load, Fall::without_jobs(Cause::Load, detail));
        }
        self.publish();
    }

    /// An instance has loaded.
    fn loaded(&mut self, (lane, epoch): (usize, u64), load_time: Duration, version: String) {
        killpoint::reach("stage.ready", &self.shared.name);
        let Some(duty) = self.lanes.loaded(lane, epoch) else { return };
        self.versions[lane] = version;
        let mut versions: Vec<_> =
            self.versions.iter().filter(|v| !v.is_empty()).cloned().collect();
        versions.sort();
        versions.dedup();
        let (index, versions) = (self.shared.index, versions.join(","));
        self.board.update(index, |status| {
            status.load_time = Some(load_time);
            status.version = versions;
        });
        tracing::info!(stage = %self.shared.name, lane, ?load_time, ?duty, "loaded");
        if duty == Duty::Work {
            self.shared.berths[lane].call();
        }
        self.publish();
    }

    /// An instance is over: plans the next start.
    fn fall(&mut self, lane: usize, during: During, fall: Fall) {
        killpoint::reach("stage.fall", &self.shared.name);
        let Fall { cause, detail, .. } = fall;
        let progress = self.shared.berths[lane].progress();
        let progressed = std::mem::replace(&mut self.progress_seen[lane], progress) != progress;
        let fallen = self.lanes.fell(lane, during, progressed, clock::now());
        let plan = fallen.plan;
        tracing::warn!(stage = %self.shared.name, lane, %cause, detail, ?plan, "an instance fell");
        // A broken backend's batches were counted when it reported them.
        if !matches!(cause, Cause::Load | Cause::Broken) {
            metrics::batch_failed(&self.shared.name, cause);
        }
        metrics::restart(&self.shared.name, cause);
        if let Some(spare) = fallen.called {
            self.shared.berths[spare].call();
        }
        self.board.update(self.shared.index, |status| {
            status.restarts += 1;
            status.last_fall = Some((cause, detail));
        });
        if cause == Cause::DeviceLost {
            self.lanes.stop();
            self.board.doom(Doom::DeviceLost);
        }
        self.publish();
        self.return_queue();
    }

    /// While nobody works here, what is queued may be better off elsewhere: the cascade decides again.
    fn return_queue(&self) {
        if self.lanes.state() != StageState::Ready {
            let queued: Vec<_> = self.shared.mailbox.drain().into_iter().map(|e| e.job).collect();
            let jobs = ids(&queued);
            self.supervisor.report(Report::Returned { stage: self.shared.index, jobs });
        }
    }

    /// An instance takes no more batches: a spare takes over before its backend is dropped.
    fn leaving(&mut self, lane: usize, epoch: u64) {
        if let Some(spare) = self.lanes.left(lane, epoch) {
            self.shared.berths[spare].call();
        }
        self.publish();
    }

    /// Gives up an instance that makes no progress. A thread cannot be killed: it is left behind,
    /// and whatever it still says is ignored.
    fn abandon(&mut self, lane: usize, aboard: Option<Aboard>, detail: String) {
        let lease = self.shared.berths[lane].let_go();
        if let Some(count) = lease.and_then(|lease| lease.abandon()) {
            metrics::abandoned_threads(&self.shared.name, 1.0);
            if count > self.hang_limit.most {
                self.lanes.stop();
                self.board.doom(Doom::TooManyHung);
            }
        }
        self.board.update(self.shared.index, |status| status.abandoned += 1);
        let (stage, cause) = (self.shared.index, Cause::Hang);
        let passage = aboard.as_ref().map_or(Passage::Shared, |aboard| aboard.passage);
        let (running, waiting) = aboard.map(Aboard::split).unwrap_or_default();
        let during = if running.is_empty() { During::Load } else { during(passage) };
        self.supervisor.report(Report::Failed { stage, cause, jobs: ids(&running) });
        self.supervisor.report(Report::Returned { stage, jobs: ids(&waiting) });
        self.fall(lane, during, Fall { cause, detail, passage });
    }

    /// Looks after every lane.
    fn round(&mut self, address: &Addr<Self>) {
        killpoint::reach("stage.round", &self.shared.name);
        let now = clock::now();
        for lane in self.lanes.due(now) {
            self.start(lane, address);
        }
        for lane in self.lanes.overdue(now) {
            let limit = self.blueprint.spec.load_timeout_ms;
            let aboard = self.shared.berths[lane].assign(self.shared.next_epoch());
            self.abandon(lane, aboard, format!("not loaded after {limit} ms"));
        }
        for lane in self.lanes.watched() {
            let Some(busy) = self.shared.berths[lane].busy() else { continue };
            let limit = self.shared.hang_after(busy.pictures);
            if now.saturating_duration_since(busy.since) <= limit {
                continue;
            }
            let epoch = self.shared.next_epoch();
            let Some(aboard) = self.shared.berths[lane].give_up(epoch, busy.since) else {
                continue;
            };
            self.shared.forget(busy.pictures);
            self.abandon(lane, Some(aboard), format!("no answer for {limit:?}"));
        }
        metrics::queue_depth(&self.shared.name, self.shared.mailbox.len());
    }

    /// Tells the board and the metrics.
    fn publish(&self) {
        let (state, ready) = (self.lanes.state(), self.lanes.working().len());
        let spares = self.lanes.spares();
        let epoch = self.shared.epochs.load(Ordering::Acquire);
        self.board.update(self.shared.index, |status| {
            if status.state != state {
                status.state = state;
                status.since = clock::now();
            }
            status.instances_ready = ready;
            status.spares_ready = spares;
            status.epoch = epoch;
        });
        metrics::stage_state(&self.shared.name, ready, epoch);
    }
}

/// What an instance was doing whose jobs travelled like this.
fn during(passage: Passage) -> During {
    match passage {
        Passage::Shared => During::Work,
        Passage::Alone => During::Alone,
        Passage::Retry => During::Retry,
    }
}

impl Actor for Stage {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        metrics::batch_limit(&self.shared.name, self.shared.limit());
        self.round(&ctx.address());
        ctx.run_interval(ROUND, |stage, ctx| stage.round(&ctx.address()));
    }
}

impl Drop for Stage {
    /// An actor that goes away without having been stopped has panicked.
    fn drop(&mut self) {
        if self.board.state(self.shared.index) != StageState::Stopped {
            self.supervisor.report(Report::StageDied { stage: self.shared.index });
        }
    }
}

/// What an instance tells its stage.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FromInstance {
    lane: usize,
    epoch: u64,
    what: What,
}

enum What {
    Ready { load_time: Duration, version: String },
    Leaving,
    Fell(Fall),
}

impl Handler<FromInstance> for Stage {
    type Result = ();

    fn handle(&mut self, message: FromInstance, _ctx: &mut Context<Self>) {
        let begun = clock::now();
        let waiting = self.waiting.fetch_sub(1, Ordering::AcqRel) - 1;
        let FromInstance { lane, epoch, what } = message;
        match what {
            What::Ready { load_time, version } => {
                self.loaded((lane, epoch), load_time, version);
            }
            What::Leaving => self.leaving(lane, epoch),
            What::Fell(fall) if self.lanes.is_current(lane, epoch) => {
                let during = match fall.cause {
                    Cause::Load | Cause::Actor => During::Load,
                    _ => during(fall.passage),
                };
                self.fall(lane, during, fall);
            }
            What::Fell(_) => {}
        }
        let took = clock::now().saturating_duration_since(begun);
        metrics::actor_event(&self.shared.name, took, waiting);
    }
}

/// Stops the stage: instances end after their current batch; what is queued is routed again.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

impl Handler<Stop> for Stage {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        let queued: Vec<_> = self.shared.mailbox.close().into_iter().map(|e| e.job).collect();
        let stage = self.shared.index;
        for berth in &self.shared.berths {
            berth.dismiss();
        }
        self.supervisor.report(Report::Returned { stage, jobs: ids(&queued) });
        self.board.update(stage, |status| status.state = StageState::Stopped);
        ctx.stop();
    }
}

/// Carries an instance's words to its stage (about itself) and to the supervisor (about jobs).
struct StageListener {
    stage: Addr<Stage>,
    supervisor: SupervisorPort,
    index: usize,
    waiting: Arc<AtomicUsize>,
    lane: usize,
    epoch: u64,
}

impl StageListener {
    fn tell(&self, what: What) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.stage.do_send(FromInstance { lane: self.lane, epoch: self.epoch, what });
    }
}

impl Listener for StageListener {
    fn ready(&self, load_time: Duration, version: String) {
        self.tell(What::Ready { load_time, version });
    }

    fn answered(&self, predictions: Vec<(JobId, Prediction)>) {
        self.supervisor.report(Report::Answered { stage: self.index, predictions });
    }

    fn failed(&self, cause: Cause, jobs: Vec<JobId>) {
        if !jobs.is_empty() {
            self.supervisor.report(Report::Failed { stage: self.index, cause, jobs });
        }
    }

    fn returned(&self, jobs: Vec<JobId>) {
        if !jobs.is_empty() {
            self.supervisor.report(Report::Returned { stage: self.index, jobs });
        }
    }

    fn leaving(&self) {
        self.tell(What::Leaving);
    }

    fn fell(&self, fall: Fall) {
        self.tell(What::Fell(fall));
    }
}
