//! Lets a caller in, or not: by the headers of a dendrite, which sign no body, or by `btauth/1`, which
//! signs it, so that it has to be read first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::header::HeaderValue;
use actix_web::{HttpRequest, web};
use sha2::{Digest as _, Sha256};

use super::Door;
use super::answers::Due;
use super::outcome::{Refusal, Why};
use super::search::off_the_arbiter;
use crate::actors::Priority;
use crate::bittensor::{
    Caller, Class, EMPTY_BODY_HASH, Head, Hotkey, Moment, Seat, btauth, caller,
};
use crate::clock;
use crate::http::body::{Body, Reading};
use crate::http::budget::Budget;
use crate::http::reply::Failure;
use crate::metrics;
use crate::prediction::Rejection;

/// A call as it comes in.
pub(super) struct Incoming<'a> {
    pub(super) request: &'a HttpRequest,
    pub(super) arrived: Instant,
    payload: Option<web::Payload>,
    is_read: bool,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(request: &'a HttpRequest, payload: web::Payload, arrived: Instant) -> Self {
        Self { request, arrived, payload: Some(payload), is_read: false }
    }

    /// Whether the body was read to its end; if not, the connection is of no use any more.
    pub(super) fn is_read(&self) -> bool {
        self.is_read
    }

    /// Reads the body, within the limits of the port.
    pub(super) async fn read(
        &mut self,
        door: &Door,
        budget: &Arc<Budget>,
        until: Instant,
    ) -> Result<Body, Failure> {
        let max_bytes = door.axon.spec.max_body_bytes;
        let reading = Reading { budget, max_bytes, max_key: "axon.max_body_bytes", until };
        let payload = self.payload.take().ok_or(Failure::NoBody)?;
        let read = reading.read(self.request, payload).await;
        self.is_read = matches!(read, Ok(Some(_)) | Err(Failure::NoBody));
        read?.ok_or(Failure::Rejected(Rejection::Deadline))
    }
}

/// A caller that was let in.
pub(super) struct Guest {
    pub(super) caller: Caller,
    pub(super) own: Hotkey,
    pub(super) timeout: Duration,
    pub(super) due: Due,
    /// What the hash of the body's fields must be; `None` if none was signed.
    pub(super) body_hash: Option<String>,
    /// The body, if it had to be read already.
    pub(super) body: Option<Body>,
    _seat: Seat,
}

/// Lets a caller in: it may call, it is who it says it is, and it does not call too often.
pub(super) async fn admit(incoming: &mut Incoming<'_>, door: &Door) -> Result<Guest, Refusal> {
    let request = incoming.request;
    let get = |name: &str| only(request, name);
    if btauth::is_spoken(&get) {
        return admit_btauth(incoming, door).await;
    }
    let caller = allowed(caller(&get)?, door)?;
    let head = Head::read(&get)?;
    let now = Moment::now();
    let proof = door.axon.verifier.verify(&head, now)?;
    metrics::axon_verified(clock::now().saturating_duration_since(now.mono), proof.age_s);
    let seat = door.axon.callers.enter(&caller, now.mono)?;
    let body_hash = (head.body_hash != EMPTY_BODY_HASH).then(|| head.body_hash.to_owned());
    let timeout = door.axon.spec.timeout(head.timeout);
    let due = due(&caller, incoming.arrived, timeout, door);
    Ok(Guest { caller, own: proof.own, timeout, due, body_hash, body: None, _seat: seat })
}

/// As [`admit`], for who signs the body. Until that is read the caller is only who it says it is, so
/// bodies of such callers have a small budget of their own.
async fn admit_btauth(incoming: &mut Incoming<'_>, door: &Door) -> Result<Guest, Refusal> {
    let (request, axon) = (incoming.request, &door.axon);
    let get = |name: &str| only(request, name);
    let caller = allowed(btauth::caller(&get)?, door)?;
    let head = btauth::Head::read(&get)?;
    axon.verifier.check_btauth(&head, Moment::now())?;
    let timeout = axon.spec.timeout(None);
    let due = due(&caller, incoming.arrived, timeout, door);
    let unread = |failure: Failure| Refusal::of_body(&failure);
    let body = match incoming.read(door, &door.unverified, due.deadline).await {
        // Whether that is what was signed is still to be seen.
        Err(Failure::NoBody) => Body::empty(&door.unverified),
        read => read.map_err(unread)?,
    };
    let hashing = move || (<[u8; 32]>::from(Sha256::digest(&body.bytes)), body);
    let hashed = off_the_arbiter(door, due.deadline, hashing).await.map_err(unread)?;
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let signed =
        btauth::Request { method: request.method().as_str(), target, body_sha256: &hashed.0 };
    let now = Moment::now();
    let proof = axon.verifier.verify_btauth(&head, &signed, now)?;
    metrics::axon_verified(clock::now().saturating_duration_since(now.mono), proof.age_s);
    let seat = axon.callers.enter(&caller, now.mono)?;
    let body = Some(hashed.1);
    Ok(Guest { caller, own: proof.own, timeout, due, body_hash: None, body, _seat: seat })
}

/// A header that is there once: of two nobody could say which is meant.
fn only<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a [u8]> {
    let mut values = request.headers().get_all(name).map(HeaderValue::as_bytes);
    values.next().filter(|_| values.next().is_none())
}

fn allowed(caller: Hotkey, door: &Door) -> Result<Caller, Refusal> {
    let snapshot = door.axon.metagraph.get();
    Ok(door.axon.callers.check(caller, snapshot.as_deref())?)
}

fn due(caller: &Caller, arrived: Instant, timeout: Duration, door: &Door) -> Due {
    let priority = match caller.class {
        Class::Validator => Priority::Validator,
        Class::Normal => Priority::Normal,
    };
    let spec = &door.axon.spec;
    let grace = spec.margin(timeout) / 10;
    Due { deadline: spec.deadline(arrived, timeout), grace, priority }
}

impl Refusal {
    /// Of a body that could not be read, or is not one.
    pub(super) fn of_body(failure: &Failure) -> Self {
        match failure {
            Failure::NoBody | Failure::UnsupportedMediaType(_) | Failure::BadBody(_) => {
                Self::BadBody(failure.to_string())
            }
            other => Self::NoVerdict(Why::of(other)),
        }
    }
}
