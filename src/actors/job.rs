//! A job: one accepted request on its way, and the ticket its caller holds.
//!
//! The answer travels through a [`Slot`] that caller and engine share. It is filled once; who comes
//! second is told so and changes nothing. The caller's side owns the deadline: at that moment it
//! takes the best verdict so far, whether or not anybody else in the engine is still alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::backends::Input;
use crate::clock;
use crate::metrics;
use crate::prediction::{Degraded, Rejection, Verdict};

/// A job's number, unique in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// Who is served first. The order of the variants is the order of service.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// A validator's challenge.
    Validator,
    /// A person or a program that waits.
    #[default]
    Normal,
    /// Work that can wait; it keeps a small share of the slots however busy the rest is.
    Bulk,
}

/// What a caller wants.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it is about.
    pub input: Input,
    /// When the answer must be there.
    pub deadline: Instant,
    /// Who is served first.
    pub priority: Priority,
}

/// One accepted request.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) request: Request,
    pub(crate) slot: Arc<Slot>,
}

/// What came of a job.
pub type Outcome = Result<Verdict, Rejection>;

/// Where the answer goes: filled once.
#[derive(Debug)]
pub(crate) struct Slot {
    state: Mutex<State>,
    arrived: Instant,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct State {
    reply: Option<oneshot::Sender<Outcome>>,
    best: Option<Verdict>,
}

impl Slot {
    /// Answers the job, unless it has been answered or its caller has left. True if this was the
    /// answer.
    pub(crate) fn answer(&self, outcome: Outcome) -> bool {
        let Some(reply) = self.state.lock().reply.take() else { return false };
        self.gate.leave(&outcome, self.arrived);
        // The caller may leave at this very moment; then nobody is waiting and nothing is lost.
        let _ = reply.send(outcome);
        true
    }

    /// Keeps the best verdict so far, for the moment the deadline strikes.
    pub(crate) fn improve(&self, best: Verdict) {
        self.state.lock().best = Some(best);
    }

    /// Whether nobody waits for an answer any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().reply.is_none()
    }

    /// Ends the job from the caller's side with what there is. `None` if it was answered already.
    fn close_late(&self) -> Option<Outcome> {
        let mut state = self.state.lock();
        state.reply.take()?;
        let best = state.best.take();
        drop(state);
        let outcome = best_or(best, Degraded::Deadline, Rejection::Deadline);
        self.gate.leave(&outcome, self.arrived);
        Some(outcome)
    }

    /// Ends the job because the engine has let go of it. True if it had no answer yet, and should have
    /// got one.
    fn abandon(&self) -> bool {
        if self.gate.is_shut() {
            self.answer(Err(Rejection::Draining));
            return false;
        }
        let best = self.state.lock().best.clone();
        let lost = Rejection::Internal("the job was lost".into());
        self.answer(best_or(best, Degraded::StageFailed, lost))
    }

    /// Ends the job because its caller left.
    fn cancel(&self) {
        if self.state.lock().reply.take().is_some() {
            self.gate.leave_unanswered(self.arrived);
        }
    }
}

/// What the caller of [`super::Engine::submit`] holds. Dropping it cancels the job: queued work of
/// callers who left is never computed.
#[derive(Debug)]
pub struct Ticket {
    id: JobId,
    deadline: Instant,
    slot: Arc<Slot>,
    reply: oneshot::Receiver<Outcome>,
}

impl Ticket {
    /// The job's number, for logs.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Waits for the answer, at most until the deadline; then it is the best verdict so far, marked
    /// degraded, or [`Rejection::Deadline`].
    pub async fn wait(mut self) -> Outcome {
        let remaining = self.deadline.saturating_duration_since(clock::now());
        match tokio::time::timeout(remaining, &mut self.reply).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Rejection::Internal("the job was dropped".into())),
            Err(_) => match self.slot.close_late() {
                Some(outcome) => outcome,
                // Answered between the timer and here: the answer is on its way into the channel.
                None => (&mut self.reply)
                    .await
                    .unwrap_or_else(|_| Err(Rejection::Internal("the job was dropped".into()))),
            },
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.slot.cancel();
    }
}

/// Makes a job and the ticket for it.
pub(crate) fn issue(id: JobId, request: Request, gate: Arc<Gate>) -> (Arc<Job>, Ticket) {
    let (sender, receiver) = oneshot::channel();
    let arrived = clock::now();
    let state = Mutex::new(State { reply: Some(sender), best: None });
    let slot = Arc::new(Slot { state, arrived, gate });
    let deadline = request.deadline;
    let job = Arc::new(Job { id, request, slot: slot.clone() });
    (job, Ticket { id, deadline, slot, reply: receiver })
}

/// One place in so many is kept free for validators.
const RESERVED: usize = 8;

/// The gate at the door: bounds the jobs in flight and measures how fast they leave. Whatever else
/// comes in, there are places that only validators take.
#[derive(Debug)]
pub(crate) struct Gate {
    limit: usize,
    in_flight: AtomicUsize,
    /// The engine is stopping: jobs that it lets go of are refused, and not lost.
    shut: AtomicBool,
    rate: Mutex<Rate>,
}

/// Jobs answered per second, as an exponentially weighted mean of the gaps between answers.
#[derive(Debug, Default)]
struct Rate {
    last: Option<Instant>,
    gap_s: Option<f64>,
}

impl Rate {
    fn tick(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            // An idle minute says nothing about how fast we are.
            let gap = now.saturating_duration_since(last).as_secs_f64().min(1.0);
            self.gap_s = Some(self.gap_s.map_or(gap, |mean| mean + (gap - mean) / 16.0));
        }
    }
}

impl Gate {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            in_flight: AtomicUsize::new(0),
            shut: AtomicBool::new(false),
            rate: Mutex::new(Rate::default()),
        }
    }

    pub(crate) fn shut(&self) {
        self.shut.store(true, Ordering::Release);
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Acquire)
    }

    /// Takes a place, or says when to come back.
    pub(crate) fn enter(&self, priority: Priority) -> Result<(), Rejection> {
        let take = |n: usize| (n < self.limit(priority)).then_some(n + 1);
        match self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, take) {
            Ok(_) => {
                metrics::in_flight(1.0);
                Ok(())
            }
            Err(full) => Err(Rejection::Overloaded { retry_after: self.retry_after(full) }),
        }
    }

    /// Whether there is a place at this moment; if not, when to come back.
    pub(crate) fn check(&self, priority: Priority) -> Result<(), Rejection> {
        let taken = self.in_flight();
        if taken < self.limit(priority) {
            return Ok(());
        }
        Err(Rejection::Overloaded { retry_after: self.retry_after(taken) })
    }

    fn limit(&self, priority: Priority) -> usize {
        match priority {
            Priority::Validator => self.limit,
            Priority::Normal | Priority::Bulk => self.limit - self.limit / RESERVED,
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// When the jobs in flight should be done, from the measured rate: 1 to 60 s.
    fn retry_after(&self, in_flight: usize) -> Duration {
        let seconds = self.rate.lock().gap_s.map_or(1.0, |gap| gap * in_flight as f64);
        Duration::from_secs(seconds.ceil().clamp(1.0, 60.0) as u64)
    }

    fn leave(&self, outcome: &Outcome, arrived: Instant) {
        let now = clock::now();
        if let Ok(verdict) = outcome {
            self.rate.lock().tick(now);
            metrics::exit(&verdict.stage);
        }
        let label = match outcome {
            Ok(verdict) => match verdict.degraded {
                Some(why) => {
                    metrics::degraded(why.as_str());
                    "degraded"
                }
                None => "answered",
            },
            Err(rejection) => rejection.as_str(),
        };
        self.free(label, now.saturating_duration_since(arrived));
    }

    fn leave_unanswered(&self, arrived: Instant) {
        self.free("client_gone", clock::now().saturating_duration_since(arrived));
    }

    fn free(&self, outcome: &'static str, took: Duration) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        metrics::in_flight(-1.0);
        metrics::job_ended(outcome, Some(took));
    }
}

/// The best verdict so far, marked degraded, or else the rejection.
fn best_or(best: Option<Verdict>, why: Degraded, otherwise: Rejection) -> Outcome {
    match best {
        Some(best) => Ok(Verdict { degraded: Some(why), ..best }),
        None => Err(otherwise),
    }
}

impl Drop for Job {
    /// A job that goes away unanswered is a lost job: the supervisor died, or has a bug. It is
    /// answered all the same, with the best so far, and counted.
    fn drop(&mut self) {
        if self.slot.abandon() {
            metrics::lost();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::image::Image;

    /// A job that nobody computes, for tests of what carries jobs about.
    pub(crate) fn job(id: u64, deadline: Instant, priority: Priority) -> (Arc<Job>, Ticket) {
        let image = Image::from_rgb(1, 1, vec![0; 3]).unwrap();
        let input = Input::Image(Arc::new(image));
        let gate = Arc::new(Gate::new(usize::MAX));
        gate.enter(Priority::Normal).unwrap();
        issue(JobId(id), Request { input, deadline, priority }, gate)
    }

    fn verdict() -> Verdict {
        let probability = crate::prediction::Probability::new(0.7).unwrap();
        Verdict { probability, stage: "s".into(), degraded: None, trace: Vec::new() }
    }

    #[actix::test]
    async fn the_first_answer_counts_and_the_second_is_told_so() {
        let (job, ticket) = job(1, clock::now() + Duration::from_secs(9), Priority::Normal);
        assert!(job.slot.answer(Ok(verdict())));
        assert!(!job.slot.answer(Err(Rejection::Draining)));
        assert_eq!(ticket.wait().await, Ok(verdict()));
    }

    #[actix::test]
    async fn at_the_deadline_the_best_so_far_is_the_answer() {
        let (job, ticket) = job(1, clock::now() + Duration::from_millis(5), Priority::Normal);
        job.slot.improve(verdict());
        let outcome = ticket.wait().await.unwrap();
        assert_eq!(outcome.degraded, Some(Degraded::Deadline));
        assert!(!job.slot.answer(Ok(verdict())), "a late answer must be told that it is late");
    }

    #[actix::test]
    async fn at_the_deadline_with_nothing_said_the_job_is_rejected() {
        let (_job, ticket) = job(1, clock::now(), Priority::Normal);
        assert_eq!(ticket.wait().await, Err(Rejection::Deadline));
    }

    #[test]
    fn dropping_the_ticket_cancels() {
        let (job, ticket) = job(1, clock::now() + Duration::from_secs(9), Priority::Normal);
        drop(ticket);
        assert!(job.slot.is_closed());
        assert_eq!(job.slot.gate.in_flight(), 0);
    }

    #[actix::test]
    async fn a_dropped_job_is_answered_and_counted_as_lost() {
        let (job, ticket) = job(1, clock::now() + Duration::from_secs(9), Priority::Normal);
        drop(job);
        assert!(matches!(ticket.wait().await, Err(Rejection::Internal(_))));
    }

    #[actix::test]
    async fn a_dropped_job_is_answered_with_its_best_so_far() {
        let (job, ticket) = job(1, clock::now() + Duration::from_secs(9), Priority::Normal);
        job.slot.improve(verdict());
        drop(job);
        let outcome = ticket.wait().await.unwrap();
        assert_eq!(outcome.degraded, Some(Degraded::StageFailed));
    }

    #[test]
    fn the_gate_bounds_and_says_when_to_come_back() {
        let gate = Gate::new(2);
        let enter = || gate.enter(Priority::Bulk);
        assert!(enter().is_ok() && enter().is_ok());
        let start = clock::now();
        for i in 0..100 {
            gate.rate.lock().tick(start + Duration::from_millis(i * 3000));
        }
        let Err(Rejection::Overloaded { retry_after }) = enter() else { panic!() };
        assert_eq!(retry_after, Duration::from_secs(2));
    }

    #[test]
    fn a_crowd_leaves_room_for_validators() {
        let gate = Gate::new(16);
        while gate.enter(Priority::Bulk).is_ok() {}
        assert_eq!(gate.in_flight(), 14);
        assert!(gate.enter(Priority::Normal).is_err() && gate.check(Priority::Normal).is_err());
        assert!(gate.check(Priority::Validator).is_ok());
        assert!(gate.enter(Priority::Validator).is_ok() && gate.enter(Priority::Validator).is_ok());
        assert!(gate.enter(Priority::Validator).is_err(), "nobody is above the limit");
    }
}
