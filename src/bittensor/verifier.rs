//! Whether a dendrite's request is from whom it says, for us, fresh, and not seen before.
//!
//! What is cheap comes first: the window, then whether the nonce is known, then the signature, at some
//! fifty microseconds. A nonce is noted only once the signature is known to be good, so nobody spends
//! a validator's nonces without its key; and it is looked up again in the same breath, so of two equal
//! requests at one time one passes.

use super::head::Head;
use super::moment::Moment;
use super::nonces::{Claim, Key, Nonces};
use super::{Hotkey, Signature, Unverified, window};

/// What is known of a request that passed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proof {
    /// Which of our hotkeys it is for.
    pub own: Hotkey,
    /// How old the nonce is by our clock, in seconds; negative if it is ahead.
    pub age_s: f64,
}

/// Verifies the requests of both protocols, with one memory of nonces. See also `btauth`.
#[derive(Debug)]
pub struct Verifier {
    own: Vec<Own>,
    pub(super) nonces: Nonces,
}

/// A hotkey of ours.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) key: Hotkey,
    pub(super) text: String,
}

impl Verifier {
    /// For requests to these hotkeys; to the first, where a request names none of them. Without any
    /// hotkey, no request is verified.
    pub fn new(own: Vec<Hotkey>, nonces: Nonces) -> Self {
        let own = own.into_iter().map(|key| Own { key, text: key.to_string() }).collect();
        Self { own, nonces }
    }

    /// The memory of nonces.
    pub fn nonces(&self) -> &Nonces {
        &self.nonces
    }

    /// Verifies what a dendrite's headers claim. Who may call, and whether the body is what its hash
    /// says, is not asked here.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify(&self, head: &Head<'_>, now: Moment) -> Result<Proof, Unverified> {
        self.verify_and(head, now, || Ok(())).map(|(proof, ())| proof)
    }

    /// As [`verify`](Self::verify), for who must also be let in: asked once the signature is known to be
    /// good, and before the nonce is noted, so that whoever is turned away leaves no trace.
    ///
    /// # Errors
    /// Why it is not believed, or not let in.
    pub fn verify_and<T, E: From<Unverified>>(
        &self,
        head: &Head<'_>,
        now: Moment,
        enter: impl FnOnce() -> Result<T, E>,
    ) -> Result<(Proof, T), E> {
        let age_s = window::age(head.nonce, window::axon(head.timeout), now)?;
        let own = self.meant(head.axon_text).ok_or(Unverified::Signature)?;
        let claim = Claim { own: own.key, caller: head.caller, uuid: head.uuid, nonce: head.nonce };
        let key = Key::from(claim);
        self.nonces.check(&key, now)?;
        if !signed(head.caller, &message(head, &own.text), &head.signature) {
            return Err(Unverified::Signature.into());
        }
        let entered = enter()?;
        self.nonces.accept(&key, now)?;
        Ok((Proof { own: own.key, age_s }, entered))
    }

    /// The hotkey of ours with this text.
    pub(super) fn named(&self, text: &str) -> Option<&Own> {
        self.own.iter().find(|own| own.text == text)
    }

    fn meant(&self, text: Option<&str>) -> Option<&Own> {
        text.and_then(|text| self.named(text)).or(self.own.first())
    }
}

/// What a dendrite signs, with our own address in it and not the one that the header claims.
fn message(head: &Head<'_>, own: &str) -> String {
    let Head { nonce, caller_text, uuid, body_hash, .. } = head;
    format!("{nonce}.{caller_text}.{own}.{uuid}.{body_hash}")
}

/// Whether the caller signed the message, as it is or, as some wallets do, between `<Bytes>` and
/// `</Bytes>`; both SDKs take either.
pub(super) fn signed(caller: Hotkey, message: &str, signature: &Signature) -> bool {
    caller.verifies(message.as_bytes(), signature)
        || caller.verifies(format!("<Bytes>{message}</Bytes>").as_bytes(), signature)
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
