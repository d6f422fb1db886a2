//! Right and wrong answers: counts, accuracy, MCC and the subnet's reward.

use serde::Serialize;

/// Right and wrong answers by kind, at the threshold of one half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// Roadwork called roadwork.
    pub true_positives: u64,
    /// No roadwork called none.
    pub true_negatives: u64,
    /// No roadwork called roadwork.
    pub false_positives: u64,
    /// Roadwork called none.
    pub false_negatives: u64,
}

impl Confusion {
    /// Counts one answer.
    pub fn add(&mut self, truth: bool, said: bool) {
        let cell = match (truth, said) {
            (true, true) => &mut self.true_positives,
            (false, false) => &mut self.true_negatives,
            (false, true) => &mut self.false_positives,
            (true, false) => &mut self.false_negatives,
        };
        *cell += 1;
    }

    /// Answers counted.
    pub fn total(&self) -> u64 {
        self.true_positives + self.true_negatives + self.false_positives + self.false_negatives
    }

    /// The share of right answers; 0 if there are none at all.
    pub fn accuracy(&self) -> f64 {
        let right = self.true_positives + self.true_negatives;
        if self.total() == 0 { 0.0 } else { right as f64 / self.total() as f64 }
    }

    /// Matthews' correlation coefficient, -1 to 1; 0 where it is undefined (one class only), as
    /// scikit-learn and the validators have it.
    pub fn mcc(&self) -> f64 {
        let [tp, tn, fp, fn_] =
            [self.true_positives, self.true_negatives, self.false_positives, self.false_negatives]
                .map(|n| n as f64);
        let spread = ((tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_)).sqrt();
        if spread == 0.0 { 0.0 } else { (tp * tn - fp * fn_) / spread }
    }

    /// The subnet's reward, `(0.5 * max(0, MCC) + 0.5 * accuracy)^3`, both taken over everything
    /// that was counted.
    pub fn reward(&self) -> f64 {
        (0.5 * self.mcc().max(0.0) + 0.5 * self.accuracy()).powi(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confusion(tp: u64, tn: u64, fp: u64, fn_: u64) -> Confusion {
        Confusion {
            true_positives: tp,
            true_negatives: tn,
            false_positives: fp,
            false_negatives: fn_,
        }
    }

    #[test]
    fn figures_of_a_known_table() {
        let known = confusion(40, 45, 5, 10);
        assert!((known.accuracy() - 0.85).abs() < 1e-12);
        assert!((known.mcc() - 0.703_526_470_6).abs() < 1e-9, "{}", known.mcc());
        let mean = 0.5 * known.mcc() + 0.5 * 0.85;
        assert!((known.reward() - mean.powi(3)).abs() < 1e-12);
    }

    #[test]
    fn one_class_only_has_no_correlation() {
        assert_eq!(confusion(0, 10, 0, 0).mcc(), 0.0);
        assert_eq!(Confusion::default().accuracy(), 0.0);
    }
}
