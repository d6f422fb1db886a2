//! Asking several cascades so that a noisy machine treats them alike.
//!
//! All engines are loaded, and one works at a time: the images go in chunks, each chunk to every
//! cascade before the next, and who begins changes from chunk to chunk. So each has the machine to
//! itself, as in production, and what else runs there, or a processor that warms up and slows down,
//! falls on all of them. Engines side by side would measure how they share the cores instead.
//!
//! In every turn some images are asked one at a time besides: with many in flight, latency is only
//! their number divided by the throughput.

use super::Run;
use crate::actors::Engine;
use crate::lab::answers::{Options, ask};
use crate::lab::dataset::Example;
use crate::lab::records::records;

/// A chunk is at least and at most so many times the images in flight: a pipeline must fill.
const LEAST: usize = 2;
const MOST: usize = 8;
/// Chunks there should be, if the images allow.
const ROUNDS: usize = 8;

/// Images that are asked one at a time, in all rounds together, if there are so many.
const ALONE: usize = 100;

/// A cascade that is ready.
pub struct Contender<'a> {
    /// What it is called.
    pub name: String,
    /// Its engine.
    pub engine: &'a Engine,
    /// How it is asked.
    pub options: Options,
}

/// Asks every cascade about every example. The first images are asked once more before all others,
/// and not counted, so that nobody pays for waking up. `progress` is told how many answers there are.
///
/// # Errors
/// If an image cannot be read or decoded.
pub async fn interleave(
    contenders: &[Contender<'_>],
    examples: &[Example],
    progress: &dyn Fn(u64),
) -> anyhow::Result<Vec<Run>> {
    let in_flight = contenders.iter().map(|c| c.options.concurrency).max().unwrap_or(1).max(1);
    for contender in contenders {
        let first = examples.iter().take(in_flight).map(|example| &example.picture);
        ask(contender.engine, first, contender.options, &|_| ()).await?;
    }
    let run = |contender: &Contender<'_>| Run { name: contender.name.clone(), ..Run::default() };
    let mut runs: Vec<Run> = contenders.iter().map(run).collect();
    let mut done = 0;
    let every = (examples.len() / ALONE).max(1);
    let size = (examples.len() / ROUNDS).clamp(LEAST * in_flight, MOST * in_flight);
    for (round, chunk) in examples.chunks(size).enumerate() {
        for turn in 0..contenders.len() {
            let index = (turn + round) % contenders.len();
            let Contender { engine, options, .. } = &contenders[index];
            let pictures = chunk.iter().map(|example| &example.picture);
            let answers = ask(engine, pictures, *options, &|_| ()).await?;
            runs[index].records.extend(records(chunk, &answers));
            runs[index].engine += answers.engine;
            let sample: Vec<Example> = chunk.iter().step_by(every).cloned().collect();
            let pictures = sample.iter().map(|example| &example.picture);
            let one_by_one = Options { concurrency: 1, ..*options };
            let answers = ask(engine, pictures, one_by_one, &|_| ()).await?;
            runs[index].alone.extend(records(&sample, &answers));
            done += chunk.len() as u64;
            progress(done);
        }
    }
    Ok(runs)
}
