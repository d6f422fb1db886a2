//! What is said of every request: its id, one line in the log, one measurement.
//!
//! Must not know: what any route does.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpRequest};

use super::routes;
use super::wire::millis;
use crate::clock;
use crate::metrics;
use crate::prediction::{Degraded, StageName};

/// The header that carries a request's id both ways.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a client.
const REQUEST_ID_MAX: usize = 64;

/// The status in the log and the metrics of a request whose client left before the reply.
const CLIENT_GONE: u16 = 499;

/// Which port a request came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// For people and programs of the operator.
    Private,
    /// For validators.
    Axon,
}

impl Port {
    /// The section of the settings.
    pub(crate) fn section(self) -> &'static str {
        match self {
            Self::Private => "http",
            Self::Axon => "axon",
        }
    }

    /// The label of a route.
    fn label(self, pattern: Option<&str>) -> &'static str {
        match self {
            Self::Private => routes::label(pattern),
            Self::Axon => "axon",
        }
    }
}

/// What a handler says of a request, for the log.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) stage: Option<StageName>,
    pub(crate) degraded: Option<Degraded>,
    pub(crate) bytes: usize,
    /// What the axon says besides.
    pub(crate) call: Option<Call>,
}

/// What is said of a validator's call.
#[derive(Debug, Default)]
pub(crate) struct Call {
    pub(crate) caller: Option<String>,
    /// How it ended, as in the metrics.
    pub(crate) outcome: &'static str,
    /// Where the verdict came from, if there is one.
    pub(crate) source: Option<&'static str>,
    pub(crate) prediction: Option<f32>,
}

/// A request and its reply. Writes its line when it is over, even if the client left first.
#[derive(Debug)]
pub(crate) struct Exchange {
    id: String,
    arrived: Instant,
    method: String,
    route: &'static str,
    said: RefCell<Said>,
    status: Cell<u16>,
}

impl Exchange {
    fn begin(port: Port, request: &ServiceRequest) -> Rc<Self> {
        let exchange = Rc::new(Self {
            id: sane_id(request.headers()).unwrap_or_else(fresh_id),
            arrived: clock::now(),
            method: request.method().to_string(),
            route: port.label(request.match_pattern().as_deref()),
            said: RefCell::default(),
            status: Cell::new(CLIENT_GONE),
        });
        request.extensions_mut().insert(exchange.clone());
        exchange
    }

    /// The exchange that a handler is part of.
    pub(crate) fn of(request: &HttpRequest) -> Rc<Self> {
        let known = request.extensions().get::<Rc<Self>>().cloned();
        // Only a handler outside the middleware would find none; it gets an id all the same.
        known.unwrap_or_else(|| {
            Rc::new(Self {
                id: fresh_id(),
                arrived: clock::now(),
                method: request.method().to_string(),
                route: routes::UNMATCHED,
                said: RefCell::default(),
                status: Cell::new(CLIENT_GONE),
            })
        })
    }

    /// The request's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// When the request's head had arrived.
    pub(crate) fn arrived(&self) -> Instant {
        self.arrived
    }

    /// Adds to what the log will say of a validator's call.
    pub(crate) fn note_call(&self, add: impl FnOnce(&mut Call)) {
        self.note(|said| add(said.call.get_or_insert_default()));
    }

    /// Adds to what the log will say.
    pub(crate) fn note(&self, add: impl FnOnce(&mut Said)) {
        add(&mut self.said.borrow_mut());
    }
}

/// Writes the line of its exchange when dropped.
struct Line(Rc<Exchange>);

impl Drop for Line {
    fn drop(&mut self) {
        let exchange = &self.0;
        let (status, took) = (exchange.status.get(), exchange.took());
        metrics::request(exchange.route, status, took);
        let said = exchange.said.borrow();
        let call = said.call.as_ref();
        tracing::info!(
            request_id = exchange.id,
            method = exchange.method,
            route = exchange.route,
            status,
            ms = millis(took),
            stage = said.stage.as_deref(),
            degraded = said.degraded.map(Degraded::as_str),
            bytes = said.bytes,
            caller = call.and_then(|call| call.caller.as_deref()),
            outcome = call.map(|call| call.outcome),
            source = call.and_then(|call| call.source),
            prediction = call.and_then(|call| call.prediction),
            "request"
        );
    }
}

impl Exchange {
    /// How long it has taken so far.
    pub(crate) fn took(&self) -> Duration {
        clock::now().saturating_duration_since(self.arrived)
    }
}

/// The middleware around every route, the unknown ones included.
pub(crate) async fn observe(
    port: Port,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let exchange = Exchange::begin(port, &request);
    let line = Line(exchange.clone());
    let mut reply = next.call(request).await.inspect_err(|error| {
        exchange.status.set(error.as_response_error().status_code().as_u16());
    })?;
    exchange.status.set(reply.status().as_u16());
    if port == Port::Axon {
        drop(line);
        return Ok(reply);
    }
    let headers = reply.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&exchange.id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    drop(line);
    Ok(reply)
}

/// The client's own id, if it is one that can be logged and echoed without harm.
fn sane_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = (1..=REQUEST_ID_MAX).contains(&id.len()) && id.bytes().all(sane);
    fits.then(|| id.to_owned())
}

fn fresh_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_str(text).unwrap());
        sane_id(&headers)
    }

    #[test]
    fn only_sane_ids_are_taken() {
        assert_eq!(id("A-1_b.c").as_deref(), Some("A-1_b.c"));
        assert_eq!(id(&"x".repeat(64)).map(|id| id.len()), Some(64));
        for wrong in ["", "a b", "a\tb", "é", "a/b", "\"", &"x".repeat(65)] {
            assert_eq!(id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn fresh_ids_are_sane_and_differ() {
        assert_eq!(id(&fresh_id()).map(|id| id.len()), Some(16));
        assert_ne!(fresh_id(), fresh_id());
    }
}
