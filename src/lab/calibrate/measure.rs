//! Asks a stage, alone in an engine, about every image of a set: what it says and what it costs.

use std::time::Duration;

use anyhow::bail;
use sha2::{Digest as _, Sha256};

use super::Cost;
use crate::actors::Engine;
use crate::lab::answers::{Answer, Options, ask};
use crate::lab::dataset::{Example, Picture, sha256};
use crate::lab::scores::percentile;
use crate::prediction::Rejection;

/// Images that are asked about one at a time, for the latency.
const ALONE: usize = 32;

/// What a stage says, NaN where it abstains, and what an image costs: the device time is the engine's
/// time over all images with every batch full, the latency the median of some that go one by one.
///
/// # Errors
/// If an image cannot be read, or the stage fails on one: figures with holes would prove nothing.
pub async fn measure(
    engine: &Engine,
    stage: &str,
    pictures: &[&Picture],
    options: Options,
    progress: &dyn Fn(u64),
) -> anyhow::Result<(Vec<f32>, Cost)> {
    let few = pictures.iter().copied().take(ALONE);
    let alone = ask(engine, few, Options { concurrency: 1, ..options }, &|_| ()).await?;
    let mut latencies: Vec<f64> = alone.answers.iter().map(latency_ms).collect();
    latencies.sort_by(f64::total_cmp);
    let all = ask(engine, pictures.iter().copied(), options, progress).await?;
    let mut scores = Vec::with_capacity(pictures.len());
    for (picture, answer) in pictures.iter().zip(&all.answers) {
        scores.push(score(stage, picture, answer)?);
    }
    let device_ms = ms(all.engine) / pictures.len().max(1) as f64;
    Ok((scores, Cost { device_ms, latency_ms: percentile(&latencies, 0.5) }))
}

fn score(stage: &str, picture: &Picture, answer: &Answer) -> anyhow::Result<f32> {
    match &answer.outcome {
        Ok(verdict) if verdict.degraded.is_none() => Ok(verdict.probability.get()),
        Ok(_) => bail!("stage {stage} failed on image {} before it answered", picture.id),
        // The one stage that was there had no opinion.
        Err(Rejection::Unavailable { detail }) if *detail == format!("{stage} abstained") => {
            Ok(f32::NAN)
        }
        Err(rejection) => bail!("stage {stage} on image {}: {rejection}", picture.id),
    }
}

/// The stage's own time, if it answered; else all the time it took.
fn latency_ms(answer: &Answer) -> f64 {
    let hop = answer.outcome.as_ref().ok().and_then(|verdict| verdict.trace.last());
    ms(hop.map_or(answer.took, |hop| hop.latency))
}

/// The SHA-256 of every image's bytes, in order.
///
/// # Errors
/// If an image cannot be read.
pub fn digests(examples: &[Example]) -> anyhow::Result<Vec<String>> {
    examples.iter().map(|example| Ok(sha256(&example.picture.bytes()?))).collect()
}

/// The digest of a data set: every image's name, label and own digest, in order.
pub fn digest(examples: &[Example], digests: &[String]) -> String {
    let mut whole = Sha256::new();
    for (Example { picture, roadwork }, digest) in examples.iter().zip(digests) {
        whole.update((picture.id.len() as u64).to_le_bytes());
        whole.update(&picture.id);
        whole.update([u8::from(*roadwork)]);
        whole.update(digest);
    }
    format!("{:x}", whole.finalize())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
