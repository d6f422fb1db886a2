//! The engine: the only door into the actor system.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::*;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::board::{Board, StageState, StageStatus};
use super::instance::{Berth, StageShared};
use super::job::{self, Gate, JobId, Request, Ticket};
use super::latency::LatencyTable;
use super::mailbox::Mailbox;
use super::router::Router;
use super::stage::{Blueprint, StagePlan};
use super::supervisor::{Routing, Subordinate, Supervisor, SupervisorPort, Tuning};
use crate::clock;
use crate::metrics;
use crate::prediction::Rejection;

/// Settings: `[engine]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSpec {
    /// Most jobs in flight; beyond it, requests are refused with 429.
    pub max_in_flight: usize,
    /// How often one job is lent to one stage at most.
    pub max_lends: u8,
    /// Threads for tensors, all stages together; 0 means one per core. The program sets them up
    /// before the engine starts.
    pub threads: usize,
}

/// A running cascade. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    gate: Arc<Gate>,
    board: Arc<Board>,
    supervisor: SupervisorPort,
    next: Arc<AtomicU64>,
    /// Requests that were admitted and are still being read or decoded.
    entering: Arc<AtomicUsize>,
    arbiter: ArbiterHandle,
}

impl Engine {
    /// Starts the actors in an arbiter of their own. Must be called within an actix system; the
    /// stages load in the background, which [`Engine::board`] shows.
    pub fn start(spec: &EngineSpec, routing: Routing, plans: Vec<StagePlan>) -> Self {
        let statuses = plans.iter().map(first_status).collect();
        let board = Arc::new(Board::new(statuses));
        let names = plans.iter().map(|plan| plan.name.as_str().into()).collect();
        let router = Router::new(routing.policy, routing.exhausted, names, spec.max_lends);
        let stages = plans
            .into_iter()
            .enumerate()
            .map(|(index, plan)| subordinate(index, plan, spec.max_in_flight))
            .collect();
        let arbiter = Arbiter::new().handle();
        let supervisor = Supervisor::spawn(router, stages, board.clone(), &arbiter);
        let gate = Arc::new(Gate::new(spec.max_in_flight));
        let (next, entering) = (Arc::default(), Arc::default());
        Self { gate, board, supervisor, next, entering, arbiter }
    }

    /// Accepts a request, or refuses it at once. An accepted request is answered exactly once, at
    /// the latest at its deadline.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`] if too many jobs are in flight, [`Rejection::Draining`] while
    /// shutting down, [`Rejection::Deadline`] if the deadline has passed already.
    pub fn submit(&self, request: Request) -> Result<Ticket, Rejection> {
        self.submit_admitted(request, &self.admit()?)
    }

    /// Like [`submit`](Self::submit), for a caller that was admitted before it read and decoded the
    /// request: a drain that begins meanwhile waits for it.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), but for a drain.
    pub fn submit_admitted(&self, request: Request, _: &Admission) -> Result<Ticket, Rejection> {
        if !self.board.is_alive() {
            return Err(refused(Rejection::Draining));
        }
        if request.deadline <= clock::now() {
            return Err(refused(Rejection::Deadline));
        }
        self.gate.enter().map_err(refused)?;
        let id = JobId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let (job, ticket) = job::issue(id, request, self.gate.clone());
        self.supervisor.submit(job);
        Ok(ticket)
    }

    /// To be asked before work is spent on reading and decoding a request. Takes no place among the
    /// jobs in flight, but a drain waits until the admission is dropped.
    ///
    /// # Errors
    /// As [`submit`](Self::submit); counted as a refused job.
    pub fn admit(&self) -> Result<Admission, Rejection> {
        // Counted before the board is read, so that a drain sees whoever it did not refuse.
        let admission = Admission::new(&self.entering);
        if self.board.is_draining() || !self.board.is_alive() {
            return Err(refused(Rejection::Draining));
        }
        self.check_gate()?;
        Ok(admission)
    }

    /// Whether there is a place for one more job at this moment.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`]; counted as a refused job.
    pub fn check_gate(&self) -> Result<(), Rejection> {
        self.gate.check().map_err(refused)
    }

    /// Goes on with other settings. Jobs in flight keep what they have been told; every later decision
    /// follows the new settings.
    pub fn retune(&self, tuning: Tuning) {
        self.supervisor.retune(tuning);
    }

    /// How the stages are.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Jobs accepted and not yet answered.
    pub fn in_flight(&self) -> usize {
        self.gate.in_flight()
    }

    /// Waits until every stage is ready or down. False if that took longer than `at_most`.
    pub async fn settled(&self, at_most: Duration) -> bool {
        self.until(at_most, || self.board.is_settled()).await
    }

    /// Admits nobody any more and waits until those admitted are answered. False if some were left
    /// after `at_most`.
    pub async fn drain(&self, at_most: Duration) -> bool {
        self.board.drain();
        let entering = || self.entering.load(Ordering::SeqCst);
        // In this order: who stops entering is in flight by then.
        self.until(at_most, || entering() == 0 && self.gate.in_flight() == 0).await
    }

    /// Stops the actors. What is still in flight is rejected as draining.
    pub async fn stop(self) {
        self.board.drain();
        self.supervisor.shut_down();
        let over = || self.gate.in_flight() == 0 && self.board.is_stopped();
        self.until(Duration::from_secs(1), over).await;
        self.arbiter.stop();
    }

    async fn until(&self, at_most: Duration, done: impl Fn() -> bool) -> bool {
        let end = clock::now() + at_most;
        while !done() {
            if clock::now() >= end {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }
}

/// The right to submit one request, also if a drain begins before it is read.
#[derive(Debug)]
pub struct Admission(Arc<AtomicUsize>);

impl Admission {
    fn new(entering: &Arc<AtomicUsize>) -> Self {
        entering.fetch_add(1, Ordering::SeqCst);
        Self(entering.clone())
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counts a job that ended at the door.
fn refused(rejection: Rejection) -> Rejection {
    metrics::job_ended(rejection.as_str(), None);
    rejection
}

fn first_status(plan: &StagePlan) -> StageStatus {
    metrics::stage_born(&plan.name);
    StageStatus {
        name: plan.name.as_str().into(),
        backend: plan.spec.backend.clone(),
        state: StageState::Loading,
        since: clock::now(),
        instances_ready: 0,
        instances: plan.spec.instances,
        epoch: 0,
        restarts: 0,
        last_fall: None,
        abandoned: 0,
        load_time: None,
    }
}

fn subordinate(index: usize, plan: StagePlan, capacity: usize) -> Subordinate {
    let max_batch = plan.spec.batching.max_batch;
    let shared = Arc::new(StageShared {
        index,
        name: plan.name.as_str().into(),
        mailbox: Mailbox::new(capacity, plan.batching),
        latency: Mutex::new(LatencyTable::new(max_batch)),
        learned: Mutex::new(None),
        max_batch: AtomicUsize::new(max_batch),
        limit: AtomicUsize::new(max_batch),
        hang_ms: AtomicU64::new(plan.spec.hang_ms),
        epochs: AtomicU64::new(0),
        berths: (0..plan.spec.instances).map(|_| Berth::default()).collect(),
    });
    let blueprint = Blueprint { spec: plan.spec, factory: plan.factory, context: plan.context };
    Subordinate { blueprint, shared, address: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::batching::rule;
    use crate::actors::{Priority, StageSpec};
    use crate::backends::{BackendContext, Input, Registry};
    use crate::cascade::{Condition, Exhausted, StageRule, policy};
    use crate::image::Image;

    const LONG: Duration = Duration::from_secs(30);

    fn engine() -> Engine {
        let spec = StageSpec { backend: "scripted".into(), ..StageSpec::default() };
        let stage = StageRule { exit_below: 0.15, exit_above: 0.85, when: Condition::default() };
        let context = BackendContext {
            stage: "actor-crash".into(),
            max_batch: spec.batching.max_batch,
            settings: "answer = 0.9\nbase_ms = 100".parse().unwrap(),
        };
        let plan = StagePlan {
            name: "a".into(),
            rule: stage.clone(),
            factory: Registry::default().get("scripted").unwrap(),
            batching: rule(&spec.batching).unwrap(),
            context,
            spec,
        };
        let policy = policy("cascade", vec![stage], Exhausted::Last).unwrap();
        let routing = Routing { policy, exhausted: Exhausted::Last };
        let spec = EngineSpec { max_in_flight: 64, max_lends: 3, threads: 0 };
        Engine::start(&spec, routing, vec![plan])
    }

    #[actix::test]
    async fn jobs_outlive_the_actor_of_their_stage() {
        let engine = engine();
        assert!(engine.settled(LONG).await);
        let image = std::sync::Arc::new(Image::from_rgb(1, 1, vec![0; 3]).unwrap());
        let request = || Request {
            input: Input::Image(image.clone()),
            deadline: clock::now() + LONG,
            priority: Priority::Normal,
        };
        // Some aboard, some queued behind them.
        let tickets: Vec<_> = (0..20).map(|_| engine.submit(request()).unwrap()).collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        engine.supervisor.crash_stage(0);
        for ticket in tickets {
            let verdict = ticket.wait().await.unwrap();
            assert_eq!(verdict.degraded, None);
        }
        assert!(engine.board().is_alive(), "the supervisor outlives a stage");
        assert_eq!(engine.board().stages()[0].state, StageState::Ready);
        engine.stop().await;
    }
}
