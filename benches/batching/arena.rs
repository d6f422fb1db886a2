//! A discrete-event simulation in which batching rules compete: one instance, one queue, virtual time,
//! everything drawn from a seed. Shared by the bench and by the unit test of the default rule.

pub(crate) mod curve;
pub(crate) mod optimum;
mod ours;
mod peers;
pub(crate) mod traffic;
pub(crate) mod world;

use std::collections::VecDeque;
use std::time::Instant;

use traffic::{Job, Patience, Traffic};
use world::{Outcome, Policy};

/// Everybody who competes. The first three are ours, the real code; the first is what an operator gets.
pub(crate) const POLICIES: [&str; 9] = [
    "adaptive",
    "immediate",
    "window 5",
    "triton 0",
    "triton 5",
    "mosec 10",
    "litserve 10",
    "bentoml",
    "tei",
];

/// Builds a policy by its name.
fn policy(name: &str, traffic: &Traffic, start: Instant) -> Box<dyn Policy> {
    let (queue, limit, ms) = (VecDeque::new(), traffic.limit, 1_000_000);
    let longest = match traffic.patience {
        Patience::Same(batches) | Patience::Mixed(_, batches) => batches,
    };
    match name {
        "triton 0" => Box::new(peers::Triton { queue, limit, delay: 0 }),
        "triton 5" => Box::new(peers::Triton { queue, limit, delay: 5 * ms }),
        "mosec 10" => Box::new(peers::Mosec { queue, limit, wait: 10 * ms, since: None }),
        "litserve 10" => Box::new(peers::LitServe { queue, limit, timeout: 10 * ms, end: None }),
        "bentoml" => {
            let max_latency = longest * traffic.curve.ns(limit) as f64;
            Box::new(peers::Bento::new(limit, max_latency as u64))
        }
        "tei" => Box::new(peers::Tei { queue, limit }),
        "window 5" => Box::new(ours::Ours::new("window", limit, start)),
        ours => Box::new(ours::Ours::new(ours, limit, start)),
    }
}

/// Plays the same jobs under a policy.
pub(crate) fn compete(name: &str, traffic: &Traffic, jobs: &[Job], start: Instant) -> Outcome {
    world::play(traffic, jobs, &mut *policy(name, traffic, start))
}
