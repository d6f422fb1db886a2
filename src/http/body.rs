//! Reads a request's body, within its limits: bytes, the budget of all requests, time.
//!
//! Must not know: what the bytes are.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::StreamExt as _;

use super::budget::{Budget, Held};
use super::reply::Failure;
use crate::clock;

/// A body that was read, and its share of the budget, which must live as long as the bytes.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    pub(crate) held: Held,
}

impl Body {
    /// No bytes, which take nothing of the budget.
    pub(crate) fn empty(budget: &Arc<Budget>) -> Self {
        Self { bytes: Vec::new(), held: budget.nothing() }
    }
}

/// How large a body may be, and by when it must be there.
pub(crate) struct Reading<'a> {
    pub(crate) budget: &'a Arc<Budget>,
    pub(crate) max_bytes: usize,
    /// The setting that says so.
    pub(crate) max_key: &'static str,
    pub(crate) until: Instant,
    /// Whether the length that a client declares is taken from the budget before it has sent as much:
    /// not for whom nobody knows.
    pub(crate) trusts_length: bool,
}

impl Reading<'_> {
    /// Reads the body. `None` if it was not there in time.
    ///
    /// A body that declares its length takes its share of the budget before a byte is read, and is
    /// refused before a byte is read if it is too large; a chunked one grows as it comes.
    pub(crate) async fn read(
        &self,
        request: &HttpRequest,
        payload: &mut web::Payload,
    ) -> Result<Option<Body>, Failure> {
        if request.headers().contains_key(header::CONTENT_ENCODING) {
            let say = "compressed bodies are not read; send without Content-Encoding";
            return Err(Failure::UnsupportedMediaType(say.into()));
        }
        let declared = declared_length(request);
        self.check(declared.unwrap_or(0))?;
        let key = self.budget.key();
        let ahead = declared.filter(|_| self.trusts_length).unwrap_or(0);
        let held = self.budget.reserve(ahead).ok_or(Failure::BudgetSpent { key })?;
        let mut body = Body { bytes: Vec::with_capacity(ahead), held };
        let remaining = self.until.saturating_duration_since(clock::now());
        match tokio::time::timeout(remaining, self.fill(&mut body, payload)).await {
            Err(_) => Ok(None),
            Ok(Err(failure)) => Err(failure),
            Ok(Ok(())) if body.bytes.is_empty() => Err(Failure::NoBody),
            Ok(Ok(())) => Ok(Some(body)),
        }
    }

    /// Reads what is left of a body and throws it away, so that a client which sends it to its end before
    /// it looks at the reply gets that reply. True if the end was there in time and within the limit.
    pub(crate) async fn discard(&self, payload: &mut web::Payload) -> bool {
        let mut left = self.max_bytes;
        let reading = async {
            while let Some(Ok(chunk)) = payload.next().await {
                match left.checked_sub(chunk.len()) {
                    Some(rest) => left = rest,
                    None => return false,
                }
            }
            true
        };
        let remaining = self.until.saturating_duration_since(clock::now());
        tokio::time::timeout(remaining, reading).await.unwrap_or(false)
    }

    async fn fill(&self, body: &mut Body, payload: &mut web::Payload) -> Result<(), Failure> {
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| cut_short(&error))?;
            let total = body.bytes.len() + chunk.len();
            self.check(total)?;
            if !body.held.cover(total) {
                return Err(Failure::BudgetSpent { key: self.budget.key() });
            }
            body.bytes.extend_from_slice(&chunk);
        }
        Ok(())
    }

    /// A body that would never fit the budget is too large, however idle the server is.
    fn check(&self, bytes: usize) -> Result<(), Failure> {
        let (limit, key) = if self.max_bytes <= self.budget.limit() {
            (self.max_bytes, self.max_key)
        } else {
            (self.budget.limit(), self.budget.key())
        };
        if bytes > limit { Err(Failure::BodyTooLarge { limit, key }) } else { Ok(()) }
    }
}

/// What `Content-Length` says; actix-web has refused what is not a number already. A length beyond
/// this machine's numbers is as good as the largest.
fn declared_length(request: &HttpRequest) -> Option<usize> {
    let text = request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?;
    Some(text.parse().unwrap_or(usize::MAX))
}

fn cut_short(error: &PayloadError) -> Failure {
    Failure::BadBody(format!("the body could not be read: {error}"))
}

/// Ends the connection with this reply, unless the body was read to its end. A payload that is dropped
/// before its reply is sent is read on for as long as the client sends, so it goes with the reply.
pub(crate) fn last_reply(reply: HttpResponse, payload: web::Payload) -> HttpResponse {
    reply.map_body(|_, body| BoxBody::new(Holding { body, _payload: payload }))
}

/// A reply's body that keeps the request's alive.
struct Holding {
    body: BoxBody,
    _payload: web::Payload,
}

impl MessageBody for Holding {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}
