//! The engine without threads: router, formers and lanes under a simulated clock, with a ledger that
//! is checked after every event.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::crew::{Crew, Fell, LOAD_TIMEOUT};
use super::job::Job;
use super::script::{Act, Arrival, Script};
use crate::actors::board::StageState;
use crate::actors::former::Passage;
use crate::actors::job::JobId;
use crate::actors::router::{Asker, Effect, Event, Outlook, Router};
use crate::cascade::{Condition, Exhausted, InputKind, StageIndex, StageRule, StageView, policy};
use crate::prediction::{Cause, Degraded, Prediction};

pub(super) const MAX_LENDS: u8 = 3;
const MAX_EVENTS: usize = 50_000;
const MS: Duration = Duration::from_millis(1);

/// What comes next by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Next {
    Input(usize),
    Loaded { stage: usize, lane: usize, epoch: u64 },
    Done { stage: usize, lane: usize, run: u64 },
    HangCheck { stage: usize, lane: usize, run: u64 },
    Form { stage: usize },
    Round { stage: usize },
    Deadline(u64),
    Leave(u64),
    Sweep(u64),
}

/// A fault put into the simulation itself, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
    None,
    /// What an instance held when it fell is not reported.
    LoseFallen,
    /// The dead are computed.
    KeepDead,
}

/// The stages as the router is told of them.
struct Lookout<'a> {
    crews: &'a [Crew],
    now: Instant,
}

impl Outlook for Lookout<'_> {
    fn views(&self, asker: &Asker<'_>) -> Vec<StageView> {
        self.crews.iter().map(|crew| crew.view(asker, self.now)).collect()
    }
}

/// See the module.
pub(super) struct World<'a> {
    script: &'a Script,
    pub(super) sabotage: Sabotage,
    start: Instant,
    now: Instant,
    router: Router,
    crews: Vec<Crew>,
    jobs: HashMap<u64, Rc<Job>>,
    open: usize,
    queue: BinaryHeap<Reverse<(Instant, u64, Next)>>,
    events: u64,
    trace: Option<Vec<String>>,
}

impl<'a> World<'a> {
    pub(super) fn new(script: &'a Script, sabotage: Sabotage, traced: bool) -> Self {
        let start = crate::clock::now();
        let stages = script.crews.len();
        let names = (0..stages).map(|i| format!("s{i}").into()).collect();
        let router = Router::new(
            policy("cascade", rules(stages, 0.15, 0.85), Exhausted::Last).unwrap(),
            Exhausted::Last,
            names,
            MAX_LENDS,
        );
        let crews =
            script.crews.iter().enumerate().map(|(i, crew)| Crew::new(i, *crew, start)).collect();
        let mut world = Self {
            script,
            sabotage,
            start,
            now: start,
            router,
            crews,
            jobs: HashMap::new(),
            open: 0,
            queue: BinaryHeap::new(),
            events: 0,
            trace: traced.then(Vec::new),
        };
        for (index, input) in script.inputs.iter().enumerate() {
            world.at(start + input.at, Next::Input(index));
        }
        for stage in 0..stages {
            world.at(start, Next::Round { stage });
        }
        world
    }

    /// Plays the day. The number of events, or what promise was broken.
    pub(super) fn play(&mut self) -> Result<u64, String> {
        while let Some(Reverse((at, _, next))) = self.queue.pop() {
            self.now = at;
            self.events += 1;
            if self.events as usize > MAX_EVENTS {
                return Err("the day does not end".into());
            }
            self.tell(|| format!("{next:?}"));
            self.happen(next)?;
            self.check()?;
        }
        self.check_evening()?;
        Ok(self.events)
    }

    /// What happened, event by event, if it was to be noted.
    pub(super) fn trace(&self) -> &[String] {
        self.trace.as_deref().unwrap_or_default()
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.3?} {}", self.now.duration_since(self.start), what()));
        }
    }

    fn at(&mut self, at: Instant, next: Next) {
        let number = self.events * 1000 + self.queue.len() as u64;
        self.queue.push(Reverse((at, number, next)));
    }

    fn after(&mut self, pause: Duration, next: Next) {
        self.at(self.now + pause, next);
    }

    fn happen(&mut self, next: Next) -> Result<(), String> {
        match next {
            Next::Input(index) => self.input(index),
            Next::Loaded { stage, lane, epoch } => self.loaded(stage, lane, epoch),
            Next::Done { stage, lane, run } => self.done(stage, lane, run),
            Next::HangCheck { stage, lane, run } => {
                let Some(fell) = self.crews[stage].give_up(lane, run) else { return Ok(()) };
                self.fall(stage, lane, Cause::Hang, fell)
            }
            Next::Form { stage } => self.form(stage),
            Next::Round { stage } => {
                for lane in self.crews[stage].lanes.overdue(self.now) {
                    self.fall(stage, lane, Cause::Hang, Fell::default())?;
                }
                for lane in self.crews[stage].lanes.due(self.now) {
                    let (epoch, takes) = self.crews[stage].start(lane, self.now);
                    self.after(takes, Next::Loaded { stage, lane, epoch });
                    self.after(LOAD_TIMEOUT + MS, Next::Round { stage });
                }
                Ok(())
            }
            Next::Deadline(job) => self.deadline(job),
            Next::Leave(job) => {
                self.close(job, true);
                Ok(())
            }
            Next::Sweep(job) => self.route(Event::Closed { job: JobId(job) }),
        }
    }

    fn input(&mut self, index: usize) -> Result<(), String> {
        let act = self.script.inputs[index].act.clone();
        self.tell(|| format!("  {act:?}"));
        match act {
            Act::Arrive(spec) => return self.arrive(self.script.inputs[index].id, spec),
            Act::Strike { stage, fault } => self.crews[stage].strikes.push(fault),
            Act::TooBigAbove { stage, size } => self.crews[stage].too_big_above = size,
            Act::FailLoads { stage, count, hang } => {
                (self.crews[stage].fail_loads, self.crews[stage].hang_loads) = (count, hang);
            }
            Act::LoadTime { stage, takes } => self.crews[stage].load_time = takes,
            Act::Reload { exit_below, exit_above, max_batch } => {
                let rules = rules(self.crews.len(), exit_below, exit_above);
                let policy = policy("cascade", rules, Exhausted::MostConfident).unwrap();
                self.router.retune(policy, Exhausted::MostConfident);
                self.crews.iter_mut().for_each(|crew| crew.retune(max_batch));
            }
            Act::ActorDies { stage } => return self.actor_dies(stage),
        }
        Ok(())
    }

    fn arrive(&mut self, id: u64, spec: Arrival) -> Result<(), String> {
        let (deadline, leaves) = (self.now + spec.within, spec.leaves_after);
        let job = Job::new(id, spec, deadline, self.crews.len());
        self.jobs.insert(id, Rc::new(job));
        self.open += 1;
        self.at(deadline, Next::Deadline(id));
        if let Some(leaves) = leaves {
            self.after(leaves, Next::Leave(id));
        }
        let priority = self.jobs[&id].spec.priority;
        let (job, kind) = (JobId(id), InputKind::Image);
        self.route(Event::Arrived { job, kind, priority, deadline })
    }

    /// The caller's timer: what the ticket does.
    fn deadline(&mut self, id: u64) -> Result<(), String> {
        let job = self.jobs[&id].clone();
        if job.closed.get() {
            return Ok(());
        }
        if job.has_score.get() && !job.has_best.get() {
            return Err(format!("job {id} has a score and nothing to answer at its deadline"));
        }
        job.answers.set(job.answers.get() + 1);
        self.close(id, false);
        Ok(())
    }

    fn close(&mut self, id: u64, left: bool) {
        let job = &self.jobs[&id];
        if left && job.closed.get() {
            return;
        }
        job.closed.set(true);
        self.open -= 1;
        self.after(Duration::from_millis(50), Next::Sweep(id));
    }

    fn route(&mut self, event: Event) -> Result<(), String> {
        if let Event::Returned { stage, jobs } = &event {
            for job in jobs {
                // What was never computed was not lent.
                self.jobs[&job.0].lends.borrow_mut()[*stage] -= 1;
            }
        }
        let lookout = Lookout { crews: &self.crews, now: self.now };
        for effect in self.router.on(event, &lookout, self.now) {
            self.tell(|| format!("    {}", told(&effect)));
            match effect {
                Effect::Lend { job, stage, passage, best, .. } => {
                    self.lend(job.0, stage, passage, best.is_some())?;
                }
                Effect::Answer { job, verdict } => {
                    self.answer(job.0, verdict.degraded, None)?;
                }
                Effect::Reject { job, rejection } => {
                    self.answer(job.0, None, Some(rejection.as_str()))?;
                }
            }
        }
        Ok(())
    }

    fn lend(
        &mut self,
        id: u64,
        stage: StageIndex,
        passage: Passage,
        has_best: bool,
    ) -> Result<(), String> {
        let job = self.jobs[&id].clone();
        if job.routed.get() {
            return Err(format!("job {id} is lent to s{stage} after its answer"));
        }
        if self.crews.iter().any(|crew| crew.holds(id)) {
            return Err(format!("job {id} is lent to s{stage} while another stage has it"));
        }
        if job.said.borrow()[stage] {
            return Err(format!("job {id} is lent to s{stage}, which has answered it"));
        }
        let lends = &mut job.lends.borrow_mut()[stage];
        *lends += 1;
        if *lends > MAX_LENDS {
            return Err(format!("job {id} is lent to s{stage} {lends} times"));
        }
        job.has_best.set(job.has_best.get() || has_best);
        self.crews[stage].former.push(job.clone(), passage, self.now);
        self.after(Duration::ZERO, Next::Form { stage });
        Ok(())
    }

    /// The first answer counts; who has gone hears none.
    fn answer(
        &mut self,
        id: u64,
        degraded: Option<Degraded>,
        rejected: Option<&str>,
    ) -> Result<(), String> {
        let job = self.jobs[&id].clone();
        if job.routed.replace(true) {
            return Err(format!("job {id} is answered twice"));
        }
        if job.closed.get() {
            return Ok(());
        }
        if self.now > job.deadline {
            return Err(format!("job {id} is answered late"));
        }
        if rejected.is_some() && job.has_score.get() {
            return Err(format!("job {id} is rejected although a stage has scored it"));
        }
        let is_innocent = self.script.only_poison && job.spec.poison.is_none();
        let abstained = job.spec.scores.iter().any(|score| score.is_nan());
        if is_innocent && (degraded.is_some() || rejected.is_some() && !abstained) {
            return Err(format!("job {id} pays for others: {degraded:?} {rejected:?}"));
        }
        job.answers.set(job.answers.get() + 1);
        self.close(id, false);
        Ok(())
    }

    fn loaded(&mut self, stage: usize, lane: usize, epoch: u64) -> Result<(), String> {
        match self.crews[stage].loaded(lane, epoch) {
            None => return Ok(()),
            Some(true) => self.after(Duration::ZERO, Next::Form { stage }),
            Some(false) => return self.fall(stage, lane, Cause::Load, Fell::default()),
        }
        Ok(())
    }

    /// Free instances take batches.
    fn form(&mut self, stage: usize) -> Result<(), String> {
        let keep_dead = self.sabotage == Sabotage::KeepDead;
        while let Some((lane, wait)) = self.crews[stage].take(self.now, keep_dead)? {
            match wait {
                Some(wait) => {
                    self.after(wait.max(Duration::from_micros(1)), Next::Form { stage });
                    break;
                }
                None => self.begin(stage, lane)?,
            }
        }
        Ok(())
    }

    /// The next run of what is aboard.
    fn begin(&mut self, stage: usize, lane: usize) -> Result<(), String> {
        let seed = self.script.seed;
        let Some(begun) = self.crews[stage].begin(lane, self.now, seed) else {
            self.after(Duration::ZERO, Next::Form { stage });
            return Ok(());
        };
        if let Some(takes) = begun.takes {
            self.after(takes, Next::Done { stage, lane, run: begun.run });
        }
        self.after(begun.hang_after, Next::HangCheck { stage, lane, run: begun.run });
        Ok(())
    }

    fn done(&mut self, stage: usize, lane: usize, run: u64) -> Result<(), String> {
        use super::crew::Outcome;
        let Some(outcome) = self.crews[stage].done(lane, run, self.now) else { return Ok(()) };
        match outcome {
            Outcome::Answered(jobs) => {
                let mut predictions = Vec::new();
                for job in jobs {
                    let prediction = Prediction::from_raw(job.spec.scores[stage]);
                    if self.router_has(&job, stage) {
                        job.said.borrow_mut()[stage] = true;
                        job.has_score
                            .set(job.has_score.get() || prediction.probability().is_some());
                    }
                    predictions.push((JobId(job.id), prediction));
                }
                self.route(Event::Answered { stage, predictions })?;
            }
            Outcome::Failed(cause, jobs) => {
                self.route(Event::Failed { stage, cause, jobs: ids(&jobs) })?;
            }
            Outcome::Again => {}
            Outcome::Fell(cause, fell) => return self.fall(stage, lane, cause, fell),
        }
        self.begin(stage, lane)
    }

    fn router_has(&self, job: &Job, stage: StageIndex) -> bool {
        self.router.lent_to(stage).contains(&JobId(job.id))
    }

    /// An instance is over.
    fn fall(&mut self, stage: usize, lane: usize, cause: Cause, fell: Fell) -> Result<(), String> {
        let Fell { running, waiting, during } = fell;
        self.note_fall(stage, &running)?;
        if self.sabotage != Sabotage::LoseFallen {
            self.route(Event::Failed { stage, cause, jobs: ids(&running) })?;
            self.route(Event::Returned { stage, jobs: ids(&waiting) })?;
        }
        let pause = self.crews[stage].fell(lane, during, self.now);
        self.after(pause, Next::Round { stage });
        if self.crews[stage].lanes.state() != StageState::Ready {
            let queued = self.crews[stage].former.drain();
            let jobs = queued.iter().map(|entry| JobId(entry.job.id)).collect();
            self.route(Event::Returned { stage, jobs })?;
        }
        self.after(Duration::ZERO, Next::Form { stage });
        Ok(())
    }

    /// A poison fells a stage twice, and once more where nobody else can answer it.
    fn note_fall(&self, stage: usize, running: &[Rc<Job>]) -> Result<(), String> {
        for job in running {
            let guilty = job.spec.poison.is_some_and(|(at, _)| at == stage);
            if guilty {
                let falls = &mut job.falls.borrow_mut()[stage];
                *falls += 1;
                if *falls > 3 {
                    return Err(format!("poison {} has felled s{stage} {falls} times", job.id));
                }
            }
        }
        Ok(())
    }

    fn actor_dies(&mut self, stage: usize) -> Result<(), String> {
        let (aboard, queued) = self.crews[stage].die(self.now);
        self.route(Event::Returned { stage, jobs: ids(&queued) })?;
        self.route(Event::Failed { stage, cause: Cause::Actor, jobs: ids(&aboard) })?;
        self.after(Duration::ZERO, Next::Round { stage });
        Ok(())
    }

    /// What holds after every event.
    fn check(&self) -> Result<(), String> {
        let held: usize = self.crews.iter().map(Crew::held_open).sum();
        if held != self.open {
            let open = self.open;
            return Err(format!("{open} jobs wait for an answer, the stages hold {held} of them"));
        }
        Ok(())
    }

    /// What holds once the day is over.
    fn check_evening(&self) -> Result<(), String> {
        for job in self.jobs.values() {
            let left = job.spec.leaves_after.is_some() && job.answers.get() == 0;
            if job.answers.get() != 1 && !left {
                return Err(format!("job {} was answered {} times", job.id, job.answers.get()));
            }
        }
        if !self.router.is_empty() {
            return Err(format!("the router still has {} jobs", self.router.len()));
        }
        match self.crews.iter().position(|crew| crew.lanes.state() != StageState::Ready) {
            Some(stage) => Err(format!("s{stage} has not recovered")),
            None => Ok(()),
        }
    }
}

fn rules(stages: usize, exit_below: f32, exit_above: f32) -> Vec<StageRule> {
    vec![StageRule { exit_below, exit_above, when: Condition::default() }; stages]
}

fn ids(jobs: &[Rc<Job>]) -> Vec<JobId> {
    jobs.iter().map(|job| JobId(job.id)).collect()
}

/// An effect in one line.
fn told(effect: &Effect) -> String {
    match effect {
        Effect::Lend { job, stage, passage, .. } => {
            format!("lend {} to s{stage} {passage:?}", job.0)
        }
        Effect::Answer { job, verdict } => {
            format!("answer {} {:?} {:?}", job.0, verdict.probability, verdict.degraded)
        }
        Effect::Reject { job, rejection } => format!("reject {} {rejection}", job.0),
    }
}
