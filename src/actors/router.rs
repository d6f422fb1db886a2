//! The supervisor's mind: what happens to each job, as a pure state machine.
//!
//! ```text
//! Arrived ──▶ [policy] ──Ask──▶ lent to a stage ──Answered / Failed──▶ [policy] ──▶ …
//!                 └──Answer / GiveUp──▶ out
//! ```
//!
//! `on(event, stages, now)` returns effects; the supervisor carries them out. There is no clock,
//! no channel and no image here, so a property test can play it any stream of events.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::former::Passage;
use super::job::{JobId, Priority};
use super::suspicion::Suspicion;
use crate::cascade::{
    Exhausted, GiveUp, InputKind, JobView, RoutingPolicy, StageIndex, StageView, Step, best_so_far,
};
use crate::prediction::{Cause, Hop, HopOutcome, Prediction, Rejection, StageName, Verdict};

/// Who asks how the stages are.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Who is served first.
    pub priority: Priority,
    /// When its answer must be there.
    pub deadline: Instant,
    /// Falls of each stage with this job aboard: where there was one, it goes before all others.
    pub felled: &'a [u8],
}

/// How the stages are, as far as a job is concerned.
pub trait Outlook {
    /// Each stage, in order.
    fn views(&self, asker: &Asker<'_>) -> Vec<StageView>;
}

/// The same for everybody.
impl<const N: usize> Outlook for [StageView; N] {
    fn views(&self, _: &Asker<'_>) -> Vec<StageView> {
        self.to_vec()
    }
}

impl Outlook for Vec<StageView> {
    fn views(&self, _: &Asker<'_>) -> Vec<StageView> {
        self.clone()
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A job was accepted.
    Arrived {
        /// Which.
        job: JobId,
        /// What it carries.
        kind: InputKind,
        /// Who is served first.
        priority: Priority,
        /// When its answer must be there.
        deadline: Instant,
    },
    /// A stage finished a batch.
    Answered {
        /// Which stage.
        stage: StageIndex,
        /// What it said of each job aboard.
        predictions: Vec<(JobId, Prediction)>,
    },
    /// A batch came back without predictions, or its instance fell.
    Failed {
        /// Which stage.
        stage: StageIndex,
        /// Why.
        cause: Cause,
        /// The jobs that were aboard.
        jobs: Vec<JobId>,
    },
    /// Queued jobs come back without having been computed: their stage has gone down.
    Returned {
        /// Which stage.
        stage: StageIndex,
        /// The jobs that were queued.
        jobs: Vec<JobId>,
    },
    /// A job was answered elsewhere (its deadline struck) or its caller left.
    Closed {
        /// Which.
        job: JobId,
    },
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Put the job into a stage's mailbox.
    Lend {
        /// Which job.
        job: JobId,
        /// Which stage.
        stage: StageIndex,
        /// With or without batch-mates.
        passage: Passage,
        /// The stage that answered before, if this is an escalation.
        from: Option<StageIndex>,
        /// What to answer should the deadline strike meanwhile.
        best: Option<Verdict>,
    },
    /// Answer the job.
    Answer {
        /// Which job.
        job: JobId,
        /// With what.
        verdict: Verdict,
    },
    /// Tell the caller that there is no answer.
    Reject {
        /// Which job.
        job: JobId,
        /// Why.
        rejection: Rejection,
    },
}

/// Where a job has been.
#[derive(Clone, Debug)]
struct Walk {
    kind: InputKind,
    priority: Priority,
    deadline: Instant,
    hops: Vec<(StageIndex, Hop)>,
    lends: Vec<u8>,
    felled: Vec<u8>,
    closed: Vec<bool>,
    /// It was aboard when an instance fell, and no stage has answered since.
    suspect: bool,
    /// The stage that it is taken for poison at.
    convicted: Option<StageIndex>,
    /// The stage that has tried it once more, although it is taken for poison there.
    last_chance: Option<StageIndex>,
    at: Option<(StageIndex, Instant)>,
    /// Where it was lent last.
    last: Option<StageIndex>,
}

impl Walk {
    fn new(kind: InputKind, priority: Priority, deadline: Instant, stages: usize) -> Self {
        Self {
            kind,
            priority,
            deadline,
            hops: Vec::new(),
            lends: vec![0; stages],
            felled: vec![0; stages],
            closed: vec![false; stages],
            suspect: false,
            convicted: None,
            last_chance: None,
            at: None,
            last: None,
        }
    }

    fn asker(&self) -> Asker<'_> {
        Asker { priority: self.priority, deadline: self.deadline, felled: &self.felled }
    }

    fn view(&self, now: Instant) -> JobView<'_> {
        JobView {
            kind: self.kind,
            hops: &self.hops,
            closed: &self.closed,
            remaining: self.deadline.saturating_duration_since(now),
        }
    }
}

/// The state machine.
pub struct Router {
    policy: Box<dyn RoutingPolicy>,
    exhausted: Exhausted,
    stages: Vec<StageName>,
    max_lends: u8,
    suspicions: Vec<Suspicion>,
    jobs: HashMap<JobId, Walk>,
}

impl Router {
    /// A router over these stages, in the order of the cascade.
    pub fn new(
        policy: Box<dyn RoutingPolicy>,
        exhausted: Exhausted,
        stages: Vec<StageName>,
        max_lends: u8,
    ) -> Self {
        let suspicions = vec![Suspicion::default(); stages.len()];
        Self { policy, exhausted, stages, max_lends, suspicions, jobs: HashMap::new() }
    }

    /// Decides by another policy from now on.
    pub fn retune(&mut self, policy: Box<dyn RoutingPolicy>, exhausted: Exhausted) {
        self.policy = policy;
        self.exhausted = exhausted;
    }

    /// Jobs that are on their way.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether no job is on its way.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The jobs that are with this stage.
    pub fn lent_to(&self, stage: StageIndex) -> Vec<JobId> {
        let there = |walk: &Walk| walk.at.is_some_and(|(at, _)| at == stage);
        self.jobs.iter().filter(|(_, walk)| there(walk)).map(|(job, _)| *job).collect()
    }

    /// The stages that a job of this kind would be lent to if it arrived now: the first, and those that
    /// would stand in for it.
    pub fn entries(&self, kind: InputKind, stages: &dyn Outlook, now: Instant) -> Vec<StageIndex> {
        let far = now + Duration::from_secs(3600);
        let mut walk = Walk::new(kind, Priority::Normal, far, self.stages.len());
        let views = stages.views(&walk.asker());
        let mut entries = Vec::new();
        while let Step::Ask(stage) = self.policy.next(&walk.view(now), &views) {
            if walk.closed.get(stage).copied().unwrap_or(true) {
                break;
            }
            walk.closed[stage] = true;
            entries.push(stage);
        }
        entries
    }

    /// Decides. `stages` tells how each stage is at this moment.
    pub fn on(&mut self, event: Event, stages: &dyn Outlook, now: Instant) -> Vec<Effect> {
        match event {
            Event::Arrived { job, kind, priority, deadline } => {
                let walk = Walk::new(kind, priority, deadline, self.stages.len());
                self.jobs.insert(job, walk);
                self.advance(job, stages, now).into_iter().collect()
            }
            Event::Answered { stage, predictions } => {
                let size = predictions.len();
                let mut effects = Vec::with_capacity(size);
                self.note_batch(stage, false, now);
                for (job, prediction) in predictions {
                    if self.record(job, stage, HopOutcome::Predicted(prediction), (size, now)) {
                        effects.extend(self.advance(job, stages, now));
                    }
                }
                effects
            }
            Event::Failed { stage, cause, jobs } => {
                let size = jobs.len();
                let mut effects = Vec::with_capacity(size);
                if costs_a_restart(cause) && size > 0 {
                    self.note_batch(stage, true, now);
                }
                for job in jobs {
                    if self.record(job, stage, HopOutcome::Failed(cause), (size, now)) {
                        effects.extend(self.advance(job, stages, now));
                    }
                }
                effects
            }
            Event::Returned { stage, jobs } => {
                let mut effects = Vec::with_capacity(jobs.len());
                for job in jobs {
                    if self.take_back(job, stage) {
                        effects.extend(self.advance(job, stages, now));
                    }
                }
                effects
            }
            Event::Closed { job } => {
                self.jobs.remove(&job);
                Vec::new()
            }
        }
    }

    /// Undoes the lending of a job that was never computed. False if it is not there (any more).
    fn take_back(&mut self, job: JobId, stage: StageIndex) -> bool {
        let Some(walk) = self.jobs.get_mut(&job) else { return false };
        let there = walk.at.take_if(|(at, _)| *at == stage).is_some();
        if there {
            walk.lends[stage] = walk.lends[stage].saturating_sub(1);
            walk.last_chance.take_if(|at| *at == stage);
        }
        there
    }

    /// Notes what came of lending `job` to `stage`. False if the job is not there (any more): an
    /// answer from an instance that had been given up.
    fn record(
        &mut self,
        job: JobId,
        stage: StageIndex,
        outcome: HopOutcome,
        (batch_size, now): (usize, Instant),
    ) -> bool {
        let Some(walk) = self.jobs.get_mut(&job) else { return false };
        let Some((_, since)) = walk.at.take_if(|(at, _)| *at == stage) else { return false };
        let suspicion = &mut self.suspicions[stage];
        let felled = matches!(&outcome, HopOutcome::Failed(cause) if is_felling(*cause));
        let is_answer = matches!(&outcome, HopOutcome::Predicted(_));
        if walk.last_chance == Some(stage) && (felled || is_answer) {
            suspicion.on_last_chance(felled, now);
        }
        match &outcome {
            HopOutcome::Predicted(_) => {
                walk.closed[stage] = true;
                walk.suspect = false;
            }
            HopOutcome::Failed(cause) => {
                walk.suspect |= felled;
                walk.felled[stage] += u8::from(felled);
                let elsewhere = walk.convicted.is_some_and(|there| there != stage);
                let alone = batch_size == 1;
                if felled && walk.felled[stage] >= suspicion.tolerance(alone, elsewhere) {
                    walk.convicted = walk.convicted.or(Some(stage));
                    walk.closed[stage] = true;
                }
                walk.closed[stage] |= *cause == Cause::TooBig && batch_size == 1;
                walk.closed[stage] |= walk.lends[stage] >= self.max_lends;
            }
        }
        let latency = now.saturating_duration_since(since);
        let name = self.stages[stage].clone();
        walk.hops.push((stage, Hop { stage: name, outcome, latency, batch_size }));
        true
    }

    /// Asks the policy for a job's next step.
    fn advance(&mut self, job: JobId, stages: &dyn Outlook, now: Instant) -> Option<Effect> {
        let walk = self.jobs.get(&job)?;
        let views = stages.views(&walk.asker());
        match self.policy.next(&walk.view(now), &views) {
            Step::Ask(stage) if !walk.closed.get(stage).copied().unwrap_or(true) => {
                self.lend(job, stage, now)
            }
            Step::Ask(stage) => {
                // A policy that asks a closed stage would go round for ever.
                let detail =
                    format!("the routing policy asked stage {stage} of a job closed to it");
                self.jobs.remove(&job);
                Some(Effect::Reject { job, rejection: Rejection::Internal(detail) })
            }
            Step::Answer { probability, stage, degraded } => {
                let trace = trace(&walk.hops);
                self.jobs.remove(&job);
                let Some(stage) = self.stages.get(stage).cloned() else {
                    let detail = format!("the routing policy answered for stage {stage}");
                    return Some(Effect::Reject { job, rejection: Rejection::Internal(detail) });
                };
                let verdict = Verdict { probability, stage, degraded, trace };
                Some(Effect::Answer { job, verdict })
            }
            Step::GiveUp(GiveUp::Deadline) => {
                self.jobs.remove(&job);
                Some(Effect::Reject { job, rejection: Rejection::Deadline })
            }
            Step::GiveUp(GiveUp::NoStage) => {
                if let Some(stage) = self.last_chance(job, &views, now) {
                    return self.lend(job, stage, now);
                }
                let detail = self.explain(job, &views);
                self.jobs.remove(&job);
                Some(Effect::Reject { job, rejection: Rejection::Unavailable { detail } })
            }
        }
    }

    /// Puts a job into a stage's hands.
    fn lend(&mut self, job: JobId, stage: StageIndex, now: Instant) -> Option<Effect> {
        let walk = self.jobs.get_mut(&job)?;
        let best = best_so_far(&walk.view(now), self.exhausted).map(|(by, probability)| Verdict {
            probability,
            stage: self.stages[by].clone(),
            degraded: None,
            trace: trace(&walk.hops),
        });
        let answered = |(_, hop): &&(StageIndex, Hop)| hop.is_answer();
        // Not again, should it come back from there without having been computed.
        let again = walk.last.replace(stage) == Some(stage);
        let from = walk.hops.last().filter(answered).map(|(before, _)| *before);
        let from = from.filter(|_| !again);
        let passage = if walk.felled[stage] > 0 {
            Passage::Retry
        } else if walk.suspect || self.suspicions[stage].is_open() {
            Passage::Alone
        } else {
            Passage::Shared
        };
        walk.lends[stage] += 1;
        walk.at = Some((stage, now));
        Some(Effect::Lend { job, stage, passage, from, best })
    }

    /// The stage that may try a job once more although the job is taken for poison there: only where
    /// the alternative is no answer at all, and no other stage has fallen with it.
    fn last_chance(
        &mut self,
        job: JobId,
        stages: &[StageView],
        now: Instant,
    ) -> Option<StageIndex> {
        let walk = self.jobs.get_mut(&job)?;
        let stage = walk.convicted.filter(|stage| {
            stages.get(*stage).is_some_and(|view| view.available)
                && walk.lends[*stage] < self.max_lends
                && walk.last_chance.is_none()
                && walk.felled.iter().filter(|falls| **falls > 0).count() == 1
                && self.suspicions[*stage].grants_last_chance(now)
        })?;
        walk.last_chance = Some(stage);
        Some(stage)
    }

    fn note_batch(&mut self, stage: StageIndex, fell: bool, now: Instant) {
        if let Some(suspicion) = self.suspicions.get_mut(stage) {
            suspicion.on_batch(fell, now);
        }
    }

    /// Why no stage could answer, for people.
    fn explain(&self, job: JobId, stages: &[StageView]) -> String {
        let hops = self.jobs.get(&job).map(|walk| walk.hops.as_slice()).unwrap_or_default();
        let told: Vec<_> = self
            .stages
            .iter()
            .zip(stages)
            .enumerate()
            .map(|(index, (name, view))| {
                let said = hops
                    .iter()
                    .rev()
                    .find(|(stage, _)| *stage == index)
                    .map(|(_, hop)| &hop.outcome);
                match said {
                    Some(HopOutcome::Failed(cause)) => {
                        format!("{name} failed on this image ({cause})")
                    }
                    Some(HopOutcome::Predicted(_)) => format!("{name} abstained"),
                    None if view.available => format!("{name} was not asked"),
                    None => format!("{name} is down"),
                }
            })
            .collect();
        told.join(", ")
    }
}

/// Whether this may be the doing of one image aboard.
fn is_felling(cause: Cause) -> bool {
    cause == Cause::Broken || costs_a_restart(cause)
}

/// Whether it ends the instance as well.
fn costs_a_restart(cause: Cause) -> bool {
    matches!(cause, Cause::Panic | Cause::WrongCount | Cause::Hang)
}

fn trace(hops: &[(StageIndex, Hop)]) -> Vec<Hop> {
    hops.iter().map(|(_, hop)| hop.clone()).collect()
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
