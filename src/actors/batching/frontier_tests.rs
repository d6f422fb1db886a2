//! The default rule against the rules of other servers and the offline optimum, in virtual time: the bench
//! `batching`, on a small grid.

#[path = "../../../benches/batching/arena.rs"]
#[expect(dead_code, reason = "the bench measures more")]
mod arena;

/// What the arena needs of the engine.
mod engine {
    pub(crate) use crate::actors::batching::{BatchingSpec, rule};
    pub(crate) use crate::actors::former::{Dropped, Formed, Former, Passage, Queued};
    pub(crate) use crate::actors::latency::LatencyTable;
    pub(crate) use crate::actors::{JobId, Priority};
}

use proptest::prelude::*;

use crate::clock;
use arena::curve::{CURVES, Curve};
use arena::optimum::optimum;
use arena::traffic::{Arrivals, Job, Patience, Traffic};
use arena::{POLICIES, compete};

fn traffic(curve: Curve, load: f64) -> Traffic {
    let (arrivals, patience) = (Arrivals::Poisson, Patience::Same(1.5));
    Traffic { curve, arrivals, patience, load, limit: 8, first: 1, count: 2_000, seed: 1 }
}

/// Curve, arrivals, patience, load.
fn grid() -> Vec<Traffic> {
    let mut grid = Vec::new();
    for curve in CURVES {
        for arrivals in [Arrivals::Poisson, Arrivals::Bursty] {
            for batches in [1.5, 20.0] {
                for load in [0.05, 0.8, 1.2] {
                    let patience = Patience::Same(batches);
                    grid.push(Traffic { arrivals, patience, ..traffic(curve, load) });
                }
            }
        }
    }
    grid
}

fn in_time(policy: &str, traffic: &Traffic, jobs: &[Job]) -> usize {
    compete(policy, traffic, jobs, clock::now()).in_time
}

#[test]
fn the_default_rule_is_within_a_twentieth_of_the_best_everywhere() {
    for traffic in grid() {
        let jobs = traffic.jobs();
        let goodput = POLICIES.map(|name| in_time(name, &traffic, &jobs));
        let best = goodput.iter().max().unwrap();
        assert!(goodput[0] * 20 >= best * 19, "{traffic:?}: {POLICIES:?} {goodput:?}");
        let bound = optimum(&jobs, &traffic.curve, traffic.limit);
        assert!(*best <= bound, "{traffic:?}: {bound} at most, {POLICIES:?} {goodput:?}");
    }
}

#[test]
fn at_low_load_nobody_waits() {
    for traffic in grid().iter().filter(|t| t.load < 0.1 && t.arrivals == Arrivals::Poisson) {
        let jobs = traffic.jobs();
        let p99 = |name| compete(name, traffic, &jobs, clock::now()).quantile(0.99);
        let (ours, none) = (p99("adaptive"), p99("immediate"));
        assert!(ours <= 1.02 * none, "{traffic:?}: {ours} ms, and {none} ms without waiting");
    }
}

#[test]
fn a_size_that_was_dear_once_is_tried_again() {
    // Longer than it takes to try every size.
    let warm = Traffic { count: 20_000, ..traffic(CURVES[0], 0.8) };
    let cold = Traffic { first: 20, ..warm };
    let [warm, cold] = [warm, cold].map(|t| in_time("adaptive", &t, &t.jobs()));
    assert!(cold * 10 >= warm * 9, "{cold} in time of {warm}");
}

/// The most jobs in time, by trying every order of every batch.
fn by_trying(jobs: &[Job], left: u32, free: u64, limit: usize, curve: &Curve) -> usize {
    let horizon = jobs[jobs.len() - 1].arrival;
    let batches = (1..1u32 << jobs.len()).filter(|batch| batch & left == *batch);
    let served = batches.filter(|batch| batch.count_ones() as usize <= limit).filter_map(|batch| {
        let aboard = || jobs.iter().enumerate().filter(move |(i, _)| batch >> i & 1 == 1);
        let start = aboard().map(|(_, job)| job.arrival).max()?.max(free);
        let end = start + curve.ns(batch.count_ones() as usize);
        let all_in_time = aboard().all(|(_, job)| end <= job.deadline.min(horizon));
        let size = batch.count_ones() as usize;
        all_in_time.then(|| size + by_trying(jobs, left & !batch, end, limit, curve))
    });
    served.max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_optimum_is_what_trying_everything_finds(
        gaps in prop::collection::vec(0u64..6, 2..7), curve in 0..CURVES.len(), patience in 1u64..6,
        limit in 1usize..4,
    ) {
        let curve = CURVES[curve];
        let mut arrival = 0;
        let jobs: Vec<Job> = gaps.iter().zip(0..).map(|(gap, id)| {
            arrival += gap * curve.ns(1) / 2;
            Job { id, arrival, deadline: arrival + patience * curve.ns(1) / 2 }
        }).collect();
        let everybody = (1 << jobs.len()) - 1;
        let found = by_trying(&jobs, everybody, 0, limit, &curve);
        prop_assert_eq!(optimum(&jobs, &curve, limit), found);
    }
}
