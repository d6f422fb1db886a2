//! One answer with its truth, and the figures of many.

use serde::Serialize;

use super::confusion::Confusion;
use super::reliability::{BINS, Reliability};

/// A probability of roadwork, and whether there was any.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Whether the image shows roadwork.
    pub truth: bool,
    /// What was answered, in `0.0..=1.0`.
    pub probability: f64,
}

impl Scored {
    /// The class that validators read from the answer: roadwork above one half.
    pub fn said(self) -> bool {
        self.probability > 0.5
    }

    /// Whether the answer is right.
    pub fn is_right(self) -> bool {
        self.said() == self.truth
    }

    /// Minus the logarithm of the probability given to the truth, in nats. Probabilities are first
    /// clamped to `EPSILON..=1 - EPSILON` of `f64`, as scikit-learn does, so that one certain and
    /// wrong answer costs 36 and not everything.
    /// [`crate::lab::calibrate::fit::log_loss`], which only chooses among fits, clamps to 1e-7.
    pub fn log_loss(self) -> f64 {
        let clamped = self.probability.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
        if self.truth { -clamped.ln() } else { -(1.0 - clamped).ln() }
    }

    /// The square of the distance to the truth.
    pub fn square(self) -> f64 {
        (self.probability - f64::from(u8::from(self.truth))).powi(2)
    }
}

/// What a set of answers can be judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Share of right answers.
    Accuracy,
    /// Matthews' correlation coefficient.
    Mcc,
    /// The subnet's reward.
    Reward,
    /// Mean logarithmic loss; less is better.
    LogLoss,
    /// Mean squared error of the probability; less is better.
    Brier,
    /// Expected calibration error; less is better.
    Ece,
}

impl Figure {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 6] =
        [Self::Accuracy, Self::Mcc, Self::Reward, Self::LogLoss, Self::Brier, Self::Ece];

    /// The name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Mcc => "MCC",
            Self::Reward => "reward",
            Self::LogLoss => "log-loss",
            Self::Brier => "Brier",
            Self::Ece => "ECE",
        }
    }
}

/// Every figure of a set of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Share of right answers.
    pub accuracy: f64,
    /// Matthews' correlation coefficient.
    pub mcc: f64,
    /// The subnet's reward over all of them.
    pub reward: f64,
    /// Mean logarithmic loss in nats.
    pub log_loss: f64,
    /// Mean squared error of the probability.
    pub brier: f64,
    /// Expected calibration error.
    pub ece: f64,
}

impl Figures {
    /// One of them.
    pub fn get(&self, figure: Figure) -> f64 {
        match figure {
            Figure::Accuracy => self.accuracy,
            Figure::Mcc => self.mcc,
            Figure::Reward => self.reward,
            Figure::LogLoss => self.log_loss,
            Figure::Brier => self.brier,
            Figure::Ece => self.ece,
        }
    }
}

/// Sums over answers, from which the figures follow.
#[derive(Clone, Debug)]
pub struct Totals {
    /// Right and wrong.
    pub confusion: Confusion,
    /// The answers by their probability.
    pub reliability: Reliability,
    log_loss: f64,
    squares: f64,
}

impl Default for Totals {
    fn default() -> Self {
        Self::new(BINS)
    }
}

impl Totals {
    /// Nothing yet; so many bins for the calibration error.
    pub fn new(bins: usize) -> Self {
        let reliability = Reliability::new(bins);
        Self { confusion: Confusion::default(), reliability, log_loss: 0.0, squares: 0.0 }
    }

    /// Counts one answer.
    pub fn add(&mut self, scored: Scored) {
        self.confusion.add(scored.truth, scored.said());
        self.reliability.add(scored);
        self.log_loss += scored.log_loss();
        self.squares += scored.square();
    }

    /// The figures; all 0 if there are no answers at all.
    pub fn figures(&self) -> Figures {
        let answers = self.confusion.total().max(1) as f64;
        Figures {
            accuracy: self.confusion.accuracy(),
            mcc: self.confusion.mcc(),
            reward: self.confusion.reward(),
            log_loss: self.log_loss / answers,
            brier: self.squares / answers,
            ece: self.reliability.ece(),
        }
    }
}

/// The figures of these answers.
pub fn figures(scored: &[Scored]) -> Figures {
    let mut totals = Totals::default();
    scored.iter().for_each(|scored| totals.add(*scored));
    totals.figures()
}
