//! Batching rules in competition: ours, and those of other servers, on costs as GPUs have them. Virtual
//! time, deterministic from a seed, seconds long.
//!
//! `cargo bench --bench batching` prints tables for batches of at most 8. `-- --write DIR` takes minutes: it
//! adds batches of 32 and writes every figure as CSV, and plots.
//! What is simulated and what came of it: docs/performance.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench"
)]

#[path = "batching/arena.rs"]
mod arena;
#[path = "batching/grid.rs"]
mod grid;
#[path = "batching/report.rs"]
mod report;

/// What the arena needs of the engine.
mod engine {
    pub(crate) use roadcrew::actors::batching::{BatchingSpec, rule};
    pub(crate) use roadcrew::actors::former::{Dropped, Formed, Former, Passage, Queued};
    pub(crate) use roadcrew::actors::latency::LatencyTable;
    pub(crate) use roadcrew::actors::{JobId, Priority};
}

use std::path::PathBuf;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let write = args.iter().position(|arg| arg == "--write").map(|at| PathBuf::from(&args[at + 1]));
    let points = grid::play(if write.is_some() { &[8, 32] } else { &[8] });
    print!("{}", report::tables(&points));
    if let Some(folder) = write {
        report::write(&points, &folder).unwrap();
    }
}
