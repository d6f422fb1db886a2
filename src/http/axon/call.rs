//! `POST /ImageSynapse`: who calls, what about, and the answer in time.
//!
//! The control flow of one call. Every decision is elsewhere: who is let in (`admit`), how a failure
//! counts (`outcome`), where the verdict comes from (`search`), what goes back (`reply`).

use std::sync::Arc;

use actix_web::http::ConnectionType;
use actix_web::{HttpRequest, HttpResponse, web};

use super::Door;
use super::admit::{Guest, Incoming, admit};
use super::outcome::{Refusal, Why};
use super::reply::{self, Told};
use super::search::{Search, Source, Unfit};
use super::synapse::Asked;
use crate::http::log::Exchange;
use crate::metrics;
use crate::prediction::Verdict;

/// A verdict, or why there is none.
type Found = Result<(Arc<Verdict>, Source), Why>;

pub(super) async fn call(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> HttpResponse {
    let exchange = Exchange::of(&request);
    let mut incoming = Incoming::new(&request, payload, exchange.arrived());
    let mut ending = Ending { exchange: &exchange, outcome: "client_gone" };
    let answered = match admit(&mut incoming, &door).await {
        Ok(mut guest) => match answer(&mut guest, &mut incoming, &door).await {
            Ok((asked, found)) => {
                if found.is_err() && door.axon.spec.answer_with_prior {
                    incoming.discard(&door, guest.due.deadline).await;
                }
                conclude(&request, &door, (&guest, asked, found), &mut ending)
            }
            Err(refusal) => Err(refusal),
        },
        Err(refusal) => Err(refusal),
    };
    let mut response = answered.unwrap_or_else(|refusal| {
        ending.outcome = refusal.as_str();
        reply::refused(&request, &refusal)
    });
    if is_leaving(&door) {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    match incoming.unread() {
        Some(payload) => reply::last(response, payload),
        None => response,
    }
}

/// Tells how a call ended when it is over, also if the caller left first.
struct Ending<'a> {
    exchange: &'a Exchange,
    outcome: &'static str,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        metrics::axon_call(self.outcome);
        self.exchange.note_call(|call| call.outcome = self.outcome);
    }
}

/// Whether this process is about to end: a client that kept its connection would lose its next call.
fn is_leaving(door: &Door) -> bool {
    let board = door.engine.board();
    board.is_draining() || board.get_doom().is_some() || !board.is_alive()
}

/// Reads the body, unless it was read already, and finds a verdict on what is in it. With the prior in
/// view, only a body that is no synapse is refused.
async fn answer(
    guest: &mut Guest,
    incoming: &mut Incoming<'_>,
    door: &Door,
) -> Result<(Asked, Found), Refusal> {
    let (plain, due) = (Asked::default(), guest.due);
    let admission = match door.engine.reserve() {
        Ok(admission) => admission,
        Err(rejection) => return Ok((plain, Err(Why::of(&rejection.into())))),
    };
    let body = match guest.body.take() {
        Some(body) => body,
        None => match incoming.read(door, &door.budget, due.deadline).await {
            Ok(body) => body,
            Err(failure) => match Refusal::of_body(&failure) {
                Refusal::NoVerdict(why) => return Ok((plain, Err(why))),
                refusal => return Err(refusal),
            },
        },
    };
    Exchange::of(incoming.request).note(|said| said.bytes = body.bytes.len());
    let search = Search { door, due, admission: &admission };
    match search.unwrap(body, guest.body_hash.take()).await {
        Ok(picture) => {
            let asked = picture.asked();
            Ok((asked, search.verdict(picture).await.map_err(|failure| Why::of(&failure))))
        }
        Err(Unfit::NoSynapse(refusal)) => Err(refusal),
        Err(Unfit::NoImage(asked)) => Ok((asked, Err(Why::Undecodable))),
        Err(Unfit::Failed(failure)) => Ok((plain, Err(Why::of(&failure)))),
    }
}

/// Turns what was found into the reply, and tells the metrics and the log.
fn conclude(
    request: &HttpRequest,
    door: &Door,
    (guest, asked, found): (&Guest, Asked, Found),
    ending: &mut Ending<'_>,
) -> Result<HttpResponse, Refusal> {
    let spec = &door.axon.spec;
    let probability = match &found {
        Ok((verdict, source)) => {
            metrics::axon_answer(source.as_str());
            ending.exchange.note_call(|call| call.source = Some(source.as_str()));
            ending.outcome = if verdict.degraded.is_some() { "degraded" } else { "answered" };
            ending.exchange.note(|said| {
                said.stage = Some(verdict.stage.clone());
                said.degraded = verdict.degraded;
            });
            verdict.probability
        }
        Err(why) if spec.answer_with_prior => {
            metrics::axon_prior(why.as_str());
            ending.exchange.note_call(|call| call.source = Some(why.as_str()));
            ending.outcome = "prior";
            spec.prior()
        }
        Err(why) => return Err(Refusal::NoVerdict(*why)),
    };
    ending.exchange.note_call(|call| call.prediction = Some(probability.get()));
    let told = Told {
        own: guest.own,
        timeout_s: guest.timeout.as_secs_f64(),
        asked,
        model_url: &spec.model_url,
        verdict: found.as_ref().ok().map(|(verdict, _)| &**verdict),
    };
    Ok(reply::predicted(request, probability, &told))
}
