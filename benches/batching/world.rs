//! One instance and one queue under a simulated clock: a policy says what is computed when.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::traffic::{Job, Traffic};

/// What a policy wants while the instance is free.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Compute these.
    Start(Vec<Job>),
    /// Ask again at this time, or when a job comes.
    Until(u64),
    /// Ask again when a job comes.
    Idle,
}

/// A queue and its rule, of ours or of another server.
pub(crate) trait Policy {
    /// A job comes.
    fn arrive(&mut self, job: Job, now: u64);
    /// The instance is free.
    fn ask(&mut self, now: u64) -> Ask;
    /// A batch that was started at `since` is done.
    fn done(&mut self, batch: &[Job], since: u64, now: u64);
}

/// What came of it, from a cold start until the last job came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Jobs.
    pub(crate) jobs: usize,
    /// Seconds in which they came.
    pub(crate) seconds: f64,
    /// Answered by their deadline.
    pub(crate) in_time: usize,
    /// Answered later.
    pub(crate) late: usize,
    /// Milliseconds from arrival to answer, of all that were answered, in order.
    pub(crate) latencies: Vec<f64>,
    /// Batches.
    batches: usize,
    /// Jobs in them.
    aboard: usize,
}

impl Outcome {
    /// Of all jobs, those answered in time.
    pub(crate) fn share_in_time(&self) -> f64 {
        self.in_time as f64 / self.jobs as f64
    }

    /// Answers in time per second.
    pub(crate) fn goodput(&self) -> f64 {
        self.in_time as f64 / self.seconds
    }

    /// Of all jobs, those answered too late. The rest was refused, dropped, or still waits at the end.
    pub(crate) fn share_late(&self) -> f64 {
        self.late as f64 / self.jobs as f64
    }

    /// Jobs per batch.
    pub(crate) fn mean_batch(&self) -> f64 {
        self.aboard as f64 / self.batches.max(1) as f64
    }

    /// A quantile of the latencies, in milliseconds.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let at = (q * self.latencies.len() as f64) as usize;
        self.latencies.get(at.min(self.latencies.len().saturating_sub(1))).copied().unwrap_or(0.0)
    }
}

/// Plays the traffic.
pub(crate) fn play(traffic: &Traffic, jobs: &[Job], policy: &mut dyn Policy) -> Outcome {
    let horizon = jobs.last().map_or(0, |job| job.arrival);
    let mut rng = ChaCha8Rng::seed_from_u64(traffic.seed ^ 0x5eed);
    let mut running: Option<(u64, u64, Vec<Job>)> = None;
    let (mut next, mut wake) = (0, u64::MAX);
    let mut is_warm = vec![false; traffic.limit];
    let mut outcome =
        Outcome { jobs: jobs.len(), seconds: horizon as f64 / 1e9, ..Outcome::default() };
    loop {
        let arrival = jobs.get(next).map_or(u64::MAX, |job| job.arrival);
        let end = running.as_ref().map_or(wake, |(_, end, _)| *end);
        let now = arrival.min(end);
        if now > horizon {
            break;
        }
        if arrival == now {
            policy.arrive(jobs[next], now);
            next += 1;
        } else if let Some((since, _, batch)) = running.take() {
            outcome.note(&batch, now);
            policy.done(&batch, since, now);
        }
        if running.is_some() {
            continue;
        }
        wake = match policy.ask(now) {
            Ask::Start(batch) => {
                assert!(!batch.is_empty() && batch.len() <= traffic.limit, "{}", batch.len());
                // Never less than the curve says, so that the optimum is one.
                let took =
                    traffic.curve.ns(batch.len()) as f64 * (1.0 + 0.04 * rng.random::<f64>());
                let warm = std::mem::replace(&mut is_warm[batch.len() - 1], true);
                let took = took as u64 * if warm { 1 } else { traffic.first };
                running = Some((now, now + took, batch));
                u64::MAX
            }
            Ask::Until(at) => at.max(now + 1),
            Ask::Idle => u64::MAX,
        };
    }
    outcome.latencies.sort_by(f64::total_cmp);
    outcome
}

impl Outcome {
    fn note(&mut self, batch: &[Job], now: u64) {
        let in_time = batch.iter().filter(|job| job.deadline >= now).count();
        self.in_time += in_time;
        self.late += batch.len() - in_time;
        self.latencies.extend(batch.iter().map(|job| (now - job.arrival) as f64 / 1e6));
        self.batches += 1;
        self.aboard += batch.len();
    }
}
