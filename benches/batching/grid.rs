//! Every point: a curve, arrivals, deadlines, a load; and what each policy makes of it.

use std::time::Instant;

use rayon::prelude::*;

use super::arena::curve::CURVES;
use super::arena::optimum::optimum;
use super::arena::traffic::{Arrivals, Patience, Traffic};
use super::arena::world::Outcome;
use super::arena::{POLICIES, compete};

/// Deadlines, by name, in full batches.
pub(crate) const PATIENCE: [(&str, Patience); 4] = [
    ("tight", Patience::Same(1.5)),
    ("medium", Patience::Same(3.0)),
    ("loose", Patience::Same(20.0)),
    ("mixed", Patience::Mixed(1.5, 20.0)),
];

pub(crate) const LOADS: [f64; 8] = [0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.1, 1.2];

const JOBS: usize = 5_000;

/// A point of the grid.
pub(crate) struct Point {
    pub(crate) traffic: Traffic,
    pub(crate) deadlines: &'static str,
    /// Of all jobs, those that could have been answered in time; unknown where deadlines are mixed.
    pub(crate) optimum: Option<f64>,
    /// In the order of the policies.
    pub(crate) outcomes: Vec<Outcome>,
}

impl Point {
    /// A policy's goodput, in that of the best of some.
    pub(crate) fn ratio(&self, policy: usize, among: std::ops::Range<usize>) -> f64 {
        let best = self.outcomes[among].iter().map(|o| o.in_time).max().unwrap_or(0);
        self.outcomes[policy].in_time as f64 / best.max(1) as f64
    }
}

/// Plays every point with batches of at most so many.
pub(crate) fn play(limits: &[usize]) -> Vec<Point> {
    let mut wanted = Vec::new();
    for &limit in limits {
        for curve in CURVES {
            for arrivals in [Arrivals::Poisson, Arrivals::Bursty] {
                for (deadlines, patience) in PATIENCE {
                    for load in LOADS {
                        let (seed, count) =
                            (wanted.len() as u64, JOBS * if limit > 8 { 2 } else { 1 });
                        let traffic = Traffic {
                            curve,
                            arrivals,
                            patience,
                            load,
                            limit,
                            first: 1,
                            count,
                            seed,
                        };
                        wanted.push((traffic, deadlines));
                    }
                }
            }
        }
    }
    let start = Instant::now();
    wanted.into_par_iter().map(|(traffic, deadlines)| point(traffic, deadlines, start)).collect()
}

fn point(traffic: Traffic, deadlines: &'static str, start: Instant) -> Point {
    let jobs = traffic.jobs();
    let outcomes = POLICIES.iter().map(|name| compete(name, &traffic, &jobs, start)).collect();
    let is_known = matches!(traffic.patience, Patience::Same(_));
    let optimum =
        is_known.then(|| optimum(&jobs, &traffic.curve, traffic.limit) as f64 / jobs.len() as f64);
    Point { traffic, deadlines, optimum, outcomes }
}
