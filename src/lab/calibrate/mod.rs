//! Calibrates a cascade with a guarantee: each stage's probabilities, then the cheapest early exits
//! under which the cascade errs where the full cascade does not with a probability of at most epsilon,
//! at confidence 1 - delta over the sample.
//!
//! Part A of the sample fits the calibrations and draws up a list of settings; part B tests them in
//! that order until the first that fails: fixed-sequence testing with exact binomial p-values, as in
//! Learn then Test (Angelopoulos, Bates, Candès, Jordan, Lei 2021), the order along the front of
//! estimated harm and cost as in Pareto Testing (Laufer-Goldshtein et al. 2023). Pure but for
//! [`measure`], which asks an engine.

pub mod candidates;
pub mod choose;
pub mod exact;
pub mod fit;
#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod guarantee_tests;
pub mod measure;
pub mod overlay;
pub mod report;
pub mod split;
#[cfg(test)]
mod tests;
pub mod walk;

use std::fmt;

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::calibration::{CalibrationSpec, Remap};
use crate::cascade::{Exhausted, InputKind, StageRule};
use candidates::{Cascade, Exits, NEVER};
use choose::{Chosen, FEWEST, choose};
use fit::Labelled;
use report::{Figures, Report, Setting, StageReport};
use split::{Parts, split};
use walk::{Scores, walk};

/// Most stages of a cascade: with more, the combinations of their exits would be too many to try.
const MOST_STAGES: usize = 8;

/// What an image costs in a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Milliseconds of the device, batches being full.
    pub device_ms: f64,
    /// Milliseconds from asking to the answer, nothing else being asked.
    pub latency_ms: f64,
}

/// A stage of the cascade, as it is configured and as it was measured.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Its exits, and when it is asked.
    pub rule: StageRule,
    /// Its calibration so far.
    pub calibration: CalibrationSpec,
    /// What an image costs.
    pub cost: Cost,
    /// What it says of each image, uncalibrated; NaN where it abstains.
    pub scores: Vec<f32>,
}

/// A labelled sample with what every stage says of it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The stages that images can reach, in order.
    pub stages: Vec<Stage>,
    /// What is answered when nobody was sure.
    pub exhausted: Exhausted,
    /// Whether each image shows roadwork.
    pub labels: Vec<bool>,
    /// The group of each image, if it has one; equal files belong in one, as [`split::grouped`] has it.
    pub groups: Vec<Option<String>>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Options {
    /// Most that the error may exceed that of the full cascade.
    pub epsilon: f64,
    /// How often that may fail, over samples.
    pub delta: f64,
    /// The share of the sample that is fitted to.
    pub fit_share: f64,
    /// Seed of the split.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Exits with the guarantee; their report.
    Certified(Box<Report>),
    /// The sample is too small.
    TooFew(TooFew),
    /// No early exit could be certified.
    Nothing {
        /// What was seen.
        report: Box<Report>,
        /// Images in all, or groups if there are any, after which the safest setting would be certified if its harm went on at the
        /// rate that was seen; `None` if more images would not help.
        needed_in_all: Option<u64>,
    },
}

/// A sample so small that not even no harm at all would prove anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct TooFew {
    /// Images in the sample.
    pub images: usize,
    /// Groups in the sample; an image without one counts as one.
    pub units: usize,
    /// Of these, in part B.
    pub tested: usize,
    /// Least number in part B.
    pub needed: u64,
    /// Least number in all, at this share.
    pub needed_in_all: u64,
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { images, units, tested, needed, needed_in_all } = self;
        let noun = if units == images { "images" } else { "groups" };
        write!(f, "{units} {noun} are too few: {tested} of them are left to test with, and even ")?;
        write!(
            f,
            "without a single harm {needed} are needed; that is {needed_in_all} {noun} in all"
        )
    }
}

/// A sample in two parts, if it is large enough.
#[derive(Clone, Debug)]
pub enum Divided {
    /// The parts.
    Parts(Parts),
    /// It is too small.
    TooFew(TooFew),
}

/// Whether images can reach a stage with this rule: one for clips alone plays no part here.
pub fn takes_images(rule: &StageRule) -> bool {
    rule.when.holds(InputKind::Image, None)
}

impl Options {
    fn check(&self) -> anyhow::Result<()> {
        let Self { epsilon, delta, fit_share, .. } = *self;
        ensure!(epsilon > 0.0 && epsilon < 0.5, "epsilon must be above 0 and below 0.5: {epsilon}");
        ensure!(delta > 0.0 && delta <= 0.25, "delta must be above 0 and at most 0.25: {delta}");
        let fits = (0.1..=0.9).contains(&fit_share);
        ensure!(fits, "the share that is fitted to must be 0.1 to 0.9: {fit_share}");
        Ok(())
    }

    /// How many images, or groups, give so many in part B.
    fn in_all(&self, tested: u64) -> u64 {
        let left = |all: u64| all - (self.fit_share * all as f64).round() as u64;
        let mut all = (tested as f64 / (1.0 - self.fit_share)).floor() as u64;
        while left(all) < tested {
            all += 1;
        }
        // Each class is rounded on its own.
        all + 1
    }
}

impl Sample {
    fn check(&self) -> anyhow::Result<()> {
        let count = self.stages.len();
        ensure!(count >= 2, "the cascade has {count} stage for images: there is no early exit");
        ensure!(
            count <= MOST_STAGES,
            "{count} stages for images are more than {MOST_STAGES}, whose exits \
                can be tried together: leave some out of cascade.order"
        );
        let images = self.labels.len();
        for Stage { name, scores, .. } in &self.stages {
            let found = scores.len();
            ensure!(found == images, "stage {name} has {found} scores for {images} images");
            let is_silent = scores.iter().all(|score| score.is_nan());
            ensure!(!is_silent, "stage {name} abstained from every image");
        }
        Ok(())
    }

    /// The scores and labels of a stage within a part, abstentions left out.
    fn labelled(&self, stage: usize, images: &[usize]) -> Labelled {
        let scores = &self.stages[stage].scores;
        let kept: Vec<usize> =
            images.iter().copied().filter(|image| !scores[*image].is_nan()).collect();
        Labelled {
            scores: kept.iter().map(|image| f64::from(scores[*image])).collect(),
            labels: kept.iter().map(|image| self.labels[*image]).collect(),
        }
    }

    /// Everything that every stage says, calibrated so.
    fn calibrated(&self, specs: &[&CalibrationSpec]) -> anyhow::Result<Scores> {
        let column = |(stage, spec): (&Stage, &&CalibrationSpec)| {
            let remap = Remap::new(spec).with_context(|| format!("stage {}", stage.name))?;
            anyhow::Ok(stage.scores.iter().map(|p| remap.apply(*p)).collect())
        };
        let columns =
            self.stages.iter().zip(specs).map(column).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Scores::new(&columns))
    }
}

/// Calibrates.
///
/// # Errors
/// If the options are out of range, or the sample cannot be fitted to: one class only, too few of one,
/// a stage that says nothing.
pub fn calibrate(sample: &Sample, options: Options) -> anyhow::Result<Outcome> {
    sample.check()?;
    let parts = match divide(&sample.labels, &sample.groups, options)? {
        Divided::Parts(parts) => parts,
        Divided::TooFew(few) => return Ok(Outcome::TooFew(few)),
    };
    let tested = parts.test.len();
    let stages = 0..sample.stages.len();
    let seed = |stage: usize| options.seed.wrapping_add(1 + stage as u64);
    let chosen: Vec<Chosen> =
        stages.map(|stage| choose(&sample.labelled(stage, &parts.fit), seed(stage))).collect();
    let report = test(sample, options, &parts, chosen)?;
    if report.chosen.is_some() {
        return Ok(Outcome::Certified(Box::new(report)));
    }
    let needed = report.settings.first().and_then(|safest| {
        let rate = safest.harms as f64 / tested as f64;
        exact::fewest_at(rate, options.epsilon, options.delta)
    });
    let needed_in_all = needed.map(|needed| options.in_all(needed));
    Ok(Outcome::Nothing { report: Box::new(report), needed_in_all })
}

/// Divides the sample, if it is large enough: what can be told before any stage is asked.
///
/// # Errors
/// If the options are out of range, or a class has too few images in either part.
pub fn divide(
    labels: &[bool],
    groups: &[Option<String>],
    options: Options,
) -> anyhow::Result<Divided> {
    options.check()?;
    let (images, roadwork) = (labels.len(), labels.iter().filter(|label| **label).count());
    let class = if roadwork == 0 { "none shows" } else { "all show" };
    ensure!(roadwork > 0 && roadwork < images, "of {images} images {class} roadwork");
    let parts = split(labels, groups, options.fit_share, options.seed);
    let (tested, needed) = (parts.test.len(), exact::fewest(options.epsilon, options.delta));
    if (tested as u64) < needed {
        let needed_in_all = options.in_all(needed);
        let units = split::count(groups);
        return Ok(Divided::TooFew(TooFew { images, units, tested, needed, needed_in_all }));
    }
    let fit_share = options.fit_share;
    for (part, what, share) in
        [(&parts.fit, "fit to", fit_share), (&parts.test, "test with", 1.0 - fit_share)]
    {
        let roadwork = part.iter().filter(|image| labels[**image]).count();
        for (count, class) in [(roadwork, "with"), (part.len() - roadwork, "without")] {
            let needed = (FEWEST as f64 / share).ceil();
            ensure!(
                count >= FEWEST,
                "{count} images {class} roadwork are too few to {what}: about {needed} of them, of \
                 as many groups, are needed in all"
            );
        }
    }
    Ok(Divided::Parts(parts))
}

/// Draws up the settings from part A and tests them on part B, in order, until the first that fails.
fn test(
    sample: &Sample,
    options: Options,
    parts: &Parts,
    chosen: Vec<Chosen>,
) -> anyhow::Result<Report> {
    let specs: Vec<&CalibrationSpec> = chosen.iter().map(|chosen| &chosen.spec).collect();
    let scores = sample.calibrated(&specs)?;
    let rules: Vec<StageRule> = sample.stages.iter().map(|stage| stage.rule.clone()).collect();
    let early: Vec<usize> = (0..rules.len() - 1).collect();
    // A cost of nothing would make every setting as cheap as the next.
    let costs: Vec<f64> = sample.stages.iter().map(|s| s.cost.device_ms.max(1e-9)).collect();
    let cascade = Cascade {
        scores: &scores,
        labels: &sample.labels,
        rules: &rules,
        early: &early,
        costs: &costs,
        exhausted: sample.exhausted,
    };
    let never: Exits = vec![NEVER; early.len()];
    let settings = tested(sample, options, &cascade, parts);
    let chosen_setting = cheapest(&settings);
    let configured: Vec<&CalibrationSpec> = sample.stages.iter().map(|s| &s.calibration).collect();
    let configured = sample.calibrated(&configured)?;
    let figures = |scores: &Scores, rules: &[StageRule]| {
        Figures::of(sample, &parts.test, |image| walk(scores.row(image), rules, sample.exhausted))
    };
    let after = chosen_setting.map(|place| cascade.with(&settings[place].exits));
    let stages = sample.stages.iter().zip(chosen);
    let stages: Vec<StageReport> = stages
        .map(|(stage, chosen)| StageReport { name: stage.name.clone(), cost: stage.cost, chosen })
        .collect();
    Ok(Report {
        options,
        units: split::count(&sample.groups),
        fitted: parts.fit.len(),
        tested: parts.test.len(),
        aside: parts.aside.len(),
        stages,
        before: figures(&configured, &rules),
        full: figures(&scores, &cascade.with(&never)),
        after: after.as_deref().map(|rules| figures(&scores, rules)),
        settings,
        chosen: chosen_setting,
    })
}

/// The certified setting of the least cost, and of those the one of the least harm. All that are
/// certified hold together, so that the choice among them is free.
fn cheapest(settings: &[Setting]) -> Option<usize> {
    let certified = settings.iter().enumerate().filter(|(_, setting)| setting.certified);
    let key = |setting: &Setting| (setting.figures.cost.device_ms, setting.harms);
    let least = certified.min_by(|(_, a), (_, b)| {
        let (a, b) = (key(a), key(b));
        a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
    });
    least.map(|(place, _)| place)
}

/// The settings with what part B says of them. Those before the first failure are certified.
fn tested(sample: &Sample, options: Options, cascade: &Cascade<'_>, parts: &Parts) -> Vec<Setting> {
    let went = |rules: &[StageRule], image: usize| {
        walk(cascade.scores.row(image), rules, cascade.exhausted)
    };
    let all = cascade.with(&vec![NEVER; cascade.early.len()]);
    let is_right = |image: &usize| went(&all, *image).is_right(sample.labels[*image]);
    let full: Vec<bool> = parts.test.iter().map(is_right).collect();
    let mut is_certified = true;
    let mut settings = Vec::new();
    for exits in cascade.candidates(&parts.fit) {
        let rules = cascade.with(&exits);
        let is_harm = |(image, full_is_right): &(&usize, &bool)| {
            **full_is_right && !went(&rules, **image).is_right(sample.labels[**image])
        };
        let harms = parts.test.iter().zip(&full).filter(is_harm).count() as u64;
        let p_value = exact::at_most(harms, parts.test.len() as u64, options.epsilon);
        is_certified &= p_value <= options.delta;
        settings.push(Setting {
            exits,
            harms,
            p_value,
            certified: is_certified,
            figures: Figures::of(sample, &parts.test, |image| went(&rules, image)),
        });
    }
    settings
}
