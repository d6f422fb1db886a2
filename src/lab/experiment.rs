//! Two or more cascades on the same images: which is better, how sure is that, and what does it cost.
//! Pure, but for the asking, which is in `experiment/interleave.rs`.

mod interleave;
mod plot;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::evaluate::Latency;
use super::records::Record;
use super::scores::{
    Difference, Figure, Figures, Interval, McNemar, Resampling, Scored, differences, figures, holm,
    images_needed, intervals,
};

pub use interleave::{Contender, interleave};
pub use plot::accuracy_over_cost;

/// Below this, a difference is taken to be there.
const SIGNIFICANT: f64 = 0.05;

/// What one cascade said.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// What the cascade is called.
    pub name: String,
    /// One record for each image, the same images in the same order for every cascade.
    pub records: Vec<Record>,
    /// Time in the engine for these, all together.
    pub engine: Duration,
    /// Some of the images again, asked one at a time.
    pub alone: Vec<Record>,
}

/// Everything there is to say of some cascades.
#[derive(Clone, Debug, Serialize)]
pub struct Experiment {
    /// Images that every cascade has answered; the figures are of these.
    pub images: u64,
    /// Images that some cascade has not answered; should be 0.
    pub left_out: u64,
    /// In the order given.
    pub cascades: Vec<Cascade>,
    /// The first with each of the others.
    pub pairs: Vec<Pair>,
    /// What follows, a sentence for each pair.
    pub conclusions: Vec<String>,
}

/// One cascade alone.
#[derive(Clone, Debug, Serialize)]
pub struct Cascade {
    /// What it is called.
    pub name: String,
    /// How good it is.
    #[serde(flatten)]
    pub figures: Figures,
    /// Limits of the figures by the bootstrap.
    pub intervals: BTreeMap<Figure, Interval>,
    /// Verdicts that were degraded.
    pub degraded: u64,
    /// Verdicts per second through the engine, decoding excluded.
    pub images_per_s: f64,
    /// Milliseconds of the engine for an image: the cost.
    pub ms_per_image: f64,
    /// Milliseconds from submission to verdict, one image at a time: what a single caller sees.
    pub latency_ms: Latency,
    /// By stage.
    pub stages: BTreeMap<String, Stage>,
}

/// What one stage does for a cascade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Stage {
    /// Share of images that it was asked about.
    pub asked: f64,
    /// Share of verdicts that are its score.
    pub exits: f64,
    /// Seconds there for an image of the data set, one image at a time; 0 if it was not asked.
    pub seconds_per_image: f64,
}

/// Two cascades on the same images.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// The name of the first.
    pub first: String,
    /// The name of the second.
    pub second: String,
    /// The test of equal accuracy.
    pub mcnemar: McNemar,
    /// Its p-value, corrected for the number of pairs after Holm.
    pub p_corrected: f64,
    /// Second less first, with limits by the paired bootstrap.
    pub differences: BTreeMap<Figure, Difference>,
    /// Time of the engine for an image, second by first.
    pub cost_ratio: f64,
    /// The difference in accuracy that `images_needed` is about.
    pub difference_asked: f64,
    /// About how many images it takes to show that difference, at 5 % with a power of 80 %.
    pub images_needed: Option<u64>,
}

impl Pair {
    /// Whether a difference in accuracy is shown.
    pub fn is_shown(&self) -> bool {
        self.p_corrected < SIGNIFICANT
    }
}

/// Compares the runs; `difference` is the one in accuracy that would matter.
///
/// # Errors
/// If there are fewer than two, they are not about the same images, or no image was answered by all.
pub fn compare(runs: &[Run], resampling: Resampling, difference: f64) -> Result<Experiment> {
    ensure!(runs.len() >= 2, "there must be two cascades to compare");
    let images = runs[0].records.len();
    let same =
        |run: &Run| run.records.iter().map(|r| &r.id).eq(runs[0].records.iter().map(|r| &r.id));
    ensure!(runs.iter().all(same), "the cascades were not asked about the same images");
    let is_answered = |index: &usize| runs.iter().all(|r| r.records[*index].scored().is_some());
    let kept: Vec<usize> = (0..images).filter(is_answered).collect();
    ensure!(!kept.is_empty(), "no image was answered by every cascade");
    let scored: Vec<Vec<Scored>> = runs.iter().map(|run| run.scored(&kept)).collect();
    let cascades: Vec<Cascade> =
        runs.iter().zip(&scored).map(|(run, scored)| run.summary(scored, resampling)).collect();
    let pair = |other: usize| {
        let answers = [scored[0].as_slice(), scored[other].as_slice()];
        pair([&cascades[0], &cascades[other]], answers, resampling, difference)
    };
    let mut pairs: Vec<Pair> = (1..runs.len()).map(pair).collect();
    let corrected = holm(&pairs.iter().map(|pair| pair.mcnemar.p).collect::<Vec<_>>());
    pairs.iter_mut().zip(corrected).for_each(|(pair, p)| pair.p_corrected = p);
    let conclusions = pairs.iter().map(|pair| words::conclusion(pair, kept.len() as u64)).collect();
    let (images, left_out) = (kept.len() as u64, (images - kept.len()) as u64);
    Ok(Experiment { images, left_out, cascades, pairs, conclusions })
}

fn pair(
    cascades: [&Cascade; 2],
    scored: [&[Scored]; 2],
    resampling: Resampling,
    difference: f64,
) -> Pair {
    let mcnemar = McNemar::of(scored[0], scored[1]);
    let apart = (mcnemar.only_first + mcnemar.only_second) as f64;
    // If none of n images tells the two apart, up to 3 of n may (with 95 %).
    let disagreement = apart.max(3.0) / scored[0].len().max(1) as f64;
    Pair {
        first: cascades[0].name.clone(),
        second: cascades[1].name.clone(),
        mcnemar,
        p_corrected: mcnemar.p,
        differences: differences(scored[0], scored[1], resampling),
        cost_ratio: cascades[1].ms_per_image / cascades[0].ms_per_image.max(1e-9),
        difference_asked: difference,
        images_needed: images_needed(disagreement, difference),
    }
}

impl Run {
    fn scored(&self, kept: &[usize]) -> Vec<Scored> {
        kept.iter().filter_map(|index| self.records[*index].scored()).collect()
    }

    fn summary(&self, scored: &[Scored], resampling: Resampling) -> Cascade {
        let answered: Vec<&Record> =
            self.records.iter().filter(|record| record.probability.is_some()).collect();
        let count = answered.len().max(1) as f64;
        let engine = self.engine.as_secs_f64().max(1e-9);
        Cascade {
            name: self.name.clone(),
            figures: figures(scored),
            intervals: intervals(scored, resampling),
            degraded: answered.iter().filter(|record| record.degraded.is_some()).count() as u64,
            images_per_s: count / engine,
            ms_per_image: engine * 1e3 / count,
            latency_ms: Latency::of(self.alone.iter().map(|record| record.latency_ms).collect()),
            stages: stages(&answered, &self.alone),
        }
    }
}

fn stages(records: &[&Record], alone: &[Record]) -> BTreeMap<String, Stage> {
    let mut stages: BTreeMap<String, Stage> = BTreeMap::new();
    for record in records {
        for asked in &record.stages {
            stages.entry(asked.stage.clone()).or_default().asked += 1.0;
        }
        if let Some(exit) = &record.stage {
            stages.entry(exit.clone()).or_default().exits += 1.0;
        }
    }
    for asked in alone.iter().flat_map(|record| &record.stages) {
        let stage = stages.entry(asked.stage.clone()).or_default();
        stage.seconds_per_image += asked.latency_ms / 1e3;
    }
    for stage in stages.values_mut() {
        stage.asked /= records.len().max(1) as f64;
        stage.exits /= records.len().max(1) as f64;
        stage.seconds_per_image /= alone.len().max(1) as f64;
    }
    stages
}
