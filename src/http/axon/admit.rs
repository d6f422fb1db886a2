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
use crate::http::log::Exchange;
use crate::http::reply::Failure;
use crate::metrics;
use crate::prediction::Rejection;

/// A call as it comes in.
pub(super) struct Incoming<'a> {
    pub(super) request: &'a HttpRequest,
    pub(super) arrived: Instant,
    payload: web::Payload,
    is_read: bool,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(request: &'a HttpRequest, payload: web::Payload, arrived: Instant) -> Self {
        Self { request, arrived, payload, is_read: false }
    }

    /// What is left of the body, unless it was read to its end; the connection is of no use then.
    pub(super) fn unread(self) -> Option<web::Payload> {
        (!self.is_read).then_some(self.payload)
    }

    /// Whether who claims to call may call. From here on the log knows the claim.
    fn allowed(&self, claimed: Hotkey, door: &Door) -> Result<Caller, Refusal> {
        let text = claimed.to_string();
        Exchange::of(self.request).note_call(|call| call.caller = Some(text));
        let snapshot = door.axon.metagraph.get();
        Ok(door.axon.callers.check(claimed, snapshot.as_deref())?)
    }

    /// Reads the body, within the limits of the port.
    pub(super) async fn read(
        &mut self,
        door: &Door,
        budget: &Arc<Budget>,
        until: Instant,
    ) -> Result<Body, Failure> {
        let reading = reading(door, budget, until);
        let read = reading.read(self.request, &mut self.payload).await;
        self.is_read = matches!(read, Ok(Some(_)) | Err(Failure::NoBody));
        read?.ok_or(Failure::Rejected(Rejection::Deadline))
    }

    /// Lets a caller that gets a reply in any case finish sending.
    pub(super) async fn discard(&mut self, door: &Door, until: Instant) {
        if !self.is_read {
            self.is_read = reading(door, &door.budget, until).discard(&mut self.payload).await;
        }
    }
}

fn reading<'a>(door: &Door, budget: &'a Arc<Budget>, until: Instant) -> Reading<'a> {
    let (max_bytes, max_key) = (door.axon.spec.max_body_bytes, "axon.max_body_bytes");
    let trusts_length = !Arc::ptr_eq(budget, &door.unverified);
    Reading { budget, max_bytes, max_key, until, trusts_length }
}

/// A caller that was let in.
pub(super) struct Guest {
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
    let caller = incoming.allowed(caller(&get)?, door)?;
    let head = Head::read(&get)?;
    let now = Moment::now();
    let enter = || Ok::<_, Refusal>(door.axon.callers.enter(&caller, now.mono)?);
    let (proof, seat) = door.axon.verifier.verify_and(&head, now, enter)?;
    metrics::axon_verified(clock::now().saturating_duration_since(now.mono), proof.age_s);
    let body_hash = (head.body_hash != EMPTY_BODY_HASH).then(|| head.body_hash.to_owned());
    let timeout = door.axon.spec.timeout(head.timeout);
    let due = due(&caller, incoming.arrived, timeout, door);
    Ok(Guest { own: proof.own, timeout, due, body_hash, body: None, _seat: seat })
}

/// As [`admit`], for who signs the body. Until that is read the caller is only who it says it is, so
/// bodies of such callers have a small budget of their own.
async fn admit_btauth(incoming: &mut Incoming<'_>, door: &Door) -> Result<Guest, Refusal> {
    let (request, axon) = (incoming.request, &door.axon);
    let get = |name: &str| only(request, name);
    let caller = incoming.allowed(btauth::caller(&get)?, door)?;
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
    let enter = || Ok::<_, Refusal>(axon.callers.enter(&caller, now.mono)?);
    let (proof, seat) = axon.verifier.verify_btauth_and(&head, &signed, now, enter)?;
    metrics::axon_verified(clock::now().saturating_duration_since(now.mono), proof.age_s);
    let mut body = hashed.1;
    if !body.held.move_to(&door.budget) {
        return Err(Refusal::NoVerdict(Why::Overloaded));
    }
    let body = Some(body);
    Ok(Guest { own: proof.own, timeout, due, body_hash: None, body, _seat: seat })
}

/// A header that is there once: of two nobody could say which is meant.
fn only<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a [u8]> {
    let mut values = request.headers().get_all(name).map(HeaderValue::as_bytes);
    values.next().filter(|_| values.next().is_none())
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
