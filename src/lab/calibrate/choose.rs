//! Chooses a stage's calibration and its decision threshold by cross-validation within part A. Pure.

use serde::Serialize;

use super::exact;
use super::fit::{self, Labelled, log_loss};
use super::split::folds;
use crate::calibration::{CalibrationSpec, Method, Remap};
use crate::lab::scores::Confusion;

/// Folds of the cross-validation, if there are so many images of each class.
const FOLDS: usize = 5;

/// Fewest scores of each class that anything is fitted to.
pub const FEWEST: usize = 5;

/// How sure it must be that another threshold than one half is better before it is taken.
const SIGNIFICANCE: f64 = 0.05;

/// What may be fitted, the simplest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Nothing.
    None,
    /// A factor on the logit.
    Temperature,
    /// A factor and an offset.
    Platt,
    /// A step function with sloping steps.
    Isotonic,
}

impl Kind {
    /// Every kind, the simplest first.
    pub const ALL: [Self; 4] = [Self::None, Self::Temperature, Self::Platt, Self::Isotonic];

    /// What it gives on these data; `None` if it cannot be fitted to them, or would turn the scores
    /// upside down.
    fn fit(self, data: &Labelled) -> Option<CalibrationSpec> {
        let plain = CalibrationSpec::default();
        let spec = match self {
            Self::None => plain,
            Self::Temperature => {
                CalibrationSpec { method: Method::Platt, scale: fit::temperature(data), ..plain }
            }
            Self::Platt => {
                let [scale, shift] = fit::platt(data);
                CalibrationSpec { method: Method::Platt, scale, shift, ..plain }
            }
            Self::Isotonic => {
                let points = fit::isotonic(data)?;
                CalibrationSpec { method: Method::Isotonic, points, ..plain }
            }
        };
        spec.problems().is_empty().then_some(spec)
    }
}

/// What was chosen for a stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chosen {
    /// Which kind.
    pub kind: Kind,
    /// Its settings, fitted to all of part A, with the threshold as center.
    pub spec: CalibrationSpec,
    /// Held-out log-loss of each kind that could be fitted.
    pub losses: Vec<(Kind, f64)>,
}

/// Chooses. With fewer than [`FEWEST`] scores of a class, nothing is changed.
pub fn choose(data: &Labelled, seed: u64) -> Chosen {
    let fewest = data.classes().into_iter().min().unwrap_or(0);
    if fewest < FEWEST {
        let spec = CalibrationSpec::default();
        return Chosen { kind: Kind::None, spec, losses: Vec::new() };
    }
    let folded = Folded::new(data, FOLDS.min(fewest), seed);
    let losses: Vec<(Kind, Vec<f64>)> =
        Kind::ALL.into_iter().filter_map(|kind| Some((kind, folded.losses(kind)?))).collect();
    let kind = simplest_of_the_best(&losses);
    let fitted = kind.fit(data).unwrap_or_default();
    let center = folded.threshold(kind, data, &fitted);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    Chosen {
        kind,
        spec: CalibrationSpec { center, ..fitted },
        losses: losses.iter().map(|(kind, losses)| (*kind, mean(losses))).collect(),
    }
}

/// The simplest kind whose held-out loss is within one standard error of the least: the paired
/// differences tell whether a finer fit is one, or noise.
fn simplest_of_the_best(losses: &[(Kind, Vec<f64>)]) -> Kind {
    let sum = |losses: &[f64]| losses.iter().sum::<f64>();
    let best = losses.iter().min_by(|(_, a), (_, b)| sum(a).total_cmp(&sum(b)));
    let Some((_, least)) = best else { return Kind::None };
    let is_as_good = |losses: &Vec<f64>| {
        let n = losses.len() as f64;
        let off: Vec<f64> = losses.iter().zip(least).map(|(a, b)| a - b).collect();
        let mean = sum(&off) / n;
        let spread = off.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        mean <= (spread / n).sqrt()
    };
    losses.iter().find(|(_, losses)| is_as_good(losses)).map_or(Kind::None, |(kind, _)| *kind)
}

/// The data with one part at a time held out.
struct Folded {
    rounds: Vec<(Labelled, Labelled)>,
}

impl Folded {
    fn new(data: &Labelled, count: usize, seed: u64) -> Self {
        let fold = folds(&data.labels, count, seed);
        let part = |is_in: &dyn Fn(usize) -> bool| {
            let kept: Vec<usize> = (0..fold.len()).filter(|image| is_in(fold[*image])).collect();
            Labelled {
                scores: kept.iter().map(|image| data.scores[*image]).collect(),
                labels: kept.iter().map(|image| data.labels[*image]).collect(),
            }
        };
        let round = |out: usize| (part(&|fold| fold != out), part(&|fold| fold == out));
        Self { rounds: (0..count).map(round).collect() }
    }

    /// The loss of every image when it was held out.
    fn losses(&self, kind: Kind) -> Option<Vec<f64>> {
        let mut losses = Vec::new();
        for (fitted_to, held_out) in &self.rounds {
            let held_out = calibrated(held_out, &kind.fit(fitted_to)?);
            let of = held_out.scores.iter().zip(&held_out.labels);
            losses.extend(of.map(|(p, label)| log_loss(*p, *label)));
        }
        Some(losses)
    }

    /// The best decision threshold of the fitted calibration, if thresholds found without the images
    /// that they are judged by are significantly better than one half (sign test); else one half.
    fn threshold(&self, kind: Kind, data: &Labelled, fitted: &CalibrationSpec) -> f64 {
        let (mut mended, mut spoilt) = (0, 0);
        for (fitted_to, held_out) in &self.rounds {
            let Some(spec) = kind.fit(fitted_to) else { return 0.5 };
            let threshold = best_threshold(&calibrated(fitted_to, &spec));
            let held_out = calibrated(held_out, &spec);
            for (p, label) in held_out.scores.iter().zip(&held_out.labels) {
                let (before, after) = ((*p > 0.5) == *label, (*p > threshold) == *label);
                mended += u64::from(after && !before);
                spoilt += u64::from(before && !after);
            }
        }
        let luck = exact::at_least(mended, mended + spoilt, 0.5);
        if luck > SIGNIFICANCE { 0.5 } else { best_threshold(&calibrated(data, fitted)) }
    }
}

fn calibrated(data: &Labelled, spec: &CalibrationSpec) -> Labelled {
    let Ok(remap) = Remap::new(spec) else { return data.clone() };
    let scores = data.scores.iter().map(|p| remap.calibrated(*p)).collect();
    Labelled { scores, labels: data.labels.clone() }
}

/// The threshold with the highest reward of the subnet; of several, the nearest to one half.
pub fn best_threshold(data: &Labelled) -> f64 {
    let mut pairs: Vec<(f64, bool)> =
        data.scores.iter().copied().zip(data.labels.iter().copied()).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let [negatives, positives] = data.classes().map(|n| n as u64);
    let (mut confusion, mut low) = (
        Confusion { true_positives: positives, false_positives: negatives, ..Confusion::default() },
        0.0,
    );
    let (mut best, mut reward) = (0.5, f64::NEG_INFINITY);
    let mut at = 0;
    loop {
        let high = pairs.get(at).map_or(1.0, |(score, _)| *score);
        if high > low {
            let here = confusion.reward();
            let threshold = within(low, high);
            let is_nearer = (threshold - 0.5).abs() < (best - 0.5_f64).abs();
            if here > reward + 1e-12 || (here > reward - 1e-12 && is_nearer) {
                (best, reward) = (threshold, here);
            }
            low = high;
        }
        let Some((_, label)) = pairs.get(at) else { return best };
        let (from, to) = if *label {
            (&mut confusion.true_positives, &mut confusion.false_negatives)
        } else {
            (&mut confusion.false_positives, &mut confusion.true_negatives)
        };
        *from -= 1;
        *to += 1;
        at += 1;
    }
}

/// A threshold that tells scores up to `low` from those of `high` and more: one half if it does, else
/// the middle, short to write where that is enough.
fn within(low: f64, high: f64) -> f64 {
    if low <= 0.5 && 0.5 < high {
        return 0.5;
    }
    let middle = 0.5 * (low + high);
    let short = (middle * 1e6).round() / 1e6;
    let fits = low <= short && short < high && short > 0.0;
    if fits { short } else { middle.clamp(1e-9, 1.0 - 1e-9) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::logit;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// Labels drawn from true probabilities, scores distorted by `said`.
    fn drawn(count: usize, seed: u64, said: impl Fn(f64) -> f64) -> Labelled {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut data = Labelled::default();
        for _ in 0..count {
            let truth: f64 = rng.random_range(-4.0..4.0);
            data.labels.push(rng.random_bool(sigmoid(truth)));
            data.scores.push(sigmoid(said(truth)));
        }
        data
    }

    #[test]
    fn a_calibrated_stage_is_left_alone() {
        let chosen = choose(&drawn(400, 1, |x| x), 7);
        assert_eq!((chosen.kind, chosen.spec.center), (Kind::None, 0.5), "{chosen:?}");
        assert_eq!(chosen.losses.len(), 4);
    }

    #[test]
    fn the_kind_of_the_distortion_is_found() {
        let cold = choose(&drawn(600, 2, |x| 3.0 * x), 7);
        assert_eq!(cold.kind, Kind::Temperature, "{:?}", cold.losses);
        assert!((cold.spec.scale - 1.0 / 3.0).abs() < 0.1, "{:?}", cold.spec);
        let moved = choose(&drawn(600, 3, |x| 2.0 * x + 3.0), 7);
        assert_eq!(moved.kind, Kind::Platt, "{:?}", moved.losses);
        let bent = choose(&drawn(3000, 4, |x| if x < 0.0 { x - 4.0 } else { 0.3 * x }), 7);
        assert_eq!(bent.kind, Kind::Isotonic, "{:?}", bent.losses);
        assert!(bent.spec.problems().is_empty());
    }

    #[test]
    fn scores_that_are_upside_down_or_too_few_are_left_alone() {
        assert_eq!(choose(&drawn(300, 5, |x| -x), 7).spec.method, Method::Isotonic);
        assert_eq!(choose(&drawn(6, 5, |x| x), 7).spec, CalibrationSpec::default());
        assert_eq!(choose(&Labelled::default(), 7).spec, CalibrationSpec::default());
    }

    #[test]
    fn a_threshold_moves_only_for_a_gain_that_is_no_luck() {
        // Uncalibrated on purpose: the kind `none` must move the threshold to where the classes part.
        let data = drawn(400, 6, |x| x + 3.0);
        let folded = Folded::new(&data, 5, 1);
        let moved = folded.threshold(Kind::None, &data, &CalibrationSpec::default());
        assert!((logit(moved) - 3.0).abs() < 0.7, "{moved}");
        let data = drawn(400, 6, |x| x);
        let folded = Folded::new(&data, 5, 1);
        assert_eq!(folded.threshold(Kind::None, &data, &CalibrationSpec::default()), 0.5);
    }

    #[test]
    fn the_best_threshold_by_hand() {
        let at = |pairs: &[(f64, bool)]| {
            let (scores, labels) = pairs.iter().copied().unzip();
            best_threshold(&Labelled { scores, labels })
        };
        assert_eq!(at(&[(0.1, false), (0.2, true), (0.9, true)]), 0.15);
        assert_eq!(at(&[(0.1, false), (0.9, true)]), 0.5);
        assert_eq!(at(&[(0.6, false), (0.7, false), (0.8, true)]), 0.75);
        assert_eq!(at(&[]), 0.5);
        // Both ends are as good as the middle: nothing can be told apart.
        assert_eq!(at(&[(0.5, false), (0.5, true)]), 0.5);
    }
}
