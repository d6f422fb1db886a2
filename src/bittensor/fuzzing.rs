//! What reads strangers' bytes here, for the targets in `fuzz/`. Not part of the program.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use super::nonce_file::{self, SLOT};
use super::nonces::Memory;
use super::{Head, Hotkey, Moment, NonceLimits, Nonces, Unverified, Verifier, btauth, caller};
use crate::clock;

/// To whom the seeds are signed: //Bob.
const OWN: [u8; 32] = [
    0x8e, 0xaf, 0x04, 0x15, 0x16, 0x87, 0x73, 0x63, 0x26, 0xc9, 0xfe, 0xa1, 0x7e, 0x25, 0xfc, 0x52,
    0x87, 0x61, 0x36, 0x93, 0xc9, 0x12, 0x90, 0x9c, 0xb2, 0x26, 0xaa, 0x47, 0x94, 0xf2, 0x6a, 0x48,
];

/// Reads bytes as what their first line says: a `file` of nonces, the same with its checks put right
/// (`slots`), or else headers, one a line, with a body after an empty line.
///
/// # Panics
/// If something passes twice, or more is read than there is room for.
pub fn axon(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    match (parts.next(), parts.next().unwrap_or_default()) {
        (Some(b"file"), rest) => file(rest),
        (Some(b"slots"), rest) => {
            let slots = rest.chunks(SLOT - 8).map(|fields| nonce_file::sealed(&[fields]));
            file(&slots.collect::<Vec<_>>().concat());
        }
        _ => headers(bytes),
    }
}

fn file(bytes: &[u8]) {
    for capacity in [1, 2, 7] {
        let Some(mut contents) = nonce_file::read(bytes, capacity) else { continue };
        assert!(contents.records.len() <= capacity);
        let limits = NonceLimits { capacity, per_caller: 2 };
        assert!(Memory::new(&contents, limits, at(u64::MAX / 2)).len() <= capacity);
        contents.damaged = false;
        let again = nonce_file::read(&nonce_file::image(&contents, capacity), capacity);
        assert_eq!(again.as_ref(), Some(&contents));
    }
}

fn headers(bytes: &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(end);
    let body_sha256 = &Sha256::digest(body.get(2..).unwrap_or_default()).into();
    let mut values = HashMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        values.insert(name.to_ascii_lowercase(), value.trim_ascii());
    }
    let get = |name: &str| values.get(name.as_bytes()).copied();
    let own = Hotkey::new(OWN);
    let verifier = |nonce: u64| {
        let past = at(nonce.saturating_sub(1));
        Verifier::new(vec![own], Nonces::in_memory(NonceLimits::default(), past))
    };
    if let Ok(head) = Head::read(&get) {
        assert_eq!(caller(&get), Ok(head.caller));
        let verifier = verifier(head.nonce);
        if let Ok(proof) = verifier.verify(&head, at(head.nonce)) {
            assert_eq!(proof.own, own);
            assert_eq!(verifier.verify(&head, at(head.nonce)), Err(Unverified::Replayed));
        }
    }
    if let Ok(head) = btauth::Head::read(&get) {
        assert_eq!(btauth::caller(&get), Ok(head.caller));
        let verifier = verifier(head.nonce);
        let now = at(head.nonce);
        let request = btauth::Request { method: "POST", target: "/ImageSynapse", body_sha256 };
        if verifier.verify_btauth(&head, &request, now).is_ok() {
            assert_eq!(verifier.check_btauth(&head, now), Err(Unverified::Replayed));
        }
    }
}

fn at(nanos: u64) -> Moment {
    Moment { wall: UNIX_EPOCH + Duration::from_nanos(nanos), mono: clock::now() }
}
