//! What goes back to a dendrite: header names in lower case with underscores, objects that are never
//! null, a prediction that is always a number, and never the image.

use actix_web::http::ConnectionType;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use serde::Serialize;

use super::outcome::Refusal;
use super::synapse::Asked;
use crate::bittensor::{EMPTY_BODY_HASH, Hotkey};
use crate::http::body::last_reply;
use crate::http::log::Exchange;
use crate::metrics;
use crate::prediction::{Hop, HopOutcome, Prediction, Probability, Verdict};

const NAME: HeaderName = HeaderName::from_static("name");
const TIMEOUT: HeaderName = HeaderName::from_static("timeout");
const STATUS_CODE: HeaderName = HeaderName::from_static("bt_header_axon_status_code");
const STATUS_MESSAGE: HeaderName = HeaderName::from_static("bt_header_axon_status_message");
const PROCESS_TIME: HeaderName = HeaderName::from_static("bt_header_axon_process_time");
const HOTKEY: HeaderName = HeaderName::from_static("bt_header_axon_hotkey");
const BODY_HASH: HeaderName = HeaderName::from_static("computed_body_hash");

/// Header values of ours are shorter; longer ones are somebody's attempt.
const ECHO_MAX: usize = 256;

/// What a reply tells besides the prediction.
pub(super) struct Told<'a> {
    pub(super) own: Hotkey,
    pub(super) timeout_s: f64,
    pub(super) asked: Asked,
    pub(super) model_url: &'a str,
    /// `None` with the prior.
    pub(super) verdict: Option<&'a Verdict>,
}

#[derive(Serialize)]
struct Synapse<'a> {
    name: &'a str,
    timeout: f64,
    total_size: u64,
    header_size: u64,
    dendrite: Dendrite<'a>,
    axon: Terminal,
    computed_body_hash: &'a str,
    testnet_label: i64,
    image: &'a str,
    prediction: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_url: Option<&'a str>,
}

/// What the caller said of itself, echoed.
#[derive(Serialize)]
struct Dendrite<'a> {
    ip: Option<&'a str>,
    version: Option<u64>,
    nonce: Option<u64>,
    uuid: Option<&'a str>,
    hotkey: Option<&'a str>,
    signature: Option<&'a str>,
}

/// What the axon says of itself.
#[derive(Serialize)]
struct Terminal {
    status_code: u16,
    status_message: &'static str,
    process_time: f64,
    hotkey: String,
}

/// An error: what the SDK looks for.
#[derive(Serialize)]
struct Message {
    message: String,
}

/// A prediction.
pub(super) fn predicted(
    request: &HttpRequest,
    probability: Probability,
    told: &Told<'_>,
) -> HttpResponse {
    let process_time = Exchange::of(request).took().as_secs_f64();
    let mut reply = HttpResponse::Ok();
    head(&mut reply, request, (200, "Success"), process_time);
    reply.insert_header((TIMEOUT, seconds(told.timeout_s)));
    let hotkey = told.own.to_string();
    reply.insert_header((HOTKEY, hotkey.as_str()));
    let axon = Terminal { status_code: 200, status_message: "Success", process_time, hotkey };
    let synapse = Synapse {
        name: name(request),
        timeout: told.timeout_s,
        total_size: 0,
        header_size: 0,
        dendrite: Dendrite::of(request.headers()),
        axon,
        computed_body_hash: "",
        testnet_label: told.asked.testnet_label,
        image: "",
        prediction: probability.get(),
        explanation: told.asked.explanation.then(|| explanation(probability, told.verdict)),
        model_url: told.asked.model_url.then_some(told.model_url),
    };
    reply.json(synapse)
}

/// An error. It names neither what was signed nor the signature.
pub(super) fn refused(request: &HttpRequest, refusal: &Refusal) -> HttpResponse {
    let (status, message) = (refusal.status(), refusal.to_string());
    let mut reply = HttpResponse::build(status);
    let process_time = Exchange::of(request).took().as_secs_f64();
    head(&mut reply, request, (status.as_u16(), &message), process_time);
    if matches!(refusal, Refusal::WrongMethod) {
        reply.insert_header((header::ALLOW, "POST"));
    }
    reply.json(Message { message })
}

/// Something for an operator who looks whether the port is open. Who wants no more keeps no place.
pub(super) async fn alive() -> HttpResponse {
    HttpResponse::Ok().force_close().content_type("text/plain").body("ok\n")
}

pub(super) async fn not_found(request: HttpRequest, payload: web::Payload) -> HttpResponse {
    lost(&request, payload, &Refusal::NotFound)
}

pub(super) async fn wrong_method(request: HttpRequest, payload: web::Payload) -> HttpResponse {
    lost(&request, payload, &Refusal::WrongMethod)
}

/// Refuses what never was a call.
fn lost(request: &HttpRequest, payload: web::Payload, refusal: &Refusal) -> HttpResponse {
    metrics::axon_call(refusal.as_str());
    Exchange::of(request).note_call(|call| call.outcome = refusal.as_str());
    last(refused(request, refusal), payload)
}

/// The last reply of a connection: there may be more of the body than anybody wants to read.
pub(super) fn last(mut reply: HttpResponse, payload: web::Payload) -> HttpResponse {
    reply.head_mut().set_connection_type(ConnectionType::Close);
    last_reply(reply, payload)
}

fn head(
    reply: &mut HttpResponseBuilder,
    request: &HttpRequest,
    (code, message): (u16, &str),
    process_time: f64,
) {
    reply.insert_header((NAME, name(request)));
    reply.insert_header((STATUS_CODE, usize::from(code)));
    if let Ok(message) = HeaderValue::from_str(message) {
        reply.insert_header((STATUS_MESSAGE, message));
    }
    reply.insert_header((PROCESS_TIME, seconds(process_time)));
    reply.insert_header((BODY_HASH, EMPTY_BODY_HASH));
}

/// A number as Python writes it: with a point.
fn seconds(value: f64) -> String {
    format!("{value:?}")
}

/// The name of the synapse: the path, which is one of those that are answered.
fn name(request: &HttpRequest) -> &str {
    let name = request.path().trim_start_matches('/');
    if name.len() <= ECHO_MAX { name } else { "" }
}

impl<'a> Dendrite<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let text = |name: &str| {
            let text = headers.get(name)?.to_str().ok()?;
            (text.len() <= ECHO_MAX).then_some(text)
        };
        let number = |name| text(name)?.parse().ok();
        Self {
            ip: text("bt_header_dendrite_ip"),
            version: number("bt_header_dendrite_version"),
            nonce: number("bt_header_dendrite_nonce"),
            uuid: text("bt_header_dendrite_uuid"),
            hotkey: text("bt_header_dendrite_hotkey"),
            signature: text("bt_header_dendrite_signature"),
        }
    }
}

/// Why this prediction, for people: the evidence that the stages gave, or else which stage it is from.
fn explanation(probability: Probability, verdict: Option<&Verdict>) -> String {
    let Some(verdict) = verdict else {
        return "No model has judged this image; this is the prior.".to_owned();
    };
    let evidence = |hop: &Hop| match &hop.outcome {
        HopOutcome::Predicted(Prediction::Score { evidence: Some(text), .. }) => {
            Some(format!("{}: {text}", hop.stage))
        }
        _ => None,
    };
    let found: Vec<_> = verdict.trace.iter().filter_map(evidence).collect();
    if !found.is_empty() {
        return found.join("; ");
    }
    let what = if probability.is_roadwork() { "shows roadwork" } else { "shows no roadwork" };
    let percent = (probability.confidence() * 100.0).floor();
    format!("The stage {} holds that the image {what} ({percent} % sure).", verdict.stage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn verdict(evidence: Option<&str>) -> Verdict {
        let probability = Probability::new(0.9375).unwrap();
        let prediction = Prediction::Score { probability, evidence: evidence.map(str::to_owned) };
        let hop = Hop {
            stage: "signs".into(),
            outcome: HopOutcome::Predicted(prediction),
            latency: Duration::ZERO,
            batch_size: 1,
        };
        Verdict { probability, stage: "signs".into(), degraded: None, trace: vec![hop] }
    }

    #[test]
    fn an_explanation_tells_the_evidence_or_who_judged() {
        let explained = |verdict: &Verdict| explanation(verdict.probability, Some(verdict));
        assert_eq!(explained(&verdict(Some("ROAD WORK AHEAD"))), "signs: ROAD WORK AHEAD");
        let plain = explained(&verdict(None));
        assert_eq!(plain, "The stage signs holds that the image shows roadwork (93 % sure).");
        assert!(explanation(Probability::HALF, None).contains("prior"));
    }
}
