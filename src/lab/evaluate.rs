//! How good and how fast a cascade is on labelled images. Uses the engine as `http` does.

use std::collections::BTreeMap;

use serde::Serialize;

use super::answers::{Answer, Answers, Options, ask};
use super::dataset::Example;
use super::scores::{Confusion, percentile};
use crate::actors::Engine;

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
}

/// Asks the engine about every example. `progress` is told how many are done.
///
/// # Errors
/// As [`ask`].
pub async fn evaluate(
    engine: &Engine,
    examples: &[Example],
    options: Options,
    progress: &dyn Fn(u64),
) -> anyhow::Result<Report> {
    let pictures = examples.iter().map(|example| &example.picture);
    let answers = ask(engine, pictures, options, progress).await?;
    Ok(report(examples, &answers))
}

/// The figures of answers that are there, one for each example.
pub fn report(examples: &[Example], answers: &Answers) -> Report {
    let mut tally = Tally::default();
    for (example, answer) in examples.iter().zip(&answers.answers) {
        tally.add(example, answer);
    }
    tally.finish(answers)
}

impl Tally {
    fn add(&mut self, example: &Example, answer: &Answer) {
        self.report.images += 1;
        let Ok(verdict) = &answer.outcome else {
            self.report.unanswered += 1;
            return;
        };
        self.report.degraded += u64::from(verdict.degraded.is_some());
        let said = verdict.probability.is_roadwork();
        self.report.confusion.add(example.roadwork, said);
        self.slices.entry(example.slice()).or_default().add(example.roadwork, said);
        *self.exits.entry(verdict.stage.to_string()).or_default() += 1;
        self.latencies_ms.push(answer.took.as_secs_f64() * 1e3);
    }

    fn finish(mut self, answers: &Answers) -> Report {
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
            images_per_s: answered / answers.engine.as_secs_f64().max(1e-9),
            decode_ms: answers.decode.as_secs_f64() * 1e3 * cores
                / self.report.images.max(1) as f64,
            ..self.report
        }
    }
}
