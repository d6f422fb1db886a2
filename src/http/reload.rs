//! `POST /v1/reload` and SIGHUP: other settings while serving, through a hook.
//!
//! Must not know: where settings come from, or which can change.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::body::{Reading, last_reply};
use super::log::Exchange;
use super::predict::State;
use super::reply::Failure;
use super::wire::{Problem, ReloadDocument, ReloadProblem, ReloadReply};
use crate::metrics;

/// Largest body in bytes: several times what every setting of a long cascade would take.
const MAX_BODY: usize = 16 << 10;

/// Reads the settings again and applies what differs.
pub trait Reload: Send + Sync {
    /// Reads every source again, with these values above them all, and applies what differs: all of
    /// it, or nothing. The values stay for later reloads, unless they are refused; null takes one
    /// back. Returns what was changed. May block; is called off the arbiters, one call at a time.
    ///
    /// # Errors
    /// Why nothing was applied.
    fn reload(&self, set: &[(String, Value)]) -> Result<Vec<Change>, Refusal>;
}

/// A setting that was changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its key, the names joined by dots.
    pub key: String,
    /// What it was; null if it was not set.
    pub from: Value,
    /// What it is; null if it is not set any more.
    pub to: Value,
}

/// Why a reload changed nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// These keys differ and cannot change while serving.
    #[error("nothing was applied, since this cannot change while serving: {}{}", .0.join(", "), growth(.0))]
    NeedsRestart(Vec<String>),
    /// The configuration is wrong.
    #[error("nothing was applied, since the configuration has {}", counted(.0.len()))]
    BadConfiguration(Vec<Fault>),
    /// There is nothing to read again.
    #[error("this server was not started from sources that it could read again")]
    NoSources,
    /// A bug.
    #[error("the reload failed: {0}")]
    Failed(String),
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The setting; absent if a source as a whole could not be read.
    pub key: Option<String>,
    /// Its value, as TOML.
    pub value: Option<String>,
    /// Where the value came from.
    pub origin: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// All of this, for people.
    pub text: String,
}

fn counted(problems: usize) -> String {
    format!("{problems} {}", if problems == 1 { "problem" } else { "problems" })
}

/// What else is to be said of a batch limit: that it cannot be raised is no matter of course.
fn growth(keys: &[String]) -> &'static str {
    let is_limit = |key: &String| key.ends_with(".batching.max_batch");
    if keys.iter().any(is_limit) {
        " (`max_batch` is at most what it was at the start)"
    } else {
        ""
    }
}

/// The hook of a server, called off the arbiters and one call at a time.
pub(crate) struct Reloads {
    hook: OnceLock<Arc<dyn Reload>>,
    turn: Arc<Semaphore>,
}

impl Reloads {
    /// Without a hook: every reload is refused.
    pub(crate) fn new() -> Self {
        Self { hook: OnceLock::new(), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Sets the hook; the first stays.
    pub(crate) fn hook(&self, hook: Arc<dyn Reload>) {
        // Another one would be a second truth.
        let _ = self.hook.set(hook);
    }

    /// Reloads. What was begun is finished and logged, even if nobody waits for it any more.
    pub(crate) async fn ask(
        &self,
        by: &'static str,
        set: Vec<(String, Value)>,
    ) -> Result<Vec<Change>, Refusal> {
        let hook = self.hook.get().cloned().ok_or(Refusal::NoSources)?;
        let closed = |_| Refusal::Failed("the queue is closed".into());
        let turn = self.turn.clone().acquire_owned().await.map_err(closed)?;
        let work = web::block(move || {
            let outcome = hook.reload(&set);
            report(by, &outcome);
            drop(turn);
            outcome
        });
        work.await.unwrap_or_else(|_| {
            let outcome = Err(Refusal::Failed("it panicked".into()));
            report(by, &outcome);
            outcome
        })
    }
}

/// One line in the log, and one measurement.
fn report(by: &str, outcome: &Result<Vec<Change>, Refusal>) {
    match outcome {
        Ok(changes) if changes.is_empty() => {
            metrics::reload("unchanged");
            tracing::info!(by, "reloaded; no setting differs");
        }
        Ok(changes) => {
            metrics::reload("applied");
            let tell = |c: &Change| format!("{} from {} to {}", c.key, c.from, c.to);
            let changes: Vec<_> = changes.iter().map(tell).collect();
            tracing::info!(by, changes = changes.join(", "), "reloaded");
        }
        Err(refusal) => {
            metrics::reload("refused");
            let Refusal::BadConfiguration(faults) = refusal else {
                return tracing::warn!(by, "not reloaded: {refusal}");
            };
            let lines = faults.iter().flat_map(|fault| fault.text.lines().map(str::trim));
            let problems = lines.collect::<Vec<_>>().join("; ");
            tracing::warn!(by, problems, "not reloaded: {refusal}");
        }
    }
}

/// Reads the settings again, as SIGHUP does, and applies what differs: all of it, or nothing.
///
/// Thresholds, conditions, batching and `hang_ms` of the stages can change, and the cascade's
/// `policy` and `exhausted`; no request is lost. The values in the body, if there is one, come above
/// every other source for as long as the process lives; null takes one back.
#[utoipa::path(
    post,
    path = "/v1/reload",
    tag = "operations",
    request_body(description = "Values to set; nothing, to read the sources again.",
        content = Option<ReloadDocument>),
    responses(
        (status = 200, description = "What was changed; nothing, if nothing differs.",
            body = ReloadReply),
        (status = 400, description = "Not the document that is described here.", body = Problem),
        (status = 408, description = "The body did not arrive in time.", body = Problem),
        (status = 409, description = "Settings differ that cannot change while serving; nothing \
            was applied.", body = ReloadProblem),
        (status = 413, description = "Too many bytes.", body = Problem),
        (status = 415, description = "A body that is not `application/json`.", body = Problem),
        (status = 422, description = "The configuration is wrong; nothing was applied.",
            body = ReloadProblem),
        (status = 429, description = "Too much at once.", body = Problem,
            headers(("retry-after" = u64, description = "Seconds."))),
        (status = 500, description = "A bug.", body = Problem),
        (status = 501, description = "This server has nothing to read again.", body = Problem),
    )
)]
pub(crate) async fn reload(
    request: HttpRequest,
    mut payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    let exchange = Exchange::of(&request);
    match answer(&request, &mut payload, &state, &exchange).await {
        Ok(changes) => HttpResponse::Ok().json(ReloadReply::new(changes)),
        Err(failure) => last_reply(failure.reply(exchange.id()), payload),
    }
}

async fn answer(
    request: &HttpRequest,
    payload: &mut web::Payload,
    state: &State,
    exchange: &Exchange,
) -> Result<Vec<Change>, Failure> {
    let patience = Duration::from_millis(state.spec.read_timeout_ms);
    let max_bytes = state.spec.max_body_bytes.min(MAX_BODY);
    let until = exchange.arrived() + patience;
    let max_key = "http.max_body_bytes";
    let budget = &state.budget;
    let reading = Reading { budget, max_bytes, max_key, until, trusts_length: true };
    let set = match reading.read(request, payload).await {
        Ok(Some(body)) => values(request, &body.bytes)?,
        Ok(None) => return Err(Failure::SlowClient(patience)),
        Err(Failure::NoBody) => Vec::new(),
        Err(Failure::BodyTooLarge { limit, .. }) if limit == MAX_BODY => {
            return Err(Failure::BodyTooLarge { limit, key: "POST /v1/reload" });
        }
        Err(failure) => return Err(failure),
    };
    Ok(state.reloads.ask("api", set).await?)
}

/// The values of a body. It must say that it is JSON: a page of another site cannot send that
/// without being asked about, so a browser on this machine cannot be made to change settings.
fn values(request: &HttpRequest, bytes: &[u8]) -> Result<Vec<(String, Value)>, Failure> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Failure::NotJson);
    }
    let document: Option<ReloadDocument> = serde_json::from_slice(bytes)
        .map_err(|error| Failure::BadBody(format!("the JSON document is wrong: {error}")))?;
    Ok(document.unwrap_or_default().set.into_iter().collect())
}
