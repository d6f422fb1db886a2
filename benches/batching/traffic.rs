//! Who comes when, and until when the answer is of use.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::curve::Curve;

/// A job. Times are nanoseconds since the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) arrival: u64,
    pub(crate) deadline: u64,
}

/// When jobs come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// Independently of each other.
    Poisson,
    /// In bursts: four times the rate for a while, then nobody for three times as long, both exponential. A
    /// burst lasts as long as five full batches on average.
    Bursty,
}

/// How long a caller waits, in full batches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Patience {
    /// Everybody the same.
    Same(f64),
    /// Every other the first, the rest the second.
    Mixed(f64, f64),
}

/// What a server has to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    pub(crate) curve: Curve,
    pub(crate) arrivals: Arrivals,
    pub(crate) patience: Patience,
    /// Of what batches of `limit` can do at most.
    pub(crate) load: f64,
    pub(crate) limit: usize,
    /// The first batch of each size takes so many times as long: kernels are chosen, memory is allocated.
    pub(crate) first: u64,
    pub(crate) count: usize,
    pub(crate) seed: u64,
}

impl Traffic {
    /// Mean nanoseconds between arrivals.
    pub(crate) fn gap(&self) -> f64 {
        1e9 / (self.load * self.curve.capacity(self.limit))
    }

    /// The jobs, in order of arrival.
    pub(crate) fn jobs(&self) -> Vec<Job> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let full = self.curve.ns(self.limit) as f64;
        let (mut now, mut burst_left) = (0.0, 0.0);
        let mut next = |rng: &mut ChaCha8Rng| {
            if self.arrivals == Arrivals::Poisson {
                now += exponential(rng, self.gap());
                return now;
            }
            let mut wait = exponential(rng, self.gap() / 4.0);
            while wait > burst_left {
                now += burst_left + exponential(rng, 15.0 * full);
                wait -= burst_left;
                burst_left = exponential(rng, 5.0 * full);
            }
            burst_left -= wait;
            now += wait;
            now
        };
        (0..self.count as u64)
            .map(|id| {
                let arrival = next(&mut rng);
                let batches = match self.patience {
                    Patience::Same(batches) => batches,
                    Patience::Mixed(some, others) => {
                        [some, others][usize::from(rng.random_bool(0.5))]
                    }
                };
                let deadline = (arrival + batches * full) as u64;
                Job { id, arrival: arrival as u64, deadline }
            })
            .collect()
    }
}

fn exponential(rng: &mut ChaCha8Rng, mean: f64) -> f64 {
    -mean * (1.0 - rng.random::<f64>()).ln()
}
