//! Whether two cascades differ in accuracy on the same images: McNemar's test, and how many images
//! it would take.

use serde::Serialize;

use super::figures::Scored;

/// With fewer images than this that only one of the two gets right, the exact test is taken.
const FEW: u64 = 25;
/// Quantiles of the normal distribution: two-sided 5 %, and 80 % power.
const Z_ALPHA: f64 = 1.959_963_984_540_054;
const Z_BETA: f64 = 0.841_621_233_572_914_2;

/// McNemar's test: of the images that only one of the two gets right, does each get half?
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct McNemar {
    /// Images that only the first gets right.
    pub only_first: u64,
    /// Images that only the second gets right.
    pub only_second: u64,
    /// The probability of a split at least as uneven if both are equally accurate, two-sided.
    pub p: f64,
    /// Whether `p` is of the binomial distribution, and not of the chi-squared with continuity
    /// correction.
    pub exact: bool,
}

impl McNemar {
    /// Compares answers about the same images, in the same order.
    pub fn of(first: &[Scored], second: &[Scored]) -> Self {
        let pairs = || first.iter().zip(second);
        let only_first = pairs().filter(|(a, b)| a.is_right() && !b.is_right()).count() as u64;
        let only_second = pairs().filter(|(a, b)| !a.is_right() && b.is_right()).count() as u64;
        Self::from_counts(only_first, only_second)
    }

    /// Exact where few images tell the two apart, else with continuity correction.
    pub fn from_counts(only_first: u64, only_second: u64) -> Self {
        let exact = only_first + only_second < FEW;
        let test = if exact { exact_p } else { corrected_p };
        Self { only_first, only_second, p: test(only_first, only_second), exact }
    }
}

/// Twice the lower tail of the binomial distribution with one half, at most 1.
pub(super) fn exact_p(first: u64, second: u64) -> f64 {
    let (n, fewer) = (first + second, first.min(second));
    // Logarithms, since a half to the power of n may be too small for a number.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = log_term.exp();
    for k in 1..=fewer {
        log_term += ((n - k + 1) as f64 / k as f64).ln();
        tail += log_term.exp();
    }
    (2.0 * tail).min(1.0)
}

/// The upper tail of the chi-squared distribution with one degree of freedom at
/// `(|first - second| - 1)^2 / (first + second)`.
pub(super) fn corrected_p(first: u64, second: u64) -> f64 {
    if first + second == 0 {
        return 1.0;
    }
    let distance = first.abs_diff(second) as f64 - 1.0;
    libm::erfc((distance.powi(2) / (2.0 * (first + second) as f64)).sqrt())
}

/// The p-values of several tests, corrected for there being several, after Holm: each is at least
/// what it was, and the chance that any of them falls below 5 % without reason is 5 %.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let (mut corrected, mut least) = (vec![0.0; p.len()], 0.0_f64);
    for (rank, &index) in order.iter().enumerate() {
        least = least.max((p.len() - rank) as f64 * p[index]).min(1.0);
        corrected[index] = least;
    }
    corrected
}

/// About how many images McNemar's test needs to show a difference in accuracy, at 5 % with a power
/// of 80 % (Connor 1987), where `disagreement` is the share of images that only one of the two gets
/// right. That share is at least the difference.
pub fn images_needed(disagreement: f64, difference: f64) -> Option<u64> {
    let difference = difference.abs();
    if !(difference > 0.0 && difference <= 1.0 && disagreement.is_finite()) {
        return None;
    }
    let share = disagreement.clamp(difference, 1.0);
    let spread = Z_ALPHA * share.sqrt() + Z_BETA * (share - difference.powi(2)).max(0.0).sqrt();
    Some((spread / difference).powi(2).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_disagreements_count() {
        let scored = |probability| Scored { truth: true, probability };
        let (right, wrong) = (scored(0.9), scored(0.1));
        let first = [right, right, right, wrong, wrong];
        let second = [right, wrong, wrong, right, wrong];
        let found = McNemar::of(&first, &second);
        assert_eq!((found.only_first, found.only_second), (2, 1));
        assert_eq!((found.p, found.exact), (1.0, true));
    }

    #[test]
    fn the_test_is_exact_up_to_24_images() {
        assert!(McNemar::from_counts(12, 12).exact);
        assert!(!McNemar::from_counts(12, 13).exact);
        assert_eq!(McNemar::from_counts(0, 0).p, 1.0);
    }

    #[test]
    fn several_tests_need_more() {
        let corrected = holm(&[0.04, 0.01, 0.03]);
        let expected = [0.06, 0.03, 0.06];
        assert!(
            corrected.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12),
            "{corrected:?}"
        );
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn smaller_differences_need_more_images() {
        let needed = |difference| images_needed(0.1, difference).unwrap();
        assert!(needed(0.01) > needed(0.02) && needed(0.02) > needed(0.05));
        assert_eq!(images_needed(0.1, 0.0), None);
        assert_eq!(images_needed(f64::NAN, 0.1), None);
        assert_eq!(images_needed(0.0, 0.1), images_needed(0.1, 0.1));
    }
}
