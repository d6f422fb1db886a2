//! A stand-in dendrite, for tests: signs as the SDK does, and lets every header be changed.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use super::{EMPTY_BODY_HASH, Head, Hotkey, Keypair, Moment, Unverified};
use crate::clock;

/// A moment of the golden vectors.
pub(super) const NOW: u64 = 1_795_359_862_387_512_062;
pub(super) const MS: u64 = 1_000_000;
pub(super) const S: u64 = 1000 * MS;

/// The moment at which a nonce is just now.
pub(super) fn at(nanos: u64) -> Moment {
    Moment { wall: UNIX_EPOCH + Duration::from_nanos(nanos), mono: clock::now() }
}

pub(super) struct Dendrite {
    pub(super) keys: Keypair,
    pub(super) uuid: String,
    pub(super) axon: Hotkey,
}

/// The headers of one request.
#[derive(Clone, Default)]
pub(super) struct Sent(pub(super) BTreeMap<String, Vec<u8>>);

impl Dendrite {
    /// The seed names the caller.
    pub(super) fn new(seed: u8, axon: Hotkey) -> Self {
        let uuid = "ffebb1ee-e685-11f1-9fd3-02fc00000001".to_owned();
        Self { keys: Keypair::from_seed(&[seed; 32]), uuid, axon }
    }

    pub(super) fn sign(&self, nonce: u64) -> Sent {
        let (caller, axon, uuid) = (self.keys.hotkey(), self.axon, &self.uuid);
        let message = format!("{nonce}.{caller}.{axon}.{uuid}.{EMPTY_BODY_HASH}");
        let mut sent = Sent::default();
        sent.set("name", "ImageSynapse");
        sent.set("timeout", "9.0");
        sent.set("bt_header_axon_hotkey", axon.to_string());
        sent.set("bt_header_dendrite_version", "9012002");
        sent.set("bt_header_dendrite_nonce", nonce.to_string());
        sent.set("bt_header_dendrite_uuid", uuid);
        sent.set("bt_header_dendrite_hotkey", caller.to_string());
        sent.set("computed_body_hash", EMPTY_BODY_HASH);
        sent.set_signature(&self.keys, &message);
        sent
    }
}

impl Sent {
    pub(super) fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.0.insert(name.to_owned(), value.as_ref().to_owned());
    }

    pub(super) fn with(&self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let mut other = self.clone();
        other.set(name, value);
        other
    }

    pub(super) fn without(&self, name: &str) -> Self {
        let mut other = self.clone();
        assert!(other.0.remove(name).is_some(), "{name} was not there");
        other
    }

    pub(super) fn set_signature(&mut self, keys: &Keypair, message: &str) {
        let signature = super::body_hash::hex(&keys.sign(message.as_bytes()));
        self.set("bt_header_dendrite_signature", format!("0x{signature}"));
    }

    pub(super) fn get<'a>(&'a self) -> impl Fn(&str) -> Option<&'a [u8]> {
        move |name| self.0.get(name).map(Vec::as_slice)
    }

    pub(super) fn head(&self) -> Result<Head<'_>, Unverified> {
        Head::read(&self.get())
    }
}
