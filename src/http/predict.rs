//! `POST /v1/predict`: an image or a clip in, a verdict out.
//!
//! Admission comes before work: a request is refused by the engine's gate before its body is read,
//! and asked again before its image is decoded, so an overloaded server spends no CPU on requests
//! it cannot answer. Decoding itself is bounded by one semaphore for all workers.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::{HttpRequest, HttpResponse, web};

use super::HttpSpec;
use super::body::{Body, Reading, last_reply};
use super::budget::{Budget, Held};
use super::decoders::Decoders;
use super::input::{Decoder, Kind};
use super::log::{Exchange, Said};
use super::params::Wishes;
use super::reload::Reloads;
use super::reply::Failure;
use super::server::Limits;
use super::wire::{PredictDocument, PredictForm, PredictReply, Problem};
use crate::actors::{Engine, Request};
use crate::backends::Input;
use crate::clock;
use crate::prediction::{Rejection, Verdict};

/// What every handler of this port shares.
pub(crate) struct State {
    pub(crate) engine: Engine,
    pub(crate) spec: HttpSpec,
    pub(crate) limits: Limits,
    pub(crate) budget: Arc<Budget>,
    /// One permit per image that is being decoded.
    pub(crate) decoders: Arc<Decoders>,
    pub(crate) reloads: Arc<Reloads>,
}

/// Says whether an image, or a clip, shows roadwork.
///
/// The body is the image's bytes (JPEG, PNG or WebP), a form, or a JSON document. Deadline and
/// priority may be given in the query, in a header (`x-deadline-ms`, `x-priority`) or in the body;
/// the first of these wins. At the deadline the best verdict so far is the answer, marked as
/// degraded.
#[utoipa::path(
    post,
    path = "/v1/predict",
    tag = "predict",
    params(
        ("deadline_ms" = Option<f64>, Query, description = "When the answer must be there, in \
            milliseconds after the request's arrival; clamped to `http.max_deadline_ms`.",
            exclusive_minimum = 0.0),
        ("priority" = Option<String>, Query,
            description = "Who is served first: `validator`, `normal` (default) or `bulk`."),
        ("x-deadline-ms" = Option<f64>, Header, description = "As `deadline_ms`."),
        ("x-priority" = Option<String>, Header, description = "As `priority`."),
        ("x-request-id" = Option<String>, Header, description = "An id of your own, at most 64 of \
            `A-Za-z0-9._-`; echoed in the reply and in the log."),
    ),
    request_body(description = "An image or a clip.", content(
        (Vec<u8> = "application/octet-stream"),
        (Vec<u8> = "image/jpeg"),
        (Vec<u8> = "image/png"),
        (Vec<u8> = "image/webp"),
        (PredictForm = "multipart/form-data"),
        (PredictDocument = "application/json"),
    )),
    responses(
        (status = 200, description = "The verdict.", body = PredictReply,
            headers(("x-request-id" = String, description = "The id of the request."))),
        (status = 400, description = "A broken image, an empty body, or a wrong parameter.",
            body = Problem),
        (status = 405, description = "Not POST.", body = Problem),
        (status = 408, description = "The body did not arrive in time.", body = Problem),
        (status = 413, description = "Too many bytes, pixels or frames; the message names the key \
            of the limit.", body = Problem),
        (status = 415, description = "Not a format that is read.", body = Problem),
        (status = 429, description = "Too much at once, or no answer is expected before the \
            deadline.", body = Problem,
            headers(("retry-after" = u64, description = "Seconds."))),
        (status = 500, description = "A bug.", body = Problem),
        (status = 503, description = "No stage can answer, or the server is shutting down.",
            body = Problem, headers(("retry-after" = u64, description = "Seconds."))),
        (status = 504, description = "The deadline passed before any stage answered, or no stage could \
            meet it.",
            body = Problem),
    )
)]
pub(crate) async fn predict(
    request: HttpRequest,
    mut payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    let exchange = Exchange::of(&request);
    match answer(&request, &mut payload, &state, &exchange).await {
        Ok(verdict) => {
            exchange.note(|said: &mut Said| {
                said.stage = Some(verdict.stage.clone());
                said.degraded = verdict.degraded;
            });
            HttpResponse::Ok().json(PredictReply::new(&verdict, exchange.id()))
        }
        Err(failure) => last_reply(failure.reply(exchange.id()), payload),
    }
}

async fn answer(
    request: &HttpRequest,
    payload: &mut web::Payload,
    state: &State,
    exchange: &Exchange,
) -> Result<Verdict, Failure> {
    let head = Wishes::of(request)?;
    let arrived = exchange.arrived();
    let deadline = head.deadline(arrived, &state.spec);
    let kind = Kind::of(request.headers())?;
    // The body may say more; until it is read, the best that it may say counts.
    let hoped = if kind == Kind::Raw { head } else { head.or(Wishes::BEST) };
    let latest = hoped.deadline(arrived, &state.spec);
    let priority = hoped.priority.unwrap_or_default();
    let admission = state.engine.admit(latest, priority, state.decoders.expected())?;
    let body = receive(request, payload, state, arrived, deadline).await?;
    exchange.note(|said| said.bytes = body.bytes.len());
    // Others came while the body was read. Who dawdles over theirs holds nobody up.
    state.engine.check(latest, priority, state.decoders.expected())?;
    let pending = state.decoders.enter();
    let still = || state.engine.check(latest, priority, state.decoders.service());
    let (input, said, _held) = decode((kind, body), state, deadline, still).await?;
    drop(pending);
    let wishes = head.or(said);
    let priority = wishes.priority.unwrap_or_default();
    let deadline = wishes.deadline(arrived, &state.spec);
    let ticket = state.engine.submit_admitted(Request { input, deadline, priority }, &admission)?;
    drop(admission);
    Ok(ticket.wait().await?)
}

/// Reads the body before the read timeout and the deadline.
async fn receive(
    request: &HttpRequest,
    payload: &mut web::Payload,
    state: &State,
    arrived: Instant,
    deadline: Instant,
) -> Result<Body, Failure> {
    let patience = Duration::from_millis(state.spec.read_timeout_ms);
    let reading = Reading {
        budget: &state.budget,
        max_bytes: state.spec.max_body_bytes,
        max_key: "http.max_body_bytes",
        until: deadline.min(arrived + patience),
        trusts_length: true,
    };
    let late = || {
        if deadline < arrived + patience {
            Failure::from(Rejection::Deadline)
        } else {
            Failure::SlowClient(patience)
        }
    };
    reading.read(request, payload).await?.ok_or_else(late)
}

/// A body of at most so many bytes, whose picture is not decoded, is read on the arbiter: that takes less
/// than asking another thread.
const AT_ONCE: usize = 1 << 20;

/// Decodes on the blocking pool. The permit and the budget's share go along, so a client that leaves
/// gives them back only once the work is really over.
async fn decode(
    (kind, body): (Kind, Body),
    state: &State,
    deadline: Instant,
    still_welcome: impl Fn() -> Result<(), Rejection>,
) -> Result<(Input, Wishes, Held), Failure> {
    if state.limits.as_files && body.bytes.len() <= AT_ONCE {
        return read(kind, body, &state.limits);
    }
    let work = async {
        let closed = || Failure::Internal("the decoders are closed".into());
        let permit = state.decoders.turn().await.ok_or_else(closed)?;
        still_welcome()?;
        let (limits, decoders) = (state.limits, state.decoders.clone());
        let decoding = web::block(move || {
            let begun = clock::now();
            let read = read(kind, body, &limits);
            decoders.learn(clock::now().saturating_duration_since(begun));
            drop(permit);
            read
        });
        decoding.await.map_err(|_| Failure::Internal("the image decoder gave up".into()))?
    };
    let remaining = deadline.saturating_duration_since(clock::now());
    tokio::time::timeout(remaining, work).await.map_err(|_| Failure::from(Rejection::Deadline))?
}

/// The pixels count towards the budget too, from before they are allocated until the answer: a small
/// file may hold a large picture.
fn read(kind: Kind, body: Body, limits: &Limits) -> Result<(Input, Wishes, Held), Failure> {
    let Body { bytes, held } = body;
    let share = RefCell::new((held, bytes.len()));
    let room = |more: usize| {
        let (held, total) = &mut *share.borrow_mut();
        *total = total.saturating_add(more);
        held.make_room(*total)
    };
    let (input, said) = kind.decode(bytes, Decoder { limits, room: &room })?;
    let (held, _) = share.into_inner();
    Ok((input, said, held))
}
