use std::sync::Barrier;
use std::time::Duration;

use proptest::prelude::*;

use super::super::dendrite::{Dendrite, MS, NOW, S, Sent, at};
use super::super::{EMPTY_BODY_HASH, Keypair, NonceLimits};
use super::*;

fn own() -> Hotkey {
    Keypair::from_seed(&[2; 32]).hotkey()
}

/// A verifier that has run for a while.
fn verifier_of(own: Vec<Hotkey>) -> Verifier {
    Verifier::new(own, Nonces::in_memory(NonceLimits::default(), at(NOW - 3600 * S)))
}

fn verifier() -> Verifier {
    verifier_of(vec![own()])
}

fn alice() -> Dendrite {
    Dendrite::new(1, own())
}

/// What becomes of a request that arrives at `now`.
fn ask(verifier: &Verifier, sent: &Sent, now: u64) -> &'static str {
    let verified = sent.head().and_then(|head| verifier.verify(&head, at(now)));
    verified.map_or_else(|error| error.as_str(), |_| "ok")
}

/// A row of the table: what becomes of this request, which was signed for now.
fn row(sent: &Sent) -> &'static str {
    ask(&verifier(), sent, NOW)
}

#[test]
fn good() {
    let sent = alice().sign(NOW - 3 * MS);
    let proof = verifier().verify(&sent.head().unwrap(), at(NOW)).unwrap();
    assert_eq!(proof, Proof { own: own(), age_s: 0.003 });
}

#[test]
fn signatures_that_are_not_the_callers() {
    let sent = alice().sign(NOW);
    let ones = format!("0x{}", "11".repeat(64));
    assert_eq!(row(&sent.with("bt_header_dendrite_signature", ones)), "signature");
    let malformed = sent.with("bt_header_dendrite_signature", "0xzz");
    assert_eq!(row(&malformed), "malformed_signature");
    let other = Dendrite::new(9, own()).keys.hotkey().to_string();
    assert_eq!(row(&sent.with("bt_header_dendrite_hotkey", other)), "signature");
    assert_eq!(row(&sent.without("bt_header_dendrite_signature")), "missing_signature");
}

#[test]
fn replayed_nonce() {
    let (verifier, sent) = (verifier(), alice().sign(NOW));
    assert_eq!(ask(&verifier, &sent, NOW), "ok");
    assert_eq!(ask(&verifier, &sent, NOW), "replayed");
    assert_eq!(ask(&verifier, &sent, NOW + 12 * S), "replayed");
    let longer = sent.with("timeout", "12");
    assert_eq!(ask(&verifier, &longer, NOW + 15 * S), "replayed");
    assert_eq!(ask(&verifier, &sent, NOW + 14 * S), "stale");
    // Known without a look at the signature, which costs the most.
    let forged = sent.with("bt_header_dendrite_signature", format!("0x{}", "11".repeat(64)));
    assert_eq!(ask(&verifier, &forged, NOW), "replayed");
}

#[test]
fn out_of_order_nonce() {
    let (verifier, alice) = (verifier(), alice());
    assert_eq!(ask(&verifier, &alice.sign(NOW), NOW), "ok");
    assert_eq!(ask(&verifier, &alice.sign(NOW - MS), NOW), "ok");
    assert_eq!(ask(&verifier, &alice.sign(NOW - 5 * S), NOW), "ok");
}

#[test]
fn stale_and_future_nonces() {
    assert_eq!(row(&alice().sign(NOW - 60 * S)), "stale");
    assert_eq!(row(&alice().sign(NOW - 12 * S)), "ok");
    let old = alice().sign(NOW - 3600 * S).with("bt_header_dendrite_version", "7001000");
    assert_eq!(row(&old), "stale");
    assert_eq!(row(&alice().sign(NOW + 3600 * S)), "future");
    assert_eq!(row(&alice().sign(NOW + S)), "ok");
}

#[test]
fn no_timeout_widens_the_window() {
    for timeout in ["1e300", "inf", "3600", "99999999999999999999"] {
        let sent = |age: u64| alice().sign(NOW - age).with("timeout", timeout);
        assert_eq!(row(&sent(16 * S)), "stale", "{timeout}");
        assert_eq!(row(&sent(16 * S - 1)), "ok", "{timeout}");
    }
    for timeout in ["nan", "-1", "soon", "\u{7f}"] {
        let sent = |age: u64| alice().sign(NOW - age).with("timeout", timeout);
        assert_eq!(row(&sent(13 * S)), "stale", "{timeout}");
        assert_eq!(row(&sent(13 * S - 1)), "ok", "{timeout}");
    }
    assert_eq!(row(&alice().sign(NOW - 4 * S).with("timeout", "0")), "stale");
}

#[test]
fn wrong_hotkey() {
    let other = Dendrite::new(1, Keypair::from_seed(&[3; 32]).hotkey());
    assert_eq!(row(&other.sign(NOW)), "signature");
    let claims_us = other.sign(NOW).with("bt_header_axon_hotkey", own().to_string());
    assert_eq!(row(&claims_us), "signature");
}

#[test]
fn computed_body_hash_changed_or_missing() {
    let sent = alice().sign(NOW);
    assert_eq!(row(&sent.with("computed_body_hash", "00".repeat(32))), "signature");
    assert_eq!(row(&sent.without("computed_body_hash")), "missing_body_hash");
}

#[test]
fn headers_that_are_not_there_or_not_to_be_read() {
    assert_eq!(row(&Sent::default()), "missing_hotkey");
    assert_eq!(row(&alice().sign(NOW).without("bt_header_dendrite_nonce")), "missing_nonce");
    assert_eq!(row(&alice().sign(NOW).with("bt_header_dendrite_nonce", "abc")), "malformed_nonce");
}

#[test]
fn many_at_once_with_one_uuid_and_with_their_own() {
    let verifier = verifier();
    for request in 0..32 {
        assert_eq!(ask(&verifier, &alice().sign(NOW - request), NOW), "ok");
    }
    for caller in 0..32 {
        let mut dendrite = alice();
        dendrite.uuid = format!("uuid-{caller}");
        assert_eq!(ask(&verifier, &dendrite.sign(NOW), NOW), "ok");
    }
}

/// Nobody can spend a validator's nonce without its key.
#[test]
fn what_was_refused_is_not_remembered() {
    let (verifier, sent) = (verifier(), alice().sign(NOW));
    let forged = sent.with("bt_header_dendrite_signature", format!("0x{}", "11".repeat(64)));
    assert_eq!(ask(&verifier, &forged, NOW), "signature");
    assert_eq!(verifier.nonces().held(), 0);
    assert_eq!(ask(&verifier, &sent, NOW), "ok");
    assert_eq!(verifier.nonces().held(), 1);
}

#[test]
fn of_several_hotkeys_the_one_that_is_named_is_meant() {
    let second = Keypair::from_seed(&[3; 32]).hotkey();
    let verifier = verifier_of(vec![own(), second]);
    let to = |axon| Dendrite::new(1, axon).sign(NOW);
    let own_of = |sent: &Sent| verifier.verify(&sent.head().unwrap(), at(NOW)).map(|p| p.own);
    assert_eq!(own_of(&to(second)), Ok(second));
    // The same nonce to another of our miners is another request.
    assert_eq!(own_of(&to(own())), Ok(own()));
    let unnamed = alice().sign(NOW - 1).without("bt_header_axon_hotkey");
    assert_eq!(own_of(&unnamed), Ok(own()));
    let misnamed = alice().sign(NOW - 2).with("bt_header_axon_hotkey", "somebody");
    assert_eq!(own_of(&misnamed), Ok(own()));
    let crossed =
        Dendrite::new(1, second).sign(NOW - 3).with("bt_header_axon_hotkey", own().to_string());
    assert_eq!(own_of(&crossed), Err(Unverified::Signature));
    assert_eq!(ask(&verifier_of(vec![]), &to(own()), NOW), "signature");
}

/// One message must not be two requests, or the second would be a replay of the first.
#[test]
fn a_message_cannot_be_read_apart_in_two_ways() {
    let verifier = verifier();
    let mut dendrite = alice();
    dendrite.uuid = format!("a.{EMPTY_BODY_HASH}");
    let sent = dendrite.sign(NOW);
    assert_eq!(ask(&verifier, &sent, NOW), "ok");
    let hash = format!("{EMPTY_BODY_HASH}.{EMPTY_BODY_HASH}");
    let split = sent.with("bt_header_dendrite_uuid", "a").with("computed_body_hash", hash);
    assert_eq!(ask(&verifier, &split, NOW), "malformed_body_hash");
}

#[test]
fn of_many_equal_requests_at_one_time_one_passes() {
    const THREADS: usize = 16;
    let verifier = verifier();
    for round in 0..20 {
        let sent = alice().sign(NOW - round);
        let head = sent.head().unwrap();
        let start = Barrier::new(THREADS);
        let labels: Vec<_> = std::thread::scope(|scope| {
            let attempt = || {
                start.wait();
                verifier.verify(&head, at(NOW)).map_or_else(|error| error.as_str(), |_| "ok")
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(attempt)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(labels.iter().filter(|label| **label == "ok").count(), 1, "{labels:?}");
        assert_eq!(labels.iter().filter(|label| **label == "replayed").count(), THREADS - 1);
    }
}

/// Made with the real SDK; see the fixture.
#[test]
fn golden_vectors() {
    let text = include_str!("../../tests/fixtures/bittensor/axon_9.json");
    let golden: serde_json::Value = serde_json::from_str(text).unwrap();
    let vectors = golden["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 4);
    for vector in vectors {
        let value = |key: &str| vector[key].as_str().unwrap().to_owned();
        let mut sent = Sent::default();
        let nonce = vector["nonce"].as_u64().unwrap();
        sent.set("bt_header_dendrite_nonce", nonce.to_string());
        sent.set("bt_header_dendrite_hotkey", value("dendrite_hotkey"));
        sent.set("bt_header_dendrite_uuid", value("uuid"));
        sent.set("bt_header_dendrite_signature", value("signature"));
        sent.set("computed_body_hash", value("computed_body_hash"));
        let own: Hotkey = value("axon_hotkey").parse().unwrap();
        assert_eq!(message(&sent.head().unwrap(), &own.to_string()), value("message"));
        let label = ask(&verifier_of(vec![own]), &sent, nonce);
        let expected = if vector["verifies"].as_bool().unwrap() { "ok" } else { "signature" };
        assert_eq!(label, expected, "{}", vector["note"]);
    }
}

#[test]
fn what_is_said_to_strangers_repeats_nothing_of_theirs() {
    let sent = alice().sign(NOW - 60 * S);
    let head = sent.head().unwrap();
    for (sent, now) in
        [(&sent, NOW), (&sent.with("bt_header_dendrite_uuid", "other"), NOW - 60 * S)]
    {
        let error = verifier().verify(&sent.head().unwrap(), at(now)).unwrap_err().to_string();
        for secret in [head.uuid, head.caller_text, &head.nonce.to_string(), "0x"] {
            assert!(!error.contains(secret), "{error}");
        }
    }
}

proptest! {
    #[test]
    fn a_changed_field_never_verifies(field in 0..5_usize, at_char: prop::sample::Index, new: u8) {
        let (names, sent) = (["nonce", "hotkey", "uuid", "signature"], alice().sign(NOW));
        let name = names.get(field).map_or_else(
            || "computed_body_hash".to_owned(),
            |name| format!("bt_header_dendrite_{name}"),
        );
        let mut value = sent.0[&name].clone();
        let place = at_char.index(value.len());
        let same = value[place].eq_ignore_ascii_case(&new);
        value[place] = new;
        let label = row(&sent.with(&name, &value));
        prop_assert!(same || label != "ok", "{name} {}", String::from_utf8_lossy(&value));
    }

    #[test]
    fn the_windows_edges(age in -20_000_i64..20_000, nanos in -1..=1_i64, timeout in 0..20_000_u64) {
        let age = age * MS as i64 + nanos;
        let sent = alice()
            .sign(NOW.checked_add_signed(-age).unwrap())
            .with("timeout", format!("{}.{:03}", timeout / 1000, timeout % 1000));
        let limit = 4 * S as i64 + (timeout.min(12_000) * MS) as i64;
        let expected = match age {
            age if age >= limit => "stale",
            age if -age > 2 * S as i64 => "future",
            _ => "ok",
        };
        prop_assert_eq!(row(&sent), expected);
    }
}

/// The clocks of what follows run on from one moment.
#[test]
fn a_nonce_outlives_its_window_in_memory() {
    let (verifier, sent) = (verifier(), alice().sign(NOW + 2 * S).with("timeout", "12"));
    let start = at(NOW);
    let later = |seconds: u64, step_back: u64| Moment {
        wall: start.wall + Duration::from_secs(seconds) - Duration::from_secs(step_back),
        mono: start.mono + Duration::from_secs(seconds),
    };
    let head = sent.head().unwrap();
    let ask = |now| verifier.verify(&head, now).map_or_else(|error| error.as_str(), |_| "ok");
    assert_eq!(ask(later(0, 0)), "ok");
    assert_eq!(ask(later(17, 0)), "replayed");
    assert_eq!(ask(later(18, 0)), "stale");
    assert_eq!(ask(later(57, 40)), "replayed");
    assert_eq!(ask(later(58, 40)), "stale");
}
