//! Every way a request can fail, and the one table that says with which status and code.
//!
//! Every failure has the same shape on the wire ([`crate::http::wire::Problem`]), and its message
//! ends with what to do about it.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;

use super::reload::Refusal;
use super::wire::{Problem, ProblemBody, ReloadProblem};
use crate::image::ImageError;
use crate::prediction::Rejection;
use crate::video::ClipError;

/// When to come back after a refusal whose end nobody can predict, in seconds.
const RETRY_S: u64 = 5;

/// Why a request is not answered as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Rejected(#[from] Rejection),
    #[error("{0}")]
    Image(#[from] ImageError),
    #[error("frame {frame}: {error}")]
    Frame { frame: usize, error: ImageError },
    #[error("{0}")]
    Clip(#[from] ClipError),
    #[error("{0}")]
    BadParameter(String),
    #[error("{0}")]
    BadBody(String),
    #[error("the request has no body")]
    NoBody,
    #[error("there is nothing at {0}")]
    NotFound(String),
    #[error("{path} answers {allowed} only")]
    WrongMethod { path: String, allowed: &'static str },
    #[error("the request had not arrived in full after {} ms", .0.as_millis())]
    SlowClient(Duration),
    #[error("the request body is larger than the {limit} bytes that `{key}` allows")]
    BodyTooLarge { limit: usize, key: &'static str },
    #[error(
        "the request and its pixels take {needed} bytes, more than the {limit} that `{key}` allows"
    )]
    NeverFits { needed: usize, limit: usize, key: &'static str },
    #[error("the server holds as many bytes of requests as `{key}` allows")]
    BudgetSpent { key: &'static str },
    #[error("{0}")]
    UnsupportedMediaType(String),
    #[error("settings are read as JSON only")]
    NotJson,
    #[error("{0}")]
    NotReloaded(#[from] Refusal),
    #[error("internal error: {0}")]
    Internal(String),
}

impl Failure {
    /// The table: status, code, and what to do.
    fn row(&self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::Rejected(rejection) => rejection_row(rejection),
            Self::Image(error) | Self::Frame { error, .. } => image_row(error),
            Self::Clip(ClipError::Empty) => (S::BAD_REQUEST, "empty", "send at least one frame"),
            Self::Clip(ClipError::TooManyFrames { .. }) => {
                (S::PAYLOAD_TOO_LARGE, "too_large", "send fewer frames")
            }
            Self::Clip(ClipError::FrameRate(_)) => {
                (S::BAD_REQUEST, "bad_parameter", "send `fps` as a number above zero")
            }
            Self::BadParameter(_) => (S::BAD_REQUEST, "bad_parameter", "correct it and try again"),
            Self::BadBody(_) => (S::BAD_REQUEST, "bad_body", "see /docs for what is accepted"),
            Self::NoBody => (S::BAD_REQUEST, "empty", "send the bytes of a JPEG, PNG or WebP file"),
            Self::NotFound(_) => (S::NOT_FOUND, "not_found", "see / for what there is"),
            Self::WrongMethod { .. } => {
                (S::METHOD_NOT_ALLOWED, "method_not_allowed", "see /docs for the methods")
            }
            Self::SlowClient(_) => (
                S::REQUEST_TIMEOUT,
                "slow_client",
                "send it faster, or raise `http.read_timeout_ms`",
            ),
            Self::BodyTooLarge { .. } => {
                (S::PAYLOAD_TOO_LARGE, "too_large", "send a smaller body, or raise the limit")
            }
            Self::NeverFits { .. } => (
                S::PAYLOAD_TOO_LARGE,
                "too_large",
                "send smaller images or fewer frames, or raise the limit",
            ),
            Self::BudgetSpent { .. } => (S::TOO_MANY_REQUESTS, "overloaded", "try again shortly"),
            Self::UnsupportedMediaType(_) => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "send JPEG, PNG or WebP bytes, a form, or JSON; see /docs",
            ),
            Self::NotJson => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "send it with `Content-Type: application/json`",
            ),
            Self::NotReloaded(refusal) => refusal_row(refusal),
            Self::Internal(_) => {
                (S::INTERNAL_SERVER_ERROR, "internal", "report it with the request id")
            }
        }
    }

    /// When to come back, for failures that pass.
    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Rejected(
                Rejection::Overloaded { retry_after } | Rejection::TooLate { retry_after, .. },
            ) => Some(retry_after.as_secs_f64().ceil().max(1.0) as u64),
            Self::Rejected(Rejection::Unavailable { .. } | Rejection::Draining) => Some(RETRY_S),
            Self::BudgetSpent { .. } => Some(1),
            _ => None,
        }
    }

    /// The reply. A server that shuts down also asks the client to close the connection, so that
    /// the next request goes elsewhere.
    pub(crate) fn reply(&self, request_id: &str) -> HttpResponse {
        let (status, code, advice) = self.row();
        let mut reply = HttpResponse::build(status);
        if let Some(seconds) = self.retry_after_s() {
            reply.insert_header((header::RETRY_AFTER, seconds));
        }
        if let Self::WrongMethod { allowed, .. } = self {
            reply.insert_header((header::ALLOW, *allowed));
        }
        if matches!(self, Self::Rejected(Rejection::Draining)) {
            reply.force_close();
        }
        let message = format!("{self}; {advice}");
        let request_id = request_id.to_owned();
        let error = ProblemBody { code, message, request_id };
        match self {
            Self::NotReloaded(refusal) => reply.json(ReloadProblem::new(error, refusal)),
            _ => reply.json(Problem { error }),
        }
    }
}

fn rejection_row(rejection: &Rejection) -> (StatusCode, &'static str, &'static str) {
    use StatusCode as S;
    match rejection {
        Rejection::Overloaded { .. } => (
            S::TOO_MANY_REQUESTS,
            "overloaded",
            "send less at once, or raise `engine.max_in_flight`",
        ),
        Rejection::TooLate { .. } => (
            S::TOO_MANY_REQUESTS,
            "too_late",
            "try again later, or allow more time with `deadline_ms`",
        ),
        Rejection::Deadline => {
            (S::GATEWAY_TIMEOUT, "deadline", "allow more time with `deadline_ms`")
        }
        Rejection::Unavailable { .. } => {
            (S::SERVICE_UNAVAILABLE, "unavailable", "see /v1/stages for what is wrong")
        }
        Rejection::Draining => (S::SERVICE_UNAVAILABLE, "draining", "ask another server"),
        Rejection::Internal(_) => {
            (S::INTERNAL_SERVER_ERROR, "internal", "report it with the request id")
        }
    }
}

fn refusal_row(refusal: &Refusal) -> (StatusCode, &'static str, &'static str) {
    use StatusCode as S;
    match refusal {
        Refusal::NeedsRestart(_) => {
            (S::CONFLICT, "needs_restart", "start the server again, or leave this as it is")
        }
        Refusal::BadConfiguration(_) => {
            (S::UNPROCESSABLE_ENTITY, "bad_configuration", "correct it and try again")
        }
        Refusal::NoSources => (S::NOT_IMPLEMENTED, "no_reload", "start it with `roadcrew serve`"),
        Refusal::Failed(_) => {
            (S::INTERNAL_SERVER_ERROR, "internal", "report it with the request id")
        }
    }
}

fn image_row(error: &ImageError) -> (StatusCode, &'static str, &'static str) {
    use StatusCode as S;
    match error {
        ImageError::Empty => {
            (S::BAD_REQUEST, "empty", "send the bytes of a JPEG, PNG or WebP file")
        }
        ImageError::TooManyBytes { .. }
        | ImageError::TooManyPixels { .. }
        | ImageError::TooLargeDimension { .. } => {
            (S::PAYLOAD_TOO_LARGE, "too_large", "send a smaller image, or raise the limit")
        }
        ImageError::UnsupportedFormat { .. } => {
            (S::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "convert it first")
        }
        ImageError::Corrupt { .. } => {
            (S::BAD_REQUEST, "corrupt_image", "send the file whole, as it was written")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(failure: Failure) -> (u16, &'static str) {
        let (status, code, _) = failure.row();
        (status.as_u16(), code)
    }

    #[test]
    fn every_rejection_has_its_status() {
        let overloaded = Rejection::Overloaded { retry_after: Duration::from_millis(1200) };
        let retry_after = Failure::from(overloaded.clone()).retry_after_s();
        assert_eq!(retry_after, Some(2), "rounded up");
        assert_eq!(row(overloaded.into()), (429, "overloaded"));
        let (predicted, retry_after) = (Duration::from_secs(3), Duration::from_millis(2100));
        let too_late = Failure::from(Rejection::TooLate { predicted, retry_after });
        assert_eq!(too_late.retry_after_s(), Some(3));
        assert!(too_late.to_string().contains("3000 ms"), "{too_late}");
        assert_eq!(row(too_late), (429, "too_late"));
        assert_eq!(row(Rejection::Deadline.into()), (504, "deadline"));
        let unavailable = Rejection::Unavailable { detail: "s is down".into() };
        assert_eq!(row(unavailable.into()), (503, "unavailable"));
        assert_eq!(row(Rejection::Draining.into()), (503, "draining"));
        assert_eq!(row(Rejection::Internal("x".into()).into()), (500, "internal"));
    }

    #[test]
    fn every_image_error_has_its_status_and_names_its_key() {
        let too_many = ImageError::TooManyPixels { width: 9, height: 9, limit: 80 };
        let failure = Failure::Frame { frame: 3, error: too_many };
        let text = failure.to_string();
        assert!(text.starts_with("frame 3: ") && text.contains("image.max_pixels"), "{text}");
        assert_eq!(row(failure), (413, "too_large"));
        assert_eq!(row(ImageError::Empty.into()), (400, "empty"));
        let gif = ImageError::UnsupportedFormat { found: "a GIF".into() };
        assert_eq!(row(gif.into()), (415, "unsupported_media_type"));
    }

    #[test]
    fn a_draining_server_closes_the_connection() {
        let reply = Failure::from(Rejection::Draining).reply("id");
        assert_eq!(reply.status(), 503);
        assert!(reply.headers().contains_key("retry-after"));
        assert!(!reply.head().keep_alive());
    }
}
