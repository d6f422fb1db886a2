//! How a call can end, and the one table that says with which status.
//!
//! Before a caller is authenticated, what is wrong is refused. Afterwards there is a verdict, or a
//! reason why there is none; whether that reason is told or the prior is answered, is a setting. Only
//! a body that is no synapse at all is still refused: no dendrite sends such a thing.

use actix_web::http::StatusCode;

use crate::bittensor::{Busy, NotAllowed, Unverified};
use crate::http::reply::Failure;
use crate::image::ImageError;
use crate::prediction::Rejection;

/// Why a call is not answered with a prediction.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// There is no such synapse.
    #[error("there is no such synapse here")]
    NotFound,
    /// Not POST.
    #[error("synapses are sent with POST")]
    WrongMethod,
    /// The caller may not call.
    #[error("forbidden: {0}")]
    NotAllowed(#[from] NotAllowed),
    /// The caller is not who it says it is, or not now.
    #[error("not verified: {0}")]
    Unverified(#[from] Unverified),
    /// The caller calls too often.
    #[error("{0}")]
    Busy(#[from] Busy),
    /// The body is no synapse.
    #[error("{0}")]
    BadBody(String),
    /// There is no verdict, and the prior is not wanted.
    #[error("there is no answer: {}", .0.as_str())]
    NoVerdict(Why),
}

impl Refusal {
    /// The status.
    pub(super) fn status(&self) -> StatusCode {
        use StatusCode as S;
        match self {
            Self::NotFound => S::NOT_FOUND,
            Self::WrongMethod => S::METHOD_NOT_ALLOWED,
            Self::NotAllowed(_) => S::FORBIDDEN,
            Self::Unverified(_) => S::UNAUTHORIZED,
            Self::Busy(_) => S::TOO_MANY_REQUESTS,
            Self::BadBody(_) => S::BAD_REQUEST,
            Self::NoVerdict(why) => why.status(),
        }
    }

    /// The label used in metrics and logs.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::WrongMethod => "wrong_method",
            Self::NotAllowed(why) => why.as_str(),
            Self::Unverified(why) => why.as_str(),
            Self::Busy(why) => why.as_str(),
            Self::BadBody(_) => "bad_body",
            Self::NoVerdict(why) => why.as_str(),
        }
    }
}

/// Why there is no verdict for an authenticated call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Too much at once.
    Overloaded,
    /// No answer was expected before the deadline.
    TooLate,
    /// Nobody said anything before the deadline, or the body was not there.
    Deadline,
    /// No stage can answer.
    Unavailable,
    /// The server is shutting down.
    Draining,
    /// The image is not one that can be read.
    Undecodable,
    /// The body, the file or the picture is larger than the limits allow.
    TooLarge,
    /// A bug.
    Internal,
}

impl Why {
    /// Of a failure while a call was read, decoded or judged.
    pub(super) fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Rejected(rejection) => Self::of_rejection(rejection),
            Failure::BodyTooLarge { .. } | Failure::NeverFits { .. } => Self::TooLarge,
            Failure::Image(error) | Failure::Frame { error, .. } => match error {
                ImageError::TooManyBytes { .. }
                | ImageError::TooManyPixels { .. }
                | ImageError::TooLargeDimension { .. } => Self::TooLarge,
                _ => Self::Undecodable,
            },
            Failure::BudgetSpent { .. } => Self::Overloaded,
            Failure::SlowClient(_) => Self::Deadline,
            Failure::Internal(_) => Self::Internal,
            _ => Self::Undecodable,
        }
    }

    fn of_rejection(rejection: &Rejection) -> Self {
        match rejection {
            Rejection::Overloaded { .. } => Self::Overloaded,
            Rejection::TooLate { .. } => Self::TooLate,
            Rejection::Deadline => Self::Deadline,
            Rejection::Unavailable { .. } => Self::Unavailable,
            Rejection::Draining => Self::Draining,
            Rejection::Internal(_) => Self::Internal,
        }
    }

    fn status(self) -> StatusCode {
        use StatusCode as S;
        match self {
            Self::Overloaded | Self::TooLate => S::TOO_MANY_REQUESTS,
            Self::Deadline => S::GATEWAY_TIMEOUT,
            Self::Unavailable | Self::Draining => S::SERVICE_UNAVAILABLE,
            Self::Undecodable => S::UNPROCESSABLE_ENTITY,
            Self::TooLarge => S::PAYLOAD_TOO_LARGE,
            Self::Internal => S::INTERNAL_SERVER_ERROR,
        }
    }

    /// The label used in metrics and logs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::TooLate => "too_late",
            Self::Deadline => "deadline",
            Self::Unavailable => "unavailable",
            Self::Draining => "draining",
            Self::Undecodable => "undecodable",
            Self::TooLarge => "too_large",
            Self::Internal => "internal",
        }
    }
}
