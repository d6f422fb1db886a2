//! How sure a figure is, and a difference between two: the bootstrap.
//!
//! The images are drawn again with replacement, roadwork and none each as often as they are there
//! (stratified by label): who collects a test set decides on its share of roadwork, it is not part of
//! the chance. The limits are percentiles of the figures of the resamples. Each resample has its own
//! stream of random numbers, so the outcome does not depend on the number of threads.

use std::collections::BTreeMap;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use super::figures::{Figure, Figures, Scored, Totals};
use super::quantile;

/// How to draw again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resampling {
    /// How often, at least once.
    pub resamples: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// The share of resamples between the limits.
    pub level: f64,
}

impl Default for Resampling {
    fn default() -> Self {
        Self { resamples: 1000, seed: 0, level: 0.95 }
    }
}

/// Limits of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The lower limit.
    pub low: f64,
    /// The upper limit.
    pub high: f64,
}

/// How much more the second has than the first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Second less first.
    pub value: f64,
    /// Its limits.
    #[serde(flatten)]
    pub interval: Interval,
    /// The share of resamples in which the second has more; ties count half.
    pub share_above: f64,
}

/// The limits of every figure of these answers; none if there are no answers.
pub fn intervals(scored: &[Scored], resampling: Resampling) -> BTreeMap<Figure, Interval> {
    let resamples = resample(scored, resampling, |drawn| {
        let mut totals = Totals::default();
        drawn.iter().for_each(|&index| totals.add(scored[index]));
        totals.figures()
    });
    let limits = |figure: Figure| {
        let values = resamples.iter().map(|figures| figures.get(figure));
        Some((figure, interval(sorted(values), resampling.level)?))
    };
    Figure::ALL.into_iter().filter_map(limits).collect()
}

/// The differences between two sets of answers about the same images, in the same order. Both are
/// drawn together, so what makes an image hard for both does not count as chance.
pub fn differences(
    first: &[Scored],
    second: &[Scored],
    resampling: Resampling,
) -> BTreeMap<Figure, Difference> {
    let both = |drawn: &[usize]| -> (Figures, Figures) {
        let (mut a, mut b) = (Totals::default(), Totals::default());
        for &index in drawn {
            a.add(first[index]);
            b.add(second[index]);
        }
        (a.figures(), b.figures())
    };
    debug_assert_eq!(first.len(), second.len());
    let resamples = resample(first, resampling, both);
    let all: Vec<usize> = (0..first.len()).collect();
    let (a, b) = both(&all);
    let difference = |figure: Figure| {
        let less = |(a, b): &(Figures, Figures)| b.get(figure) - a.get(figure);
        let values = sorted(resamples.iter().map(less));
        let above =
            values.iter().map(|v| if *v == 0.0 { 0.5 } else { f64::from(u8::from(*v > 0.0)) });
        let share_above = above.sum::<f64>() / values.len().max(1) as f64;
        let interval = interval(values, resampling.level)?;
        Some((figure, Difference { value: less(&(a, b)), interval, share_above }))
    };
    Figure::ALL.into_iter().filter_map(difference).collect()
}

/// What `measure` says of each resample, given as indices; nothing if there are no answers.
fn resample<T: Send>(
    scored: &[Scored],
    resampling: Resampling,
    measure: impl Fn(&[usize]) -> T + Sync,
) -> Vec<T> {
    if scored.is_empty() {
        return Vec::new();
    }
    let (roadwork, none): (Vec<usize>, Vec<usize>) =
        (0..scored.len()).partition(|&index| scored[index].truth);
    let one = |stream: usize| {
        let mut dice = ChaCha8Rng::seed_from_u64(resampling.seed);
        dice.set_stream(stream as u64);
        let mut drawn = Vec::with_capacity(scored.len());
        for stratum in [&roadwork, &none] {
            drawn.extend((0..stratum.len()).map(|_| stratum[dice.random_range(0..stratum.len())]));
        }
        measure(&drawn)
    };
    (0..resampling.resamples.max(1)).into_par_iter().map(one).collect()
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn interval(sorted: Vec<f64>, level: f64) -> Option<Interval> {
    let tail = (1.0 - level) / 2.0;
    let limit = |q| quantile(&sorted, q);
    (!sorted.is_empty()).then(|| Interval { low: limit(tail), high: limit(1.0 - tail) })
}

#[cfg(test)]
mod tests {
    use super::super::figures::figures;
    use super::*;

    /// `n` answers of which the share `right` is right, at random.
    fn answers(n: usize, right: f64, seed: u64) -> Vec<Scored> {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let mut one = |index: usize| {
            let truth = index.is_multiple_of(2);
            let said = truth == dice.random_bool(right);
            Scored { truth, probability: if said { 0.9 } else { 0.2 } }
        };
        (0..n).map(&mut one).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_limits() {
        let scored = answers(200, 0.9, 1);
        let with = |seed| intervals(&scored, Resampling { seed, ..Resampling::default() });
        assert_eq!(with(7), with(7));
        assert_ne!(with(7), with(8));
    }

    #[test]
    fn limits_are_about_as_wide_as_theory_has_them() {
        let scored = answers(1000, 0.9, 2);
        let accuracy = figures(&scored).accuracy;
        let found = intervals(&scored, Resampling::default())[&Figure::Accuracy];
        let width = 2.0 * 1.96 * (accuracy * (1.0 - accuracy) / 1000.0).sqrt();
        assert!(((found.high - found.low) / width - 1.0).abs() < 0.15, "{found:?} {width}");
        assert!(found.low < accuracy && accuracy < found.high);
    }

    #[test]
    fn limits_cover_the_truth_about_as_often_as_they_say() {
        let covers = |seed: u64| {
            let plan = Resampling { resamples: 200, seed, level: 0.9 };
            let found = intervals(&answers(300, 0.8, seed), plan)[&Figure::Accuracy];
            found.low <= 0.8 && 0.8 <= found.high
        };
        let covered = (0..200).filter(|seed| covers(*seed)).count();
        // 180 are expected, with a deviation of 4.2; discreteness costs a little.
        assert!((160..=195).contains(&covered), "{covered}");
    }

    #[test]
    fn each_class_is_drawn_as_often_as_it_is_there() {
        let mut scored = answers(50, 1.0, 3);
        scored.truncate(49);
        resample(&scored, Resampling { resamples: 20, ..Resampling::default() }, |drawn| {
            assert_eq!(drawn.len(), 49);
            assert_eq!(drawn.iter().filter(|&&index| scored[index].truth).count(), 25);
        });
    }

    #[test]
    fn one_against_itself_shows_no_difference() {
        let scored = answers(100, 0.8, 4);
        for (figure, found) in differences(&scored, &scored, Resampling::default()) {
            let none = Interval { low: 0.0, high: 0.0 };
            assert_eq!(
                (found.value, found.interval, found.share_above),
                (0.0, none, 0.5),
                "{figure:?}"
            );
        }
    }

    #[test]
    fn a_clear_difference_is_seen_and_has_a_sign() {
        let (worse, better) = (answers(500, 0.7, 5), answers(500, 0.95, 6));
        let found = differences(&worse, &better, Resampling::default());
        let accuracy = found[&Figure::Accuracy];
        assert!(accuracy.interval.low > 0.1 && accuracy.share_above == 1.0, "{accuracy:?}");
        assert!(found[&Figure::LogLoss].interval.high < 0.0);
        let expected = figures(&better).accuracy - figures(&worse).accuracy;
        assert!((accuracy.value - expected).abs() < 1e-12);
    }

    #[test]
    fn nothing_has_no_limits_and_one_class_has() {
        assert!(intervals(&[], Resampling::default()).is_empty());
        assert!(differences(&[], &[], Resampling::default()).is_empty());
        let one = [Scored { truth: true, probability: 0.9 }; 3];
        let found = intervals(&one, Resampling::default());
        assert_eq!(found[&Figure::Accuracy], Interval { low: 1.0, high: 1.0 });
        assert_eq!(found[&Figure::Mcc], Interval { low: 0.0, high: 0.0 });
    }
}
