//! The subnet's validator as a state machine: answers in, reward and score out. Pure.
//!
//! It follows the validator's own source (`miner_performance_tracker.py`, `reward.py` and
//! `update_scores`), including what that does when scikit-learn refuses a window.

use std::collections::VecDeque;

use super::scores::Confusion;

/// What the validator enters for a call without an answer in time.
pub const MISS: f64 = -1.0;
/// Answers of which the correlation is taken.
const LONG: usize = 100;
/// Answers of which the accuracy is taken.
const SHORT: usize = 10;
/// The weight of the newest reward in the score.
const WEIGHT: f64 = 0.05;

/// What a validator remembers of one miner.
#[derive(Clone, Debug, Default)]
pub struct Validator {
    /// Predictions as they came, and the labels; the newest last.
    history: VecDeque<(f64, bool)>,
    score: f64,
}

/// What one challenge came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// For this answer.
    pub reward: f64,
    /// The moving average after it.
    pub score: f64,
}

/// What the validator makes of some answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Metrics {
    accuracy: f64,
    /// At least 0; 0 unless both labels and two predicted classes occur.
    mcc: f64,
}

impl Validator {
    /// One challenge: what was answered, which may be any number or [`MISS`], and the truth.
    pub fn on(&mut self, prediction: f64, label: bool) -> Step {
        self.history.push_back((prediction, label));
        if self.history.len() > LONG {
            self.history.pop_front();
        }
        let reward = self.reward(prediction);
        self.score = WEIGHT * reward + (1.0 - WEIGHT) * self.score;
        Step { reward, score: self.score }
    }

    #[expect(clippy::manual_range_contains, reason = "a NaN is not outside; it empties its window")]
    fn reward(&self, prediction: f64) -> f64 {
        let is_outside = prediction < 0.0 || prediction > 1.0;
        if is_outside {
            return 0.0;
        }
        let mcc = self.metrics(LONG).mcc;
        let accuracy = self.metrics(SHORT).accuracy;
        (0.5 * mcc + 0.5 * accuracy).powi(3)
    }

    /// Of the last `window` answers; misses are dropped only then, and a window that scikit-learn
    /// refuses counts as empty.
    fn metrics(&self, window: usize) -> Metrics {
        let skipped = self.history.len().saturating_sub(window);
        let recent = self.history.iter().skip(skipped);
        let (mut confusion, mut strange) = (Confusion::default(), Vec::new());
        for &(prediction, label) in recent.filter(|(prediction, _)| *prediction != MISS) {
            // As numpy rounds: 0.5 becomes 0, and 1.5 becomes 2.
            match prediction.round_ties_even() {
                0.0 => confusion.add(label, false),
                1.0 => confusion.add(label, true),
                class => strange.push((class, label)),
            }
        }
        if strange.is_empty() {
            Metrics::of(confusion)
        } else {
            Metrics::strange(confusion, &strange)
        }
    }
}

impl Metrics {
    fn of(confusion: Confusion) -> Self {
        Self { accuracy: confusion.accuracy(), mcc: confusion.mcc().max(0.0) }
    }

    /// With predicted classes other than 0 and 1. The validator asks scikit-learn for the precision
    /// of class 1, which is refused for a number that is not finite, for more than two classes in
    /// labels and predictions together, and for two of which none is 1.
    fn strange(confusion: Confusion, strange: &[(f64, bool)]) -> Self {
        let Confusion { true_positives, true_negatives, false_positives, false_negatives } =
            confusion;
        let mut classes: Vec<f64> = strange.iter().map(|(class, _)| *class).collect();
        let labels = |wanted| strange.iter().any(|(_, label)| *label == wanted);
        if true_positives + false_positives + false_negatives > 0 || labels(true) {
            classes.push(1.0);
        }
        if true_negatives + false_positives + false_negatives > 0 || labels(false) {
            classes.push(0.0);
        }
        classes.sort_by(f64::total_cmp);
        classes.dedup();
        let is_refused = classes.iter().any(|class| !class.is_finite())
            || classes.len() > 2
            || (classes.len() == 2 && !classes.contains(&1.0));
        if is_refused {
            return Self::default();
        }
        // Every label is 1 then, and there is no correlation to speak of.
        let answers = confusion.total() + strange.len() as u64;
        Self { accuracy: true_positives as f64 / answers as f64, mcc: 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_score_is_that_of_scikit_learn_along_the_way() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/lab/scores.json");
        let golden: Value = serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap();
        let sequences = golden["validator"].as_array().unwrap();
        assert!(sequences.len() >= 2);
        for (index, sequence) in sequences.iter().enumerate() {
            let mut validator = Validator::default();
            for (step, row) in sequence.as_array().unwrap().iter().enumerate() {
                let prediction = match row[0].as_str() {
                    Some("nan") => f64::NAN,
                    Some(_) => f64::INFINITY,
                    None => row[0].as_f64().unwrap(),
                };
                let found = validator.on(prediction, row[1] == 1);
                let expected = [row[2].as_f64().unwrap(), row[3].as_f64().unwrap()];
                let is_close = (found.reward - expected[0]).abs() < 1e-9
                    && (found.score - expected[1]).abs() < 1e-9;
                assert!(is_close, "{index}, step {step}, {row}: {found:?}");
            }
        }
    }

    /// The mean reward of an accuracy, once the windows are full.
    fn mean_reward(accuracy: f64) -> f64 {
        let (mut validator, mut dice) = (Validator::default(), ChaCha8Rng::seed_from_u64(1));
        let (mut sum, steps) = (0.0, 200_000);
        for step in 0..steps + LONG {
            let label = dice.random_bool(0.5);
            let said = label == dice.random_bool(accuracy);
            let found = validator.on(if said { 0.9 } else { 0.1 }, label);
            sum += if step < LONG { 0.0 } else { found.reward };
        }
        sum / steps as f64
    }

    #[test]
    fn what_accuracies_are_worth() {
        // What the protocol's notes give, to two digits, is for windows without end.
        let known =
            [(0.8, 0.34), (0.9, 0.61), (0.95, 0.79), (0.97, 0.87), (0.98, 0.91), (0.99, 0.96)];
        for (accuracy, endless) in known {
            let mean = 0.5 * (2.0 * accuracy - 1.0) + 0.5 * accuracy;
            assert!((f64::powi(mean, 3) - endless).abs() < 0.006, "{accuracy}");
            // Chance in the windows adds to a mean of cubes: three times mean and variance. The
            // answers of the short window are in the long one too.
            let [short, long] = [SHORT, LONG].map(|n| accuracy * (1.0 - accuracy) / n as f64);
            let variance = 0.25 * (short + 4.0 * long + 4.0 * long);
            let expected = mean.powi(3) + 3.0 * mean * variance;
            let found = mean_reward(accuracy);
            assert!((found - expected).abs() < 0.008, "{accuracy}: {found} and not {expected}");
        }
    }

    /// A miner who is always right, after so many challenges.
    fn perfect(challenges: usize) -> Validator {
        let mut validator = Validator::default();
        for step in 0..challenges {
            validator.on(if step % 2 == 0 { 0.9 } else { 0.1 }, step % 2 == 0);
        }
        validator
    }

    #[test]
    fn a_newcomer_has_no_correlation_until_both_classes_were_seen() {
        let mut validator = Validator::default();
        assert_eq!(validator.on(0.9, true).reward, 0.125);
        assert_eq!(validator.on(0.9, true).reward, 0.125);
        assert_eq!(validator.on(0.1, false).reward, 1.0);
    }

    #[test]
    fn a_miss_costs_one_reward_and_no_more() {
        let mut validator = perfect(300);
        let before = validator.score;
        let missed = validator.on(MISS, true);
        assert_eq!(missed.reward, 0.0);
        assert!((missed.score - 0.95 * before).abs() < 1e-12);
        assert_eq!(validator.on(0.9, true).reward, 1.0);
    }

    #[test]
    fn one_half_is_no_roadwork() {
        let mut validator = perfect(300);
        assert_eq!(validator.on(0.5, false).reward, 1.0);
        assert!(validator.on(0.5, true).reward < 1.0);
    }

    #[test]
    fn what_is_no_class_empties_both_windows_while_it_is_in_them() {
        for odd in [f64::NAN, 1.7, -0.7, f64::INFINITY] {
            let mut validator = perfect(300);
            let mut rewards = vec![validator.on(odd, true).reward];
            for step in 0..LONG {
                let label = step % 2 == 0;
                rewards.push(validator.on(if label { 0.9 } else { 0.1 }, label).reward);
            }
            assert!(rewards[..SHORT].iter().all(|reward| *reward == 0.0), "{odd}");
            // The accuracy of the last ten is all that is left.
            assert!(rewards[SHORT..LONG].iter().all(|reward| *reward == 0.125), "{odd}");
            assert_eq!(rewards[LONG], 1.0, "{odd}");
        }
    }

    #[test]
    fn out_of_range_within_a_class_costs_one_reward() {
        let mut validator = perfect(300);
        assert_eq!(validator.on(1.3, true).reward, 0.0);
        assert_eq!(validator.on(0.9, true).reward, 1.0);
    }
}
