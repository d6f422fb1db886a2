//! A stage's actor: starts its instances, notices when they fall or hang, starts them again.
//!
//! It never sees an image and never computes. What to do after a fall is decided by
//! [`super::restart`]; where the fallen instance's jobs go, by the supervisor.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix::prelude::*;
use serde::{Deserialize, Serialize};

use super::batching::{BatchingRule, BatchingSpec};
use super::board::{Board, StageState};
use super::instance::{Instance, Listener, StageShared, ids};
use super::job::JobId;
use super::restart::{Plan, RestartSpec, Restarts};
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
    /// A batch that takes longer than this counts as hung, in milliseconds.
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

/// One place for an instance.
#[derive(Clone, Copy, Debug)]
enum Lane {
    Loading { epoch: u64, since: Instant },
    Ready { epoch: u64 },
    Resting { until: Instant, down: bool },
}

/// The actor.
pub(crate) struct Stage {
    blueprint: Blueprint,
    shared: Arc<StageShared>,
    board: Arc<Board>,
    supervisor: SupervisorPort,
    lanes: Vec<Lane>,
    /// The history of each lane: an instance that cannot live beside its neighbour must not be
    /// forgiven for what the neighbour does.
    restarts: Vec<Restarts>,
    progress_seen: Vec<u64>,
    abandoned: usize,
    waiting: Arc<AtomicUsize>,
}

impl Stage {
    pub(crate) fn new(
        blueprint: Blueprint,
        shared: Arc<StageShared>,
        board: Arc<Board>,
        supervisor: SupervisorPort,
    ) -> Self {
        let at_once = Lane::Resting { until: clock::now(), down: false };
        let lanes = vec![at_once; blueprint.spec.instances];
        let history = |lane| {
            let seed = (shared.index * 1000 + lane) as u64;
            Restarts::new(blueprint.spec.restart.clone(), seed)
        };
        let restarts = (0..lanes.len()).map(history).collect();
        let progress_seen = vec![0; lanes.len()];
        Self {
            blueprint,
            shared,
            board,
            supervisor,
            lanes,
            restarts,
            progress_seen,
            abandoned: 0,
            waiting: Arc::default(),
        }
    }

    /// Starts an instance in a lane.
    fn start(&mut self, lane: usize, address: &Addr<Self>) {
        let epoch = self.shared.epochs.fetch_add(1, Ordering::AcqRel) + 1;
        self.shared.berths[lane].assign(epoch);
        let listener = StageListener {
            stage: address.clone(),
            supervisor: self.supervisor.clone(),
            index: self.shared.index,
            waiting: self.waiting.clone(),
            lane,
            epoch,
        };
        let instance = Instance {
            lane,
            epoch,
            shared: self.shared.clone(),
            factory: self.blueprint.factory.clone(),
            context: self.blueprint.context.clone(),
            listener: Box::new(listener),
        };
        self.lanes[lane] = Lane::Loading { epoch, since: clock::now() };
        if let Err(error) = instance.spawn() {
            self.fall(lane, Cause::Load, format!("no thread: {error}"));
        }
        self.publish();
    }

    /// An instance is over: plans the next start.
    fn fall(&mut self, lane: usize, cause: Cause, detail: String) {
        let progress = self.shared.berths[lane].progress();
        if progress != self.progress_seen[lane] {
            self.progress_seen[lane] = progress;
            self.restarts[lane].on_progress();
        }
        let now = clock::now();
        let plan = self.restarts[lane].on_fall(now);
        tracing::warn!(stage = %self.shared.name, lane, %cause, detail, ?plan, "an instance fell");
        if cause != Cause::Load {
            metrics::batch_failed(&self.shared.name, cause);
        }
        metrics::restart(&self.shared.name, cause);
        self.lanes[lane] = match plan {
            Plan::Restart(pause) => Lane::Resting { until: now + pause, down: false },
            Plan::Down(pause) => Lane::Resting { until: now + pause, down: true },
        };
        self.board.update(self.shared.index, |status| {
            status.restarts += 1;
            status.last_fall = Some((cause, detail));
        });
        self.publish();
        if self.state() == StageState::Down {
            // Nobody will take what is queued; the cascade goes round this stage.
            let queued: Vec<_> = self.shared.mailbox.drain().into_iter().map(|e| e.job).collect();
            let jobs = ids(&queued);
            self.supervisor.report(Report::Returned { stage: self.shared.index, jobs });
        }
    }

    /// Gives up an instance that makes no progress. A thread cannot be killed: it is left behind,
    /// and whatever it still says is ignored.
    fn abandon(&mut self, lane: usize, detail: String) {
        let epoch = self.shared.epochs.fetch_add(1, Ordering::AcqRel) + 1;
        let aboard = self.shared.berths[lane].assign(epoch);
        self.abandoned += 1;
        metrics::abandoned_threads(&self.shared.name, self.abandoned);
        let abandoned = self.abandoned;
        self.board.update(self.shared.index, |status| status.abandoned = abandoned);
        let (stage, cause) = (self.shared.index, Cause::Hang);
        let jobs = aboard.map(|aboard| ids(&aboard.jobs)).unwrap_or_default();
        self.supervisor.report(Report::Failed { stage, cause, jobs });
        self.fall(lane, cause, detail);
    }

    /// Looks after every lane.
    fn round(&mut self, address: &Addr<Self>) {
        let now = clock::now();
        let hang = Duration::from_millis(self.shared.hang_ms.load(Ordering::Acquire));
        let load_timeout = Duration::from_millis(self.blueprint.spec.load_timeout_ms);
        for lane in 0..self.lanes.len() {
            match self.lanes[lane] {
                Lane::Resting { until, .. } if now >= until => self.start(lane, address),
                Lane::Loading { since, .. } if now.duration_since(since) > load_timeout => {
                    self.abandon(lane, format!("not loaded after {load_timeout:?}"));
                }
                Lane::Ready { .. } => {
                    let since = self.shared.berths[lane].busy_since();
                    if since.is_some_and(|since| now.saturating_duration_since(since) > hang) {
                        self.abandon(lane, format!("no answer for {hang:?}"));
                    }
                }
                _ => {}
            }
        }
        metrics::queue_depth(&self.shared.name, self.shared.mailbox.len());
    }

    fn is_current(&self, lane: usize, epoch: u64) -> bool {
        match self.lanes.get(lane) {
            Some(Lane::Loading { epoch: current, .. } | Lane::Ready { epoch: current }) => {
                *current == epoch
            }
            _ => false,
        }
    }

    fn state(&self) -> StageState {
        let any = |test: fn(&Lane) -> bool| self.lanes.iter().any(test);
        if any(|lane| matches!(lane, Lane::Ready { .. })) {
            return StageState::Ready;
        }
        // An attempt during the cool-off does not make a stage that is down look alive.
        let was_down = self.board.state(self.shared.index) == StageState::Down;
        if was_down || self.lanes.iter().all(|l| matches!(l, Lane::Resting { down: true, .. })) {
            return StageState::Down;
        }
        let loaded_before = self.shared.berths.iter().any(|berth| berth.progress() > 0)
            || any(|lane| matches!(lane, Lane::Resting { .. }));
        if loaded_before { StageState::Restarting } else { StageState::Loading }
    }

    /// Tells the board and the metrics.
    fn publish(&self) {
        let state = self.state();
        let ready = self.lanes.iter().filter(|l| matches!(l, Lane::Ready { .. })).count();
        let epoch = self.shared.epochs.load(Ordering::Acquire);
        self.board.update(self.shared.index, |status| {
            if status.state != state {
                status.state = state;
                status.since = clock::now();
            }
            status.instances_ready = ready;
            status.epoch = epoch;
        });
        metrics::stage_state(&self.shared.name, ready, epoch);
    }
}

impl Actor for Stage {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        metrics::batch_limit(&self.shared.name, self.shared.limit.load(Ordering::Acquire));
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
    Ready { load_time: Duration },
    Fell { cause: Cause, detail: String },
}

impl Handler<FromInstance> for Stage {
    type Result = ();

    fn handle(&mut self, message: FromInstance, _ctx: &mut Context<Self>) {
        let begun = clock::now();
        let waiting = self.waiting.fetch_sub(1, Ordering::AcqRel) - 1;
        let FromInstance { lane, epoch, what } = message;
        if self.is_current(lane, epoch) {
            match what {
                What::Ready { load_time } => {
                    self.lanes[lane] = Lane::Ready { epoch };
                    let index = self.shared.index;
                    self.board.update(index, |status| status.load_time = Some(load_time));
                    tracing::info!(stage = %self.shared.name, lane, ?load_time, "ready");
                    self.publish();
                }
                What::Fell { cause, detail } => self.fall(lane, cause, detail),
            }
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
    fn ready(&self, load_time: Duration) {
        self.tell(What::Ready { load_time });
    }

    fn answered(&self, predictions: Vec<(JobId, Prediction)>) {
        self.supervisor.report(Report::Answered { stage: self.index, predictions });
    }

    fn failed(&self, cause: Cause, jobs: Vec<JobId>) {
        self.supervisor.report(Report::Failed { stage: self.index, cause, jobs });
    }

    fn fell(&self, cause: Cause, detail: String) {
        self.tell(What::Fell { cause, detail });
    }
}
