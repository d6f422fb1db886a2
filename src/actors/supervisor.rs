//! The supervisor's actor: a thin shell around the [`Router`].
//!
//! It turns messages into events, carries out the router's effects, and starts a stage's actor
//! again should one die. It decides nothing. If it dies itself, the board says so, what is in
//! flight is answered with the best so far, and the process must end with 70.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::board::Board;
use super::instance::ids;
use super::job::{Job, JobId};
use super::killpoint;
use super::router::{Asker, Effect, Event, Outlook, Router};
use super::shared::{Glance, StageShared};
use super::stage::{Blueprint, HangLimit, Stage, StageTuning, Stop};
use crate::cascade::{Exhausted, InputKind, RoutingPolicy, StageIndex, StageView};
use crate::clock;
use crate::metrics;
use crate::prediction::{Cause, Prediction, Rejection};

/// How often jobs that ended elsewhere are forgotten.
const SWEEP: Duration = Duration::from_millis(50);

/// What the engine routes with.
pub struct Routing {
    /// Where jobs go.
    pub policy: Box<dyn RoutingPolicy>,
    /// What to answer when nobody was sure; used for the best so far.
    pub exhausted: Exhausted,
}

/// What can change while an engine runs.
pub struct Tuning {
    /// What it routes with.
    pub routing: Routing,
    /// Each stage, in the order of the cascade.
    pub stages: Vec<StageTuning>,
}

/// What stages and instances tell the supervisor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Report {
    /// A batch ended in predictions.
    Answered { stage: StageIndex, predictions: Vec<(JobId, Prediction)> },
    /// Queued jobs are given back: nobody will take them.
    Returned { stage: StageIndex, jobs: Vec<JobId> },
    /// A batch did not end in predictions.
    Failed { stage: StageIndex, cause: Cause, jobs: Vec<JobId> },
    /// A stage's actor died.
    StageDied { stage: StageIndex },
}

/// A new job.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Submit(pub(crate) Arc<Job>);

/// Other settings.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Retune(Tuning);

/// Stops every stage.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Shutdown;

/// The way to the supervisor; counts the messages under way.
#[derive(Clone)]
pub(crate) struct SupervisorPort {
    address: Addr<Supervisor>,
    waiting: Arc<AtomicUsize>,
}

impl SupervisorPort {
    pub(crate) fn report(&self, report: Report) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.address.do_send(report);
    }

    /// The gate bounds how many of these can be under way.
    pub(crate) fn submit(&self, job: Arc<Job>) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.address.do_send(Submit(job));
    }

    pub(crate) fn retune(&self, tuning: Tuning) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.address.do_send(Retune(tuning));
    }

    pub(crate) fn shut_down(&self) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.address.do_send(Shutdown);
    }
}

/// The actor.
pub(crate) struct Supervisor {
    router: Router,
    jobs: HashMap<JobId, Arc<Job>>,
    stages: Vec<Subordinate>,
    board: Arc<Board>,
    hang_limit: HangLimit,
    /// What jobs have carried so far.
    kinds: Vec<InputKind>,
    waiting: Arc<AtomicUsize>,
    ending: bool,
}

/// A stage under the supervisor's care.
pub(crate) struct Subordinate {
    pub(crate) blueprint: Blueprint,
    pub(crate) shared: Arc<StageShared>,
    pub(crate) address: Option<Addr<Stage>>,
}

/// How the stages are at this moment, as the router is told.
struct Lookout<'a>(Vec<Sight<'a>>);

struct Sight<'a> {
    shared: &'a StageShared,
    available: bool,
    ready: usize,
    loading: Duration,
    glance: Glance,
}

impl<'a> Lookout<'a> {
    fn new(stages: &'a [Subordinate], board: &Board, now: Instant) -> Self {
        let look = |(index, stage): (usize, &'a Subordinate)| {
            let (state, ready, loading) = board.readiness(index);
            let (shared, glance) = (&*stage.shared, stage.shared.glance(now));
            Sight { shared, available: state.takes_jobs(), ready, loading, glance }
        };
        Self(stages.iter().enumerate().map(look).collect())
    }
}

impl Outlook for Lookout<'_> {
    fn views(&self, asker: &Asker<'_>) -> Vec<StageView> {
        let view = |(index, sight): (usize, &Sight<'_>)| {
            let is_retry = asker.felled.get(index).is_some_and(|falls| *falls > 0);
            let mailbox = &sight.shared.mailbox;
            let ahead = if is_retry { 0 } else { mailbox.ahead_of(asker.priority, asker.deadline) };
            let predicted = sight.shared.predicted(&sight.glance, ahead, sight.ready);
            StageView { available: sight.available, predicted: predicted + sight.loading }
        };
        self.0.iter().enumerate().map(view).collect()
    }
}

impl Supervisor {
    /// Starts the supervisor and its stages in an arbiter of their own.
    pub(crate) fn spawn(
        router: Router,
        stages: Vec<Subordinate>,
        board: Arc<Board>,
        hang_limit: HangLimit,
        arbiter: &ArbiterHandle,
    ) -> SupervisorPort {
        let waiting = Arc::new(AtomicUsize::new(0));
        let counter = waiting.clone();
        let address = Self::start_in_arbiter(arbiter, move |_| Self {
            router,
            jobs: HashMap::new(),
            stages,
            board,
            hang_limit,
            kinds: Vec::new(),
            waiting,
            ending: false,
        });
        SupervisorPort { address, waiting: counter }
    }

    fn start_stage(&mut self, index: StageIndex, port: SupervisorPort) {
        let Some(stage) = self.stages.get_mut(index) else { return };
        let (blueprint, shared) = (stage.blueprint.clone(), stage.shared.clone());
        let actor =
            Stage::new(blueprint, shared, self.board.clone(), port, self.hang_limit.clone());
        stage.address = Some(actor.start());
    }

    fn port(&self, ctx: &Context<Self>) -> SupervisorPort {
        SupervisorPort { address: ctx.address(), waiting: self.waiting.clone() }
    }

    /// Feeds the router and carries out what it says.
    fn on(&mut self, event: Event) {
        if let Some(first) = self.stages.first() {
            killpoint::reach("supervisor.routing", &first.shared.name);
        }
        let now = clock::now();
        let outlook = Lookout::new(&self.stages, &self.board, now);
        let effects = self.router.on(event, &outlook, now);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Lend { job, stage, passage, from, best } => {
                let Some(lent) = self.jobs.get(&job) else { return };
                if let Some(best) = best {
                    lent.slot.improve(best);
                }
                if let Some(from) = from {
                    metrics::escalation(&self.stages[from].shared.name);
                }
                let shared = &self.stages[stage].shared;
                if shared.mailbox.push(lent.clone(), passage, clock::now()).is_err() {
                    // The gate admits no more jobs than a mailbox holds.
                    let detail = format!("the mailbox of {} overflowed", shared.name);
                    let rejection = Rejection::Internal(detail);
                    self.on(Event::Closed { job });
                    self.carry_out(Effect::Reject { job, rejection });
                }
            }
            Effect::Answer { job, verdict } => {
                let Some(done) = self.jobs.remove(&job) else { return };
                done.slot.answer(Ok(verdict));
            }
            Effect::Reject { job, rejection } => {
                if let Some(done) = self.jobs.remove(&job) {
                    done.slot.answer(Err(rejection));
                }
            }
        }
    }

    /// Forgets jobs whose deadline struck or whose caller left, and tells the door where jobs go first.
    fn sweep(&mut self) {
        let closed: Vec<_> =
            self.jobs.values().filter(|j| j.slot.is_closed()).map(|j| j.id).collect();
        for job in closed {
            self.jobs.remove(&job);
            self.on(Event::Closed { job });
        }
        let now = clock::now();
        let outlook = Lookout::new(&self.stages, &self.board, now);
        let kinds = self.kinds.iter();
        let entries: Vec<_> =
            kinds.flat_map(|kind| self.router.entries(*kind, &outlook, now)).collect();
        self.board.set_entries(&entries);
    }

    fn stage_died(&mut self, index: StageIndex, port: SupervisorPort) {
        tracing::error!(stage = %self.stages[index].shared.name, "the stage's actor died");
        let shared = self.stages[index].shared.clone();
        metrics::restart(&shared.name, Cause::Actor);
        let queued: Vec<_> = shared.mailbox.drain().into_iter().map(|e| e.job).collect();
        let mut jobs = Vec::new();
        for berth in &shared.berths {
            // Nobody watches what still runs there; should it hang, it is counted already.
            let busy = berth.busy().and_then(|_| berth.let_go());
            if busy.and_then(|lease| lease.abandon()).is_some() {
                metrics::abandoned_threads(&shared.name, 1.0);
            }
            let (running, waiting) =
                berth.assign(shared.next_epoch()).map(|aboard| aboard.split()).unwrap_or_default();
            jobs.extend(running.into_iter().chain(waiting));
        }
        shared.mailbox.wake_all();
        self.start_stage(index, port);
        self.on(Event::Returned { stage: index, jobs: ids(&queued) });
        let jobs = ids(&jobs);
        self.on(Event::Failed { stage: index, cause: Cause::Actor, jobs });
        // What the dead actor had been told and not passed on.
        let stranded = self.router.lent_to(index);
        let queued: Vec<_> = shared.mailbox.ids();
        let jobs = stranded.into_iter().filter(|job| !queued.contains(job)).collect();
        self.on(Event::Failed { stage: index, cause: Cause::Actor, jobs });
    }

    fn timed(&mut self, work: impl FnOnce(&mut Self)) {
        let begun = clock::now();
        let waiting = self.waiting.fetch_sub(1, Ordering::AcqRel) - 1;
        work(self);
        let took = clock::now().saturating_duration_since(begun);
        metrics::actor_event("supervisor", took, waiting);
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        for index in 0..self.stages.len() {
            let port = self.port(ctx);
            self.start_stage(index, port);
        }
        ctx.run_interval(SWEEP, |supervisor, _| supervisor.sweep());
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if !self.ending {
            self.board.supervisor_died();
        }
    }
}

impl Handler<Submit> for Supervisor {
    type Result = ();

    fn handle(&mut self, Submit(job): Submit, _: &mut Context<Self>) {
        self.timed(|supervisor| {
            if job.slot.is_closed() {
                return;
            }
            let kind = job.request.input.kind();
            if !supervisor.kinds.contains(&kind) {
                supervisor.kinds.push(kind);
            }
            let arrived = Event::Arrived {
                job: job.id,
                kind,
                priority: job.request.priority,
                deadline: job.request.deadline,
            };
            supervisor.jobs.insert(job.id, job);
            supervisor.on(arrived);
        });
    }
}

impl Handler<Report> for Supervisor {
    type Result = ();

    fn handle(&mut self, report: Report, ctx: &mut Context<Self>) {
        let port = self.port(ctx);
        self.timed(|supervisor| match report {
            Report::Answered { stage, predictions } => {
                supervisor.on(Event::Answered { stage, predictions });
            }
            Report::Returned { stage, jobs } => supervisor.on(Event::Returned { stage, jobs }),
            Report::Failed { stage, cause, jobs } => {
                supervisor.on(Event::Failed { stage, cause, jobs });
            }
            Report::StageDied { stage } if !supervisor.ending => {
                supervisor.stage_died(stage, port);
            }
            Report::StageDied { .. } => {}
        });
    }
}

impl Handler<Retune> for Supervisor {
    type Result = ();

    fn handle(&mut self, Retune(tuning): Retune, _: &mut Context<Self>) {
        self.timed(|supervisor| {
            let Tuning { routing, stages } = tuning;
            supervisor.router.retune(routing.policy, routing.exhausted);
            for (stage, tuning) in supervisor.stages.iter().zip(stages) {
                stage.shared.retune(tuning.max_batch, tuning.hang_ms);
                stage.shared.mailbox.set_rule(tuning.batching);
            }
        });
    }
}

impl Handler<Shutdown> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Shutdown, ctx: &mut Context<Self>) {
        self.ending = true;
        for stage in &self.stages {
            if let Some(address) = &stage.address {
                address.do_send(Stop);
            }
        }
        for (_, job) in self.jobs.drain() {
            job.slot.answer(Err(Rejection::Draining));
        }
        ctx.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a stage's actor panic.
    #[derive(Message)]
    #[rtype(result = "()")]
    struct Crash;

    impl Handler<Crash> for Stage {
        type Result = ();

        fn handle(&mut self, _: Crash, _: &mut Context<Self>) {
            panic!("a stage's actor crashes on command");
        }
    }

    /// Passes the command on.
    #[derive(Message)]
    #[rtype(result = "()")]
    struct CrashStage(StageIndex);

    impl Handler<CrashStage> for Supervisor {
        type Result = ();

        fn handle(&mut self, CrashStage(index): CrashStage, _: &mut Context<Self>) {
            if let Some(address) = &self.stages[index].address {
                address.do_send(Crash);
            }
        }
    }

    impl SupervisorPort {
        /// Makes the actor of a stage panic.
        pub(crate) fn crash_stage(&self, index: StageIndex) {
            self.address.do_send(CrashStage(index));
        }
    }
}
