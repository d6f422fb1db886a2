//! What a request may say about itself besides its image: deadline and priority.
//!
//! Said in the query, in a header or in the document; the first of these that says it wins. Pure,
//! apart from reading the request's head.

use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;
use actix_web::web::Query;
use serde::Deserialize;

use super::HttpSpec;
use super::reply::Failure;
use crate::actors::Priority;

/// What was said; nothing may have been.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Wishes {
    pub(crate) deadline: Option<Duration>,
    pub(crate) priority: Option<Priority>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueryWishes {
    deadline_ms: Option<String>,
    priority: Option<String>,
}

impl Wishes {
    /// The longest deadline and the first place.
    pub(crate) const BEST: Self =
        Self { deadline: Some(Duration::MAX), priority: Some(Priority::Validator) };

    /// What the head of the request says.
    pub(crate) fn of(request: &HttpRequest) -> Result<Self, Failure> {
        let query = Self::of_query(request.query_string())?;
        Ok(query.or(Self::of_headers(request.headers())?))
    }

    /// Reads each value where there is one.
    pub(crate) fn parse(deadline: Option<&str>, priority: Option<&str>) -> Result<Self, Failure> {
        Ok(Self {
            deadline: deadline.map(deadline_ms).transpose()?,
            priority: priority.map(priority_name).transpose()?,
        })
    }

    /// These, completed by others.
    pub(crate) fn or(self, others: Self) -> Self {
        Self {
            deadline: self.deadline.or(others.deadline),
            priority: self.priority.or(others.priority),
        }
    }

    /// When the answer must be there, for a request that arrived at `arrived`.
    pub(crate) fn deadline(&self, arrived: Instant, spec: &HttpSpec) -> Instant {
        let asked = self.deadline.unwrap_or(Duration::from_millis(spec.default_deadline_ms));
        let allowed = asked.min(Duration::from_millis(spec.max_deadline_ms));
        arrived + allowed.saturating_sub(Duration::from_millis(spec.deadline_margin_ms))
    }

    pub(super) fn of_query(query: &str) -> Result<Self, Failure> {
        let said = Query::<QueryWishes>::from_query(query)
            .map_err(|error| Failure::BadParameter(format!("the query is wrong: {error}")))?;
        Self::parse(said.deadline_ms.as_deref(), said.priority.as_deref())
    }

    pub(super) fn of_headers(headers: &HeaderMap) -> Result<Self, Failure> {
        let text = |name: &str| match headers.get(name).map(|value| value.to_str()) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(Failure::BadParameter(format!("the header {name} is not text"))),
        };
        Self::parse(text("x-deadline-ms")?, text("x-priority")?)
    }
}

fn deadline_ms(text: &str) -> Result<Duration, Failure> {
    let wrong = || {
        let say = format!("the deadline {text:?} is not a positive number of milliseconds");
        Failure::BadParameter(say)
    };
    let millis: f64 = text.trim().parse().map_err(|_| wrong())?;
    if !(millis.is_finite() && millis > 0.0) {
        return Err(wrong());
    }
    // What is too long for a duration is clamped to the longest deadline anyway.
    Ok(Duration::try_from_secs_f64(millis / 1e3).unwrap_or(Duration::MAX))
}

fn priority_name(text: &str) -> Result<Priority, Failure> {
    match text.trim() {
        "validator" => Ok(Priority::Validator),
        "normal" => Ok(Priority::Normal),
        "bulk" => Ok(Priority::Bulk),
        other => {
            let say = format!("the priority {other:?} is none of validator, normal, bulk");
            Err(Failure::BadParameter(say))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn spec() -> HttpSpec {
        HttpSpec {
            host: String::new(),
            port: 0,
            workers: 1,
            max_body_bytes: 1,
            body_budget_bytes: 1,
            max_connections: 1,
            read_timeout_ms: 1,
            keep_alive_s: 1,
            default_deadline_ms: 2_000,
            max_deadline_ms: 9_000,
            deadline_margin_ms: 100,
            drain_s: 1,
            decode: crate::http::Decode::Always,
        }
    }

    fn ms(wishes: Wishes) -> u128 {
        let arrived = crate::clock::now();
        (wishes.deadline(arrived, &spec()) - arrived).as_millis()
    }

    #[test]
    fn the_query_wins_over_the_header() {
        let request = TestRequest::with_uri("/v1/predict?deadline_ms=500")
            .insert_header(("x-deadline-ms", "700"))
            .insert_header(("x-priority", "bulk"))
            .to_http_request();
        let wishes = Wishes::of(&request).unwrap();
        assert_eq!(wishes.deadline, Some(Duration::from_millis(500)));
        assert_eq!(wishes.priority, Some(Priority::Bulk));
    }

    #[test]
    fn the_deadline_has_a_default_a_ceiling_and_a_margin() {
        let asked = |text| Wishes::parse(Some(text), None).unwrap();
        assert_eq!(ms(Wishes::default()), 1_900);
        assert_eq!(ms(asked("500.5")), 400);
        assert_eq!(ms(asked("1e300")), 8_900);
        assert_eq!(ms(asked("50")), 0, "the margin leaves nothing");
    }

    #[test]
    fn what_is_not_a_positive_number_is_refused() {
        for text in ["", "soon", "0", "-5", "NaN", "inf", "1s"] {
            assert!(Wishes::parse(Some(text), None).is_err(), "{text}");
        }
        assert!(Wishes::parse(None, Some("urgent")).is_err());
    }

    #[test]
    fn an_unknown_or_repeated_query_parameter_is_refused() {
        assert!(Wishes::of_query("dedline_ms=5").is_err());
        assert!(Wishes::of_query("deadline_ms=5&deadline_ms=6").is_err());
    }
}
