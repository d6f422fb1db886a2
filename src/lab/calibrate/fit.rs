//! Fits a calibration to scores and labels: a temperature, Platt scaling, isotonic regression. Pure.

use crate::calibration::logit;

/// Steps of Newton's method before the outcome is taken as it is; it needs about ten.
const STEPS: usize = 100;

/// A probability is kept this far from 0 and 1 before its logarithm is taken.
const MARGIN: f64 = 1e-7;

/// Scores with their labels.
#[derive(Clone, Debug, Default)]
pub struct Labelled {
    /// Probabilities, no NaN among them.
    pub scores: Vec<f64>,
    /// Whether each is of roadwork.
    pub labels: Vec<bool>,
}

impl Labelled {
    /// How many of each class: no roadwork, roadwork.
    pub fn classes(&self) -> [usize; 2] {
        let roadwork = self.labels.iter().filter(|label| **label).count();
        [self.labels.len() - roadwork, roadwork]
    }

    /// What a probability is pulled towards: Platt's targets, which a finite fit can reach.
    fn targets(&self) -> [f64; 2] {
        let [negatives, positives] = self.classes().map(|n| n as f64);
        [1.0 / (negatives + 2.0), (positives + 1.0) / (positives + 2.0)]
    }
}

/// Minus the logarithm of the probability that was given to the truth. It only chooses among fits. The
/// log-loss of reports, [`crate::lab::scores`], keeps closer to 0 and 1: where a score is sure and wrong
/// the two differ.
pub fn log_loss(probability: f64, label: bool) -> f64 {
    let kept = probability.clamp(MARGIN, 1.0 - MARGIN);
    -(if label { kept } else { 1.0 - kept }).ln()
}

/// Scale and shift of Platt scaling: the least log-loss against Platt's targets (Platt 1999, in the
/// numerically sound form of Lin, Lin and Weng 2007).
pub fn platt(data: &Labelled) -> [f64; 2] {
    newton(data, [true, true])
}

/// The scale alone: the inverse of a temperature.
pub fn temperature(data: &Labelled) -> f64 {
    newton(data, [true, false])[0]
}

/// Newton's method with halved steps, over those of scale and shift that are free.
fn newton(data: &Labelled, free: [bool; 2]) -> [f64; 2] {
    let xs: Vec<f64> = data.scores.iter().map(|p| logit(*p)).collect();
    let [no, yes] = data.targets();
    let targets: Vec<f64> = data.labels.iter().map(|label| if *label { yes } else { no }).collect();
    let loss = |at: [f64; 2]| -> f64 {
        xs.iter().zip(&targets).map(|(x, t)| cross_entropy(at[0] * x + at[1], *t)).sum()
    };
    let mut at = [1.0, 0.0];
    let mut here = loss(at);
    for _ in 0..STEPS {
        let step = step(&xs, &targets, at, free);
        let mut share = 1.0;
        let next = loop {
            let next = [at[0] - share * step[0], at[1] - share * step[1]];
            if loss(next) <= here || share < 1e-10 {
                break next;
            }
            share *= 0.5;
        };
        let there = loss(next);
        if there >= here {
            break;
        }
        (at, here) = (next, there);
    }
    at
}

/// The gradient over the curvature.
fn step(xs: &[f64], targets: &[f64], at: [f64; 2], free: [bool; 2]) -> [f64; 2] {
    let (mut gradient, mut curvature) = ([0.0; 2], [1e-12, 0.0, 1e-12]);
    for (x, target) in xs.iter().zip(targets) {
        let p = 1.0 / (1.0 + (-(at[0] * x + at[1])).exp());
        let (off, weight) = (p - target, p * (1.0 - p));
        gradient = [gradient[0] + off * x, gradient[1] + off];
        curvature[0] += weight * x * x;
        curvature[1] += weight * x;
        curvature[2] += weight;
    }
    if !free[1] {
        return [gradient[0] / curvature[0], 0.0];
    }
    let [xx, x, one] = curvature;
    let determinant = xx * one - x * x;
    [
        (one * gradient[0] - x * gradient[1]) / determinant,
        (xx * gradient[1] - x * gradient[0]) / determinant,
    ]
}

/// The cross-entropy of a target and the sigmoid of `x`, without overflow.
fn cross_entropy(x: f64, target: f64) -> f64 {
    x.max(0.0) - target * x + (-x.abs()).exp().ln_1p()
}

/// The corners of the isotonic regression of the labels on the scores (pool adjacent violators), its
/// ends kept within Platt's targets so that no log-loss is infinite. `None` without two different
/// scores.
pub fn isotonic(data: &Labelled) -> Option<Vec<[f64; 2]>> {
    let [lowest, highest] = data.targets();
    let mut corners: Vec<[f64; 2]> = Vec::new();
    for block in pooled(data) {
        let value = (block.sum / block.weight).clamp(lowest, highest);
        match corners.as_mut_slice() {
            [.., from, to] if from[1] == value && to[1] == value => to[0] = block.last,
            [.., to] if to[1] == value => corners.push([block.last, value]),
            _ => corners.push([block.first, value]),
        }
        if corners.last().is_some_and(|corner| corner[0] < block.last) {
            corners.push([block.last, value]);
        }
    }
    (corners.len() >= 2).then_some(corners)
}

/// Neighbouring scores with one value.
struct Block {
    first: f64,
    last: f64,
    sum: f64,
    weight: f64,
}

/// The blocks of the regression, in order, their means strictly rising.
fn pooled(data: &Labelled) -> Vec<Block> {
    let mut pairs: Vec<(f64, f64)> =
        data.scores.iter().zip(&data.labels).map(|(x, y)| (*x, f64::from(u8::from(*y)))).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut blocks: Vec<Block> = Vec::new();
    for (x, y) in pairs {
        match blocks.last_mut() {
            Some(block) if block.first == x => {
                block.sum += y;
                block.weight += 1.0;
            }
            _ => blocks.push(Block { first: x, last: x, sum: y, weight: 1.0 }),
        }
    }
    let mut pooled: Vec<Block> = Vec::new();
    for mut block in blocks {
        while let Some(before) =
            pooled.pop_if(|before| before.sum * block.weight >= block.sum * before.weight)
        {
            block.first = before.first;
            block.sum += before.sum;
            block.weight += before.weight;
        }
        pooled.push(block);
    }
    pooled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pairs: &[(f64, u8)]) -> Labelled {
        let (scores, labels) = pairs.iter().map(|(x, y)| (*x, *y == 1)).unzip();
        Labelled { scores, labels }
    }

    #[test]
    fn separable_scores_give_a_finite_fit() {
        let separable = data(&[(0.1, 0), (0.2, 0), (0.8, 1), (0.9, 1)]);
        let [scale, shift] = platt(&separable);
        assert!(scale.is_finite() && scale > 0.0 && shift.abs() < 1e-6, "{scale} {shift}");
        assert!(temperature(&separable) > 0.0);
        let corners = isotonic(&separable).unwrap();
        assert_eq!(corners, [[0.1, 0.25], [0.2, 0.25], [0.8, 0.75], [0.9, 0.75]]);
    }

    #[test]
    fn violators_are_pooled_and_equal_scores_are_one() {
        let mixed = [(0.1, 0), (0.2, 1), (0.3, 0), (0.3, 1), (0.9, 1), (0.9, 1)];
        // Block 0.1: 0; block 0.2 to 0.3: 2/3; block 0.9: 1. The ends are 1/4 and 5/6.
        let expected = [[0.1, 0.25], [0.2, 2.0 / 3.0], [0.3, 2.0 / 3.0], [0.9, 5.0 / 6.0]];
        assert_eq!(isotonic(&data(&mixed)).unwrap(), expected);
    }

    #[test]
    fn one_score_has_no_isotonic_fit() {
        assert_eq!(isotonic(&data(&[(0.5, 0), (0.5, 1)])), None);
        assert_eq!(isotonic(&Labelled::default()), None);
    }

    #[test]
    fn a_loss_is_finite_even_where_it_was_sure_and_wrong() {
        assert!(log_loss(0.0, true).is_finite() && log_loss(1.0, false) > 15.0);
        assert!((log_loss(0.25, true) - 4.0_f64.ln()).abs() < 1e-12);
    }
}
