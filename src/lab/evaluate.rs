//! How good and how fast a cascade is on labelled images. Uses the engine as `http` does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use rayon::prelude::*;
use serde::Serialize;

use super::dataset::Example;
use super::scores::{Confusion, percentile};
use crate::actors::{Engine, Priority, Request};
use crate::backends::Input;
use crate::clock;
use crate::image::{Image, ImageLimits};
use crate::prediction::{Rejection, Verdict};

/// Images decoded and held at a time.
const CHUNK: usize = 256;

/// How to run an evaluation.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Images in flight at the same time.
    pub concurrency: usize,
    /// Deadline of each image.
    pub deadline: Duration,
    /// What to decode.
    pub limits: ImageLimits,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Images asked about.
    pub images: u64,
    /// Images without a verdict; they count as wrong answers nowhere and should be 0.
    pub unanswered: u64,
    /// Verdicts that were degraded.
    pub degraded: u64,
    /// Right and wrong.
    pub confusion: Confusion,
    /// Share of right answers.
    pub accuracy: f64,
    /// Matthews' correlation coefficient.
    pub mcc: f64,
    /// The subnet's reward over all images.
    pub reward: f64,
    /// Share of verdicts by the stage whose score they are.
    pub exits: BTreeMap<String, f64>,
    /// Accuracy by slice: roadwork, plain negatives, each kind of hard negative.
    pub slices: BTreeMap<String, Slice>,
    /// Milliseconds from submission to verdict, with `concurrency` images in flight.
    pub latency_ms: Latency,
    /// Verdicts per second through the engine, decoding excluded.
    pub images_per_s: f64,
    /// Milliseconds of one core to read and decode an image.
    pub decode_ms: f64,
}

/// A part of the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Slice {
    /// Images in it.
    pub images: u64,
    /// Share of right answers.
    pub accuracy: f64,
}

/// Latency in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// Everything counted so far.
#[derive(Default)]
struct Tally {
    report: Report,
    exits: BTreeMap<String, u64>,
    slices: BTreeMap<&'static str, Confusion>,
    latencies_ms: Vec<f64>,
    engine: Duration,
    decode: Duration,
}

/// Asks the engine about every example. `progress` is told how many are done.
///
/// # Errors
/// If an image cannot be read or decoded; a set with holes would give figures that mean nothing.
pub async fn evaluate(
    engine: &Engine,
    examples: &[Example],
    options: Options,
    progress: &dyn Fn(u64),
) -> anyhow::Result<Report> {
    let mut tally = Tally::default();
    for chunk in examples.chunks(CHUNK) {
        let begun = clock::now();
        let images = decode(chunk, &options.limits)?;
        tally.decode += clock::now().saturating_duration_since(begun);
        let begun = clock::now();
        let asked = stream::iter(chunk.iter().zip(images)).map(|(example, image)| async move {
            let begun = clock::now();
            let outcome = ask(engine, image, options.deadline).await;
            (example, outcome, clock::now().saturating_duration_since(begun))
        });
        let mut answers = asked.buffer_unordered(options.concurrency.max(1));
        while let Some((example, outcome, took)) = answers.next().await {
            tally.add(example, outcome, took);
        }
        tally.engine += clock::now().saturating_duration_since(begun);
        progress(tally.report.images);
    }
    Ok(tally.finish())
}

fn decode(chunk: &[Example], limits: &ImageLimits) -> anyhow::Result<Vec<Arc<Image>>> {
    chunk
        .par_iter()
        .map(|example| {
            let bytes = fs_err::read(&example.path)?;
            let image = Image::decode(&bytes, limits)
                .with_context(|| format!("image {}", example.path.display()))?;
            Ok(Arc::new(image))
        })
        .collect()
}

async fn ask(engine: &Engine, image: Arc<Image>, deadline: Duration) -> Result<Verdict, Rejection> {
    let request = Request {
        input: Input::Image(image),
        deadline: clock::now() + deadline,
        priority: Priority::Normal,
    };
    engine.submit(request)?.wait().await
}

impl Tally {
    fn add(&mut self, example: &Example, outcome: Result<Verdict, Rejection>, took: Duration) {
        self.report.images += 1;
        let Ok(verdict) = outcome else {
            self.report.unanswered += 1;
            return;
        };
        self.report.degraded += u64::from(verdict.degraded.is_some());
        let said = verdict.probability.is_roadwork();
        self.report.confusion.add(example.roadwork, said);
        self.slices.entry(example.slice()).or_default().add(example.roadwork, said);
        *self.exits.entry(verdict.stage.to_string()).or_default() += 1;
        self.latencies_ms.push(took.as_secs_f64() * 1e3);
    }

    fn finish(mut self) -> Report {
        self.latencies_ms.sort_by(f64::total_cmp);
        let answered = self.latencies_ms.len().max(1) as f64;
        let confusion = self.report.confusion;
        let slice = |c: &Confusion| Slice { images: c.total(), accuracy: c.accuracy() };
        let cores = rayon::current_num_threads() as f64;
        Report {
            accuracy: confusion.accuracy(),
            mcc: confusion.mcc(),
            reward: confusion.reward(),
            exits: self.exits.into_iter().map(|(s, n)| (s, n as f64 / answered)).collect(),
            slices: self.slices.iter().map(|(s, c)| ((*s).to_owned(), slice(c))).collect(),
            latency_ms: Latency {
                mean: self.latencies_ms.iter().sum::<f64>() / answered,
                p50: percentile(&self.latencies_ms, 0.5),
                p99: percentile(&self.latencies_ms, 0.99),
            },
            images_per_s: answered / self.engine.as_secs_f64().max(1e-9),
            decode_ms: self.decode.as_secs_f64() * 1e3 * cores / self.report.images.max(1) as f64,
            ..self.report
        }
    }
}
