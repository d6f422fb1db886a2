//! How good and how fast a cascade is on labelled images.

mod plots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use super::answers::{Answer, Answers};
use super::dataset::Example;
use super::facets::Facets;
use super::scores::{
    Bin, Confusion, Figure, Figures, Interval, Resampling, Scored, Totals, intervals, percentile,
};

pub use plots::{histogram, reliability};

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
    /// Accuracy, MCC, reward, log-loss, Brier score and calibration error.
    #[serde(flatten)]
    pub figures: Figures,
    /// Limits of the figures by the bootstrap.
    pub intervals: BTreeMap<Figure, Interval>,
    /// The reliability diagram.
    pub reliability: Vec<Bin>,
    /// Share of verdicts by the stage whose score they are.
    pub exits: BTreeMap<String, f64>,
    /// Accuracy by slice: roadwork, plain negatives, each kind of hard negative.
    pub slices: BTreeMap<String, Slice>,
    /// The same by whatever is known of the images.
    pub facets: BTreeMap<String, BTreeMap<String, Slice>>,
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
    /// Matthews' correlation coefficient; none where all images have the same label.
    pub mcc: Option<f64>,
    /// Mean logarithmic loss.
    pub log_loss: f64,
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

impl Latency {
    /// Of these samples; all 0 if there are none.
    pub fn of(mut samples_ms: Vec<f64>) -> Self {
        samples_ms.sort_by(f64::total_cmp);
        let mean = samples_ms.iter().sum::<f64>() / samples_ms.len().max(1) as f64;
        Self { mean, p50: percentile(&samples_ms, 0.5), p99: percentile(&samples_ms, 0.99) }
    }
}

impl Slice {
    fn of(totals: &Totals) -> Self {
        let Confusion { true_positives, true_negatives, false_positives, false_negatives } =
            totals.confusion;
        let has_both = true_positives + false_negatives > 0 && true_negatives + false_positives > 0;
        let Figures { accuracy, mcc, log_loss, .. } = totals.figures();
        let images = totals.confusion.total();
        Self { images, accuracy, mcc: has_both.then_some(mcc), log_loss }
    }
}

/// Everything counted so far.
#[derive(Default)]
struct Tally {
    report: Report,
    totals: Totals,
    exits: BTreeMap<String, u64>,
    slices: BTreeMap<String, Totals>,
    facets: BTreeMap<String, BTreeMap<String, Totals>>,
    latencies_ms: Vec<f64>,
}

/// The figures of answers that are there, one for each example, as are the facets.
pub fn report(
    examples: &[Example],
    facets: &[Facets],
    answers: &Answers,
    resampling: Resampling,
) -> Report {
    let mut tally = Tally::default();
    for ((example, facets), answer) in examples.iter().zip(facets).zip(&answers.answers) {
        tally.add(example, facets, answer);
    }
    let limits = intervals(&scored(examples, answers), resampling);
    Report { intervals: limits, ..tally.finish(answers) }
}

/// The answers with their truth, without the images that have no answer.
pub fn scored(examples: &[Example], answers: &Answers) -> Vec<Scored> {
    examples.iter().zip(&answers.answers).filter_map(|(e, a)| score(e, a)).collect()
}

fn score(example: &Example, answer: &Answer) -> Option<Scored> {
    let verdict = answer.outcome.as_ref().ok()?;
    Some(Scored { truth: example.roadwork, probability: f64::from(verdict.probability.get()) })
}

impl Tally {
    fn add(&mut self, example: &Example, facets: &Facets, answer: &Answer) {
        self.report.images += 1;
        let (Ok(verdict), Some(scored)) = (&answer.outcome, score(example, answer)) else {
            self.report.unanswered += 1;
            return;
        };
        self.report.degraded += u64::from(verdict.degraded.is_some());
        self.totals.add(scored);
        self.slices.entry(example.slice().to_owned()).or_default().add(scored);
        for (facet, value) in facets {
            let values = self.facets.entry((*facet).to_owned()).or_default();
            values.entry(value.clone()).or_default().add(scored);
        }
        *self.exits.entry(verdict.stage.to_string()).or_default() += 1;
        self.latencies_ms.push(answer.took.as_secs_f64() * 1e3);
    }

    fn finish(self, answers: &Answers) -> Report {
        let answered = self.latencies_ms.len().max(1) as f64;
        let cores = rayon::current_num_threads() as f64;
        let decode_ms = answers.decode.as_secs_f64() * 1e3 * cores;
        let slices = |totals: BTreeMap<String, Totals>| -> BTreeMap<String, Slice> {
            totals.into_iter().map(|(name, totals)| (name, Slice::of(&totals))).collect()
        };
        Report {
            confusion: self.totals.confusion,
            figures: self.totals.figures(),
            reliability: self.totals.reliability.bins(),
            exits: self.exits.into_iter().map(|(s, n)| (s, n as f64 / answered)).collect(),
            slices: slices(self.slices),
            facets: self.facets.into_iter().map(|(f, totals)| (f, slices(totals))).collect(),
            images_per_s: answered / answers.engine.as_secs_f64().max(1e-9),
            latency_ms: Latency::of(self.latencies_ms),
            decode_ms: decode_ms / self.report.images.max(1) as f64,
            ..self.report
        }
    }
}
