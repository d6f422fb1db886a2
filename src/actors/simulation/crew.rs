//! A stage without threads: the real lanes, former and latency table around backends that do what the
//! script says.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::job::Job;
use super::script::Fault;
use crate::actors::batching::{BatchingSpec, Rules};
use crate::actors::board::StageState;
use crate::actors::former::{Dropped, Formed, Former, Passage};
use crate::actors::lanes::{Duty, LaneSpec, Lanes};
use crate::actors::latency::{Crowd, LatencyTable};
use crate::actors::restart::{During, Plan, RestartSpec};
use crate::actors::router::Asker;
use crate::cascade::StageView;
use crate::prediction::Cause;

const MAX_BATCH: usize = 8;
const HANG: Duration = Duration::from_millis(500);
pub(super) const LOAD_TIMEOUT: Duration = Duration::from_secs(20);

/// What came of a run.
pub(super) enum Outcome {
    Answered(Vec<Rc<Job>>),
    Failed(Cause, Vec<Rc<Job>>),
    /// The same jobs run again in parts.
    Again,
    Fell(Cause, Fell),
}

/// What an instance left behind.
pub(super) struct Fell {
    pub(super) running: Vec<Rc<Job>>,
    pub(super) waiting: Vec<Rc<Job>>,
    pub(super) during: During,
}

impl Default for Fell {
    fn default() -> Self {
        Self { running: Vec::new(), waiting: Vec::new(), during: During::Load }
    }
}

/// A run that has begun. `takes` is absent if it never ends.
pub(super) struct Begun {
    pub(super) run: u64,
    pub(super) takes: Option<Duration>,
    pub(super) hang_after: Duration,
}

/// What one instance has aboard.
#[derive(Default)]
struct Hand {
    epoch: u64,
    jobs: VecDeque<Rc<Job>>,
    runs: Vec<usize>,
    running: usize,
    run: u64,
    since: Option<Instant>,
    fault: Option<Fault>,
    passage: Option<Passage>,
    broken: usize,
    progressed: bool,
}

impl Hand {
    fn leave(&mut self) -> (Vec<Rc<Job>>, Vec<Rc<Job>>) {
        let mut running: Vec<_> = self.jobs.drain(..).collect();
        let waiting = running.split_off(self.running.min(running.len()));
        self.runs.clear();
        self.running = 0;
        self.run += 1;
        self.since = None;
        (running, waiting)
    }
}

/// See the module.
pub(super) struct Crew {
    index: usize,
    spec: LaneSpec,
    pub(super) lanes: Lanes,
    pub(super) former: Former<Rc<Job>>,
    pub(super) strikes: Vec<Fault>,
    pub(super) too_big_above: usize,
    pub(super) fail_loads: u32,
    pub(super) hang_loads: bool,
    pub(super) load_time: Duration,
    latency: LatencyTable,
    limit: usize,
    hands: Vec<Hand>,
    epoch: u64,
}

impl Crew {
    pub(super) fn new(index: usize, (instances, spares): (usize, usize), now: Instant) -> Self {
        let load_timeout = LOAD_TIMEOUT;
        let spec = LaneSpec { instances, spares, load_timeout, restart: RestartSpec::default() };
        let lanes = Lanes::new(spec.clone(), index as u64 * 1000, now);
        Self {
            hands: (0..lanes.len()).map(|_| Hand::default()).collect(),
            index,
            lanes,
            spec,
            former: Former::new(rule(MAX_BATCH)),
            strikes: Vec::new(),
            too_big_above: 0,
            fail_loads: 0,
            hang_loads: false,
            load_time: Duration::from_millis(50),
            latency: LatencyTable::new(MAX_BATCH),
            limit: MAX_BATCH,
            epoch: 0,
        }
    }

    pub(super) fn view(&self, asker: &Asker<'_>, now: Instant) -> StageView {
        let since = |at: Instant| now.saturating_duration_since(at);
        let hands = self.hands.iter().filter_map(|hand| Some((hand.running, since(hand.since?))));
        let running: Vec<_> = hands.collect();
        let is_retry = asker.felled[self.index] > 0;
        let ahead = if is_retry { 0 } else { self.former.ahead_of(asker.priority, asker.deadline) };
        let ready = self.lanes.working().len();
        let crowd = Crowd { running: &running, ahead, limit: self.limit, ready };
        let (wait, service) = self.latency.forecast(&crowd).unwrap_or_default();
        let state = self.lanes.state();
        let loading = if state == StageState::Ready { Duration::ZERO } else { self.load_time };
        StageView { available: state.takes_jobs(), predicted: wait + service + loading }
    }

    pub(super) fn retune(&mut self, max_batch: usize) {
        self.limit = max_batch;
        self.former.set_rule(rule(max_batch));
    }

    /// Whether this job is queued or aboard, whether anybody waits for it or not.
    pub(super) fn holds(&self, id: u64) -> bool {
        self.former.jobs().any(|job| job.id == id)
            || self.hands.iter().any(|hand| hand.jobs.iter().any(|job| job.id == id))
    }

    /// How many of the jobs that are queued or aboard somebody waits for.
    pub(super) fn held_open(&self) -> usize {
        let aboard = self.hands.iter().flat_map(|hand| &hand.jobs);
        self.former.jobs().chain(aboard).filter(|job| !job.closed.get()).count()
    }

    /// Starts an instance. Its epoch, and how long it loads.
    pub(super) fn start(&mut self, lane: usize, now: Instant) -> (u64, Duration) {
        self.epoch += 1;
        let run = self.hands[lane].run;
        self.hands[lane] = Hand { epoch: self.epoch, run: run + 1, ..Hand::default() };
        self.lanes.started(lane, self.epoch, now);
        if self.hang_loads && self.fail_loads > 0 {
            self.fail_loads -= 1;
            return (self.epoch, LOAD_TIMEOUT * 2);
        }
        (self.epoch, self.load_time)
    }

    /// A load is over: whether it succeeded. `None` if the instance is not the lane's any more.
    pub(super) fn loaded(&mut self, lane: usize, epoch: u64) -> Option<bool> {
        if !self.lanes.is_current(lane, epoch) {
            return None;
        }
        if self.fail_loads > 0 && !self.hang_loads {
            self.fail_loads -= 1;
            return Some(false);
        }
        let duty = self.lanes.loaded(lane, epoch)?;
        debug_assert!(duty == Duty::Work || self.lanes.spares() > 0, "a spare stands by");
        Some(true)
    }

    /// A free instance asks the former. The lane, and how long to wait if there is no batch yet.
    pub(super) fn take(
        &mut self,
        now: Instant,
        keep_dead: bool,
    ) -> Result<Option<(usize, Option<Duration>)>, String> {
        let free = self.lanes.working().into_iter().find(|lane| self.hands[*lane].since.is_none());
        let Some(lane) = free else { return Ok(None) };
        let formed = if keep_dead && !self.former.is_empty() {
            Formed::Batch(self.former.drain())
        } else {
            self.former.form(self.limit, &self.latency, now, &mut Dropped::default())
        };
        match formed {
            Formed::Empty => Ok(None),
            Formed::Wait(wait) => Ok(Some((lane, Some(wait)))),
            Formed::Batch(entries) => {
                let hand = &mut self.hands[lane];
                hand.passage = entries.first().map(|entry| entry.passage);
                hand.jobs = entries.into_iter().map(|entry| entry.job).collect();
                hand.runs = vec![hand.jobs.len()];
                hand.since = Some(now);
                match hand.jobs.iter().find(|job| job.closed.get() || job.deadline <= now) {
                    Some(job) => Err(format!("job {} is computed for nobody", job.id)),
                    None => Ok(Some((lane, None))),
                }
            }
        }
    }

    /// The next run of what is aboard; the dead leave first. `None` if nothing is left.
    pub(super) fn begin(&mut self, lane: usize, now: Instant, seed: u64) -> Option<Begun> {
        let hand = &mut self.hands[lane];
        loop {
            let Some(n) = hand.runs.pop() else {
                hand.leave();
                return None;
            };
            let rest = hand.jobs.split_off(n.min(hand.jobs.len()));
            hand.jobs.retain(|job| !job.closed.get() && job.deadline > now);
            hand.running = hand.jobs.len();
            hand.jobs.extend(rest);
            if hand.running > 0 {
                break;
            }
        }
        let size = hand.running;
        hand.run += 1;
        hand.since = Some(now);
        let here = |job: &Rc<Job>| job.spec.poison.filter(|(at, _)| *at == self.index);
        let poison = hand.jobs.iter().take(size).find_map(here).map(|(_, fault)| fault);
        hand.fault = self.strikes.pop().or(poison);
        let takes = Duration::from_millis(5 + 3 * size as u64)
            .mul_f64(jitter(seed ^ hand.jobs.front().map_or(0, |job| job.id)));
        let bound = self.latency.settled_bound(size).map_or(HANG, |bound| bound * 20);
        Some(Begun {
            run: hand.run,
            takes: (hand.fault != Some(Fault::Hang)).then_some(takes),
            hang_after: bound.clamp(HANG / 2, HANG),
        })
    }

    /// A run is over. `None` if nobody waits for it any more.
    pub(super) fn done(&mut self, lane: usize, run: u64, now: Instant) -> Option<Outcome> {
        let hand = &mut self.hands[lane];
        if hand.run != run || hand.since.is_none() {
            return None;
        }
        let size = hand.running;
        let cause = match hand.fault {
            None if self.too_big_above > 0 && size > self.too_big_above => Cause::TooBig,
            None => {
                hand.broken = 0;
                hand.progressed = true;
                let took = now.saturating_duration_since(hand.since?);
                self.latency.observe(size, took);
                return Some(Outcome::Answered(self.finish(lane)));
            }
            Some(Fault::Panic) => return Some(self.fall_of(lane, Cause::Panic)),
            Some(Fault::WrongCount) => return Some(self.fall_of(lane, Cause::WrongCount)),
            Some(Fault::Hang) => return None,
            Some(Fault::Broken) => Cause::Broken,
            Some(Fault::Retry) => Cause::Retry,
        };
        match cause {
            Cause::TooBig if size > 1 => {
                self.limit = self.limit.min((size / 2).max(1));
                hand.runs.extend([size - size / 2, size / 2]);
                return Some(Outcome::Again);
            }
            Cause::Broken if size > 1 => {
                hand.runs.extend(vec![1; size]);
                return Some(Outcome::Again);
            }
            Cause::Broken if hand.passage != Some(Passage::Retry) => hand.broken += 1,
            _ => {}
        }
        if hand.broken >= 3 {
            return Some(self.fall_of(lane, Cause::Broken));
        }
        Some(Outcome::Failed(cause, self.finish(lane)))
    }

    /// An instance that has not finished this run is given up. `None` if it has.
    pub(super) fn give_up(&mut self, lane: usize, run: u64) -> Option<Fell> {
        let hand = &self.hands[lane];
        if hand.run != run || hand.since.is_none() {
            return None;
        }
        match self.fall_of(lane, Cause::Hang) {
            Outcome::Fell(_, fell) => Some(fell),
            _ => None,
        }
    }

    /// Plans the next start: after which pause.
    pub(super) fn fell(&mut self, lane: usize, during: During, now: Instant) -> Duration {
        let progressed = std::mem::take(&mut self.hands[lane].progressed);
        match self.lanes.fell(lane, during, progressed, now).plan {
            Plan::Restart(pause) | Plan::Down(pause) => pause,
        }
    }

    /// The actor dies, and another starts: what was aboard, and what was queued.
    pub(super) fn die(&mut self, now: Instant) -> (Vec<Rc<Job>>, Vec<Rc<Job>>) {
        self.lanes = Lanes::new(self.spec.clone(), self.epoch, now);
        let mut aboard = Vec::new();
        for hand in &mut self.hands {
            let (running, waiting) = hand.leave();
            aboard.extend(running.into_iter().chain(waiting));
            hand.epoch = 0;
        }
        (aboard, self.former.drain().into_iter().map(|entry| entry.job).collect())
    }

    fn fall_of(&mut self, lane: usize, cause: Cause) -> Outcome {
        let hand = &mut self.hands[lane];
        let during = match hand.passage {
            Some(Passage::Retry) => During::Retry,
            Some(Passage::Alone) => During::Alone,
            _ => During::Work,
        };
        let (running, waiting) = hand.leave();
        Outcome::Fell(cause, Fell { running, waiting, during })
    }

    fn finish(&mut self, lane: usize) -> Vec<Rc<Job>> {
        let hand = &mut self.hands[lane];
        let running = std::mem::take(&mut hand.running);
        hand.jobs.drain(..running).collect()
    }
}

/// 0.8 to 1.3, the same for the same number.
fn jitter(number: u64) -> f64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    0.8 + 0.5 * ((mixed >> 32) % 1000) as f64 / 1000.0
}

fn rule(max_batch: usize) -> Box<dyn crate::actors::batching::BatchingRule> {
    let spec = BatchingSpec { max_batch, ..BatchingSpec::default() };
    Rules::default().build(&spec).unwrap()
}
