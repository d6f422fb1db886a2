//! `btauth/1`, the signed requests of bittensor 11: other headers, and a signature that covers the
//! method, the target and the SHA-256 of the whole body.
//!
//! So the signature cannot be checked before the body has been read. [`Verifier::check_btauth`] says
//! before that whether it can still be good, and [`Verifier::verify_btauth`] after it whether it is.
//! Until then a caller is only who it says to be.
//!
//! Narrower than the SDK's own verifier where its signer never goes: sr25519 only, the nonce in its one
//! canonical form, and always with a receiver, since a request for nobody in particular could be
//! replayed to everybody.

use super::head::{Headers, hotkey, nonce, required, signature_of, visible};
use super::moment::Moment;
use super::nonces::{Claim, Key};
use super::unverified::Field;
use super::verifier::{Own, Proof, Verifier, signed};
use super::{Hotkey, Signature, Unverified, window};

const VERSION: &str = "x-bittensor-version";
const HOTKEY: &str = "x-bittensor-hotkey";
const RECEIVER: &str = "x-bittensor-receiver";
const NONCE: &str = "x-bittensor-nonce";
const CRYPTO: &str = "x-bittensor-crypto";
const SIGNATURE: &str = "x-bittensor-signature";

const SCHEME: &str = "sr25519";
/// The number that wallets give the scheme.
const SCHEME_CODE: &str = "1";

/// Whether the headers are of this protocol: then they are read as such, or refused.
pub fn is_spoken(get: &Headers<'_, '_>) -> bool {
    get(VERSION).is_some()
}

/// Who a request says it is from.
///
/// # Errors
/// If it does not say, or not as an address.
pub fn caller(get: &Headers<'_, '_>) -> Result<Hotkey, Unverified> {
    hotkey(get, HOTKEY).map(|(key, _)| key)
}

/// What the headers claim.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    /// Who says to have sent the request.
    pub caller: Hotkey,
    /// The same as the header wrote it, which is how it was signed.
    pub caller_text: &'a str,
    /// Whom it is for.
    pub receiver: &'a str,
    /// When it was signed, in nanoseconds since 1970.
    pub nonce: u64,
    /// The signature.
    pub signature: Signature,
}

/// What else was signed, as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// In upper case.
    pub method: &'a str,
    /// The path, with the query if there is one, as it was sent.
    pub target: &'a str,
    /// The SHA-256 of the body's bytes.
    pub body_sha256: &'a [u8; 32],
}

impl<'a> Head<'a> {
    /// Reads the headers of a request.
    ///
    /// # Errors
    /// If one that is needed is missing or not of its shape, or the signature is of another scheme.
    pub fn read(get: &Headers<'_, 'a>) -> Result<Self, Unverified> {
        if required(get, VERSION, Field::Version)? != "1" {
            return Err(Unverified::Malformed(Field::Version));
        }
        if let Some(scheme) = get(CRYPTO) {
            let scheme = visible(scheme).ok_or(Unverified::Malformed(Field::Crypto))?;
            if !scheme.eq_ignore_ascii_case(SCHEME) && scheme != SCHEME_CODE {
                return Err(Unverified::Scheme);
            }
        }
        let (caller, caller_text) = hotkey(get, HOTKEY)?;
        let signature = required(get, SIGNATURE, Field::Signature)?;
        let digits = signature.strip_prefix("0x").unwrap_or(signature);
        Ok(Self {
            caller,
            caller_text,
            receiver: required(get, RECEIVER, Field::Receiver)?,
            nonce: nonce(required(get, NONCE, Field::Nonce)?)?,
            signature: signature_of(digits)?,
        })
    }
}

impl Verifier {
    /// Whether a request is for us, fresh, and of a nonce that is not known: what can be said before
    /// its body is there.
    ///
    /// # Errors
    /// Why it will not be believed, whatever its body.
    pub fn check_btauth(&self, head: &Head<'_>, now: Moment) -> Result<(), Unverified> {
        let (_, key, _) = self.promising(head, now)?;
        self.nonces.check(&key, now)
    }

    /// Verifies a request whose body has been read, at most ten seconds after it was signed.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify_btauth(
        &self,
        head: &Head<'_>,
        request: &Request<'_>,
        now: Moment,
    ) -> Result<Proof, Unverified> {
        self.verify_btauth_and(head, request, now, || Ok(())).map(|(proof, ())| proof)
    }

    /// As [`verify_btauth`](Self::verify_btauth), for who must also be let in; see
    /// [`verify_and`](Self::verify_and).
    ///
    /// # Errors
    /// Why it is not believed, or not let in.
    pub fn verify_btauth_and<T, E: From<Unverified>>(
        &self,
        head: &Head<'_>,
        request: &Request<'_>,
        now: Moment,
        enter: impl FnOnce() -> Result<T, E>,
    ) -> Result<(Proof, T), E> {
        let (own, key, age_s) = self.promising(head, now)?;
        self.nonces.check(&key, now)?;
        if !signed(head.caller, &payload(head, request), &head.signature) {
            return Err(Unverified::Signature.into());
        }
        let entered = enter()?;
        self.nonces.accept(&key, now)?;
        Ok((Proof { own: own.key, age_s }, entered))
    }

    fn promising(&self, head: &Head<'_>, now: Moment) -> Result<(&Own, Key, f64), Unverified> {
        let own = self.named(head.receiver).ok_or(Unverified::Receiver)?;
        let age_s = window::age(head.nonce, window::BTAUTH, now)?;
        let claim = Claim { own: own.key, caller: head.caller, uuid: "", nonce: head.nonce };
        Ok((own, Key::from(claim), age_s))
    }
}

/// What is signed. No line holds a line's end: neither a header's value nor a request line can.
fn payload(head: &Head<'_>, request: &Request<'_>) -> String {
    let Head { caller_text, receiver, nonce, .. } = head;
    let Request { method, target, body_sha256 } = request;
    let hash = super::body_hash::hex(*body_sha256);
    format!("btauth/1\n{SCHEME}\n{method}\n{target}\n{hash}\n{nonce}\n{caller_text}\n{receiver}")
}

#[cfg(test)]
#[path = "btauth_tests.rs"]
mod tests;
