//! What a stage says of an image, and what the cascade makes of it.
//!
//! Everything here is plain data. A probability cannot be NaN or leave 0..=1 once it is a
//! [`Probability`]; whatever a model computes passes through this type before anybody acts on it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The name of a stage, as the configuration gives it.
pub type StageName = Arc<str>;

/// A probability of roadwork: finite, within `0.0..=1.0`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Probability(f32);

impl Probability {
    /// `None` if `value` is not a number; a finite value outside the range is clamped, since
    /// rounding may push a sigmoid's neighbour over the edge.
    pub fn new(value: f32) -> Option<Self> {
        value.is_finite().then(|| Self(value.clamp(0.0, 1.0)))
    }

    /// What is known of an image that nobody has looked at.
    pub const HALF: Self = Self(0.5);

    /// The value, unitless, in `0.0..=1.0`.
    pub fn get(self) -> f32 {
        self.0
    }

    /// How sure this is of its own label: `max(p, 1 - p)`, in `0.5..=1.0`.
    pub fn confidence(self) -> f32 {
        self.0.max(1.0 - self.0)
    }

    /// The label at the threshold that validators use: more than one half.
    pub fn is_roadwork(self) -> bool {
        self.0 > 0.5
    }
}

/// What one stage says of one image.
#[derive(Clone, Debug, PartialEq)]
pub enum Prediction {
    /// The stage has a score.
    Score {
        /// Probability of roadwork.
        probability: Probability,
        /// What the score rests on, for people: the text of a sign, a model's reason.
        evidence: Option<String>,
    },
    /// The stage has no opinion on this image; the next stage is asked.
    Abstention {
        /// Why, for people.
        reason: String,
    },
}

impl Prediction {
    /// A score without evidence. A NaN becomes this one image's abstention, not a broken backend.
    pub fn from_raw(value: f32) -> Self {
        match Probability::new(value) {
            Some(probability) => Self::Score { probability, evidence: None },
            None => Self::Abstention { reason: format!("the model computed {value}") },
        }
    }

    /// The probability, if the stage did not abstain.
    pub fn probability(&self) -> Option<Probability> {
        match self {
            Self::Score { probability, .. } => Some(*probability),
            Self::Abstention { .. } => None,
        }
    }
}

/// Why a stage's answer for a job is missing from the trace of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The backend panicked.
    Panic,
    /// The backend said that it cannot go on.
    Broken,
    /// The backend returned more or fewer predictions than it was given images.
    WrongCount,
    /// No progress within the stage's `hang_ms`.
    Hang,
    /// A passing failure, such as a remote 503; the backend stays.
    Retry,
    /// The batch did not fit into the device's memory.
    TooBig,
    /// The device is gone.
    DeviceLost,
    /// The backend could not be built or warmed up.
    Load,
    /// The stage's actor itself died.
    Actor,
}

impl Cause {
    /// Every cause, in the order of the metrics' documentation.
    pub const ALL: [Self; 9] = [
        Self::Panic,
        Self::Broken,
        Self::WrongCount,
        Self::Hang,
        Self::Retry,
        Self::TooBig,
        Self::DeviceLost,
        Self::Load,
        Self::Actor,
    ];

    /// The label used in metrics, logs and replies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Broken => "broken",
            Self::WrongCount => "wrong_count",
            Self::Hang => "hang",
            Self::Retry => "retry",
            Self::TooBig => "too_big",
            Self::DeviceLost => "device_lost",
            Self::Load => "load",
            Self::Actor => "actor",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What came of lending a job to a stage.
#[derive(Clone, Debug, PartialEq)]
pub enum HopOutcome {
    /// The stage answered.
    Predicted(Prediction),
    /// The stage fell or refused while it held the job.
    Failed(Cause),
}

/// One step of a job's way.
#[derive(Clone, Debug, PartialEq)]
pub struct Hop {
    /// The stage that was asked.
    pub stage: StageName,
    /// What it said.
    pub outcome: HopOutcome,
    /// From lending the job to the stage until its answer was there: waiting and computing.
    pub latency: Duration,
    /// How many jobs shared the batch.
    pub batch_size: usize,
}

impl Hop {
    /// The probability this stage gave, if any.
    pub fn probability(&self) -> Option<Probability> {
        match &self.outcome {
            HopOutcome::Predicted(prediction) => prediction.probability(),
            HopOutcome::Failed(_) => None,
        }
    }

    /// Whether the stage answered, if only to abstain.
    pub fn is_answer(&self) -> bool {
        matches!(self.outcome, HopOutcome::Predicted(_))
    }

    /// What else there is to say of this step, for people: a score's evidence, or why there is no
    /// score.
    pub fn note(&self) -> Option<String> {
        match &self.outcome {
            HopOutcome::Predicted(Prediction::Score { evidence, .. }) => evidence.clone(),
            HopOutcome::Predicted(Prediction::Abstention { reason }) => {
                Some(format!("abstained: {reason}"))
            }
            HopOutcome::Failed(cause) => Some(format!("failed: {cause}")),
        }
    }
}

/// Why a verdict is less than what the cascade would have said on a better day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Degraded {
    /// The next stage would not have answered before the deadline.
    Deadline,
    /// A stage that should have been asked is down.
    StageDown,
    /// A stage fell while it held this job.
    StageFailed,
}

impl Degraded {
    /// The label used in metrics, logs and replies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::StageDown => "stage_down",
            Self::StageFailed => "stage_failed",
        }
    }
}

/// What the cascade answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Probability of roadwork.
    pub probability: Probability,
    /// The stage whose score this is (the last one asked, where several were merged).
    pub stage: StageName,
    /// `Some` if a stage that should have been asked was not, or failed.
    pub degraded: Option<Degraded>,
    /// The stages that were asked, in order.
    pub trace: Vec<Hop>,
}

/// Why a request got no verdict.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// Too many jobs in flight.
    #[error("too many requests in flight; try again in {} s", retry_after.as_secs())]
    Overloaded {
        /// When a place should be free, from the measured service rate.
        retry_after: Duration,
    },
    /// No answer is expected before the deadline.
    #[error(
        "an answer would take about {} ms, which is longer than the deadline allows",
        predicted.as_millis()
    )]
    TooLate {
        /// Predicted waiting plus computing time.
        predicted: Duration,
        /// When a request like this would be answered in time, should nobody else come.
        retry_after: Duration,
    },
    /// No stage said anything before the deadline.
    #[error("no stage answered before the deadline")]
    Deadline,
    /// No stage can answer at present.
    #[error("no stage can answer: {detail}")]
    Unavailable {
        /// The states of the stages, for people.
        detail: String,
    },
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Draining,
    /// The engine broke its own promise; a bug.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Rejection {
    /// The label used in metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Overloaded { .. } => "overloaded",
            Self::TooLate { .. } => "too_late",
            Self::Deadline => "deadline",
            Self::Unavailable { .. } => "unavailable",
            Self::Draining => "draining",
            Self::Internal(_) => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probability_is_never_nan_and_never_outside() {
        assert!(Probability::new(f32::NAN).is_none());
        assert!(Probability::new(f32::INFINITY).is_none());
        assert_eq!(Probability::new(1.000_001).map(Probability::get), Some(1.0));
        assert_eq!(Probability::new(-1e-9).map(Probability::get), Some(0.0));
    }

    #[test]
    fn one_half_is_not_roadwork() {
        assert!(!Probability::new(0.5).unwrap().is_roadwork());
        assert!(Probability::new(0.500_1).unwrap().is_roadwork());
    }

    #[test]
    fn a_nan_is_an_abstention() {
        assert!(matches!(Prediction::from_raw(f32::NAN), Prediction::Abstention { .. }));
    }
}
