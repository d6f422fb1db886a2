//! The engine: the only door into the actor system.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix::prelude::*;
use serde::{Deserialize, Serialize};

use super::board::{Board, StageState, StageStatus};
use super::job::{self, Gate, JobId, Priority, Request, Ticket};
use super::mailbox::Mailbox;
use super::router::Router;
use super::shared::StageShared;
use super::stage::{Blueprint, HangLimit, StagePlan};
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
    /// Most threads that hung and were left behind at the same time, all stages together; beyond it
    /// the process must be started again.
    pub max_hung: usize,
    /// Threads for tensors, all stages together; 0 means one per core. The program sets them up
    /// before the engine starts.
    pub threads: usize,
}

/// A running cascade. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    gate: Arc<Gate>,
    board: Arc<Board>,
    stages: Arc<[Arc<StageShared>]>,
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
        let subordinates: Vec<_> = plans
            .into_iter()
            .enumerate()
            .map(|(index, plan)| subordinate(index, plan, spec.max_in_flight))
            .collect();
        let stages = subordinates.iter().map(|stage| stage.shared.clone()).collect();
        let hang_limit = HangLimit { count: Arc::default(), most: spec.max_hung };
        let arbiter = Arbiter::new().handle();
        let supervisor =
            Supervisor::spawn(router, subordinates, board.clone(), hang_limit, &arbiter);
        let gate = Arc::new(Gate::new(spec.max_in_flight));
        let (next, entering) = (Arc::default(), Arc::default());
        Self { gate, board, stages, supervisor, next, entering, arbiter }
    }

    /// Accepts a request, or refuses it at once. An accepted request is answered exactly once, at
    /// the latest at its deadline.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`] if too many jobs are in flight, [`Rejection::TooLate`] if no answer is
    /// expected before the deadline, [`Rejection::Draining`] while shutting down,
    /// [`Rejection::Deadline`] if the deadline has passed already.
    pub fn submit(&self, request: Request) -> Result<Ticket, Rejection> {
        let admission = self.admit(request.deadline, request.priority, Duration::ZERO)?;
        self.submit_admitted(request, &admission)
    }

    /// Like [`submit`](Self::submit), for a caller that was admitted before it read and decoded the
    /// request: a drain that begins meanwhile waits for it.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), but for a drain.
    pub fn submit_admitted(&self, request: Request, _: &Admission) -> Result<Ticket, Rejection> {
        if !self.board.is_alive() || self.gate.is_shut() {
            return Err(refused(Rejection::Draining));
        }
        self.expect_in_time(request.deadline, request.priority, Duration::ZERO)?;
        self.gate.enter(request.priority).map_err(refused)?;
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
    pub fn admit(
        &self,
        deadline: Instant,
        priority: Priority,
        before: Duration,
    ) -> Result<Admission, Rejection> {
        let admission = self.reserve()?;
        self.check(deadline, priority, before)?;
        Ok(admission)
    }

    /// As [`admit`](Self::admit), for a caller that may not need a place at all, and will
    /// [`check`](Self::check) for one when it does.
    ///
    /// # Errors
    /// [`Rejection::Draining`] while shutting down; counted as a refused job.
    pub fn reserve(&self) -> Result<Admission, Rejection> {
        // Counted before the board is read, so that a drain sees whoever it did not refuse.
        let admission = Admission::new(&self.entering);
        let is_closed = self.board.is_draining() || self.board.has_doom();
        if is_closed || !self.board.is_alive() {
            return Err(refused(Rejection::Draining));
        }
        Ok(admission)
    }

    /// Whether there is a place for one more job at this moment, and time for it, if it is submitted
    /// `before` from now. Takes microseconds and asks no actor.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), but for a drain; counted as a refused job.
    pub fn check(
        &self,
        deadline: Instant,
        priority: Priority,
        before: Duration,
    ) -> Result<(), Rejection> {
        self.gate.check(priority).map_err(refused)?;
        self.expect_in_time(deadline, priority, before)
    }

    /// Refuses what no stage that it may be lent to would answer before its deadline: now, and not
    /// after work was done.
    fn expect_in_time(
        &self,
        deadline: Instant,
        priority: Priority,
        before: Duration,
    ) -> Result<(), Rejection> {
        let now = clock::now();
        let remaining = deadline.saturating_duration_since(now);
        if remaining.is_zero() {
            return Err(refused(Rejection::Deadline));
        }
        let (mut soonest, mut hopeless) = (None, true);
        for stage in self.board.entries().filter_map(|entry| self.stages.get(entry)) {
            let (_, ready, loading) = self.board.readiness(stage.index);
            let ahead = stage.mailbox.ahead_of(priority, deadline);
            let (wait, service) = stage.expected(ahead, ready, now);
            let predicted = before + wait + service + loading;
            if predicted <= remaining {
                return Ok(());
            }
            hopeless &= service > remaining;
            soonest = Some(soonest.map_or(predicted, |other: Duration| other.min(predicted)));
        }
        match soonest {
            None => Ok(()),
            // Nor would it be answered in time if nobody else were there.
            Some(_) if hopeless => Err(refused(Rejection::Deadline)),
            Some(predicted) => {
                let retry_after = predicted - remaining;
                Err(refused(Rejection::TooLate { predicted, retry_after }))
            }
        }
    }

    /// Goes on with other settings. Jobs in flight keep what they have been told; every later decision
    /// follows the new settings.
    pub fn retune(&self, tuning: Tuning) {
        self.supervisor.retune(tuning);
    }

    /// Says what the answers depend on besides the stages' own versions: the settings. To be called
    /// after [`retune`](Self::retune), never before it.
    pub fn set_settings_version(&self, version: &str) {
        self.board.set_settings_version(version);
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
        self.gate.shut();
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
        spares_ready: 0,
        epoch: 0,
        restarts: 0,
        last_fall: None,
        abandoned: 0,
        load_time: None,
        version: String::new(),
    }
}

fn subordinate(index: usize, plan: StagePlan, capacity: usize) -> Subordinate {
    let max_batch = plan.spec.batching.max_batch;
    let shared = Arc::new(StageShared::new(
        (index, &plan.name),
        Mailbox::new(capacity, plan.batching),
        plan.spec.instances + plan.spec.spares,
        (max_batch, plan.spec.hang_ms),
    ));
    let blueprint = Blueprint { spec: plan.spec, factory: plan.factory, context: plan.context };
    Subordinate { blueprint, shared, address: None }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
