use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::super::dendrite::{Dendrite, NOW, S, at};
use super::super::{Keypair, Moment, NonceLimits, Nonces};
use super::*;

/// Made with the real package, by `tools/make_btauth_vectors.py`.
#[derive(Deserialize)]
struct Fixture {
    bittensor: String,
    now: u64,
    own: String,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    note: String,
    method: String,
    target: String,
    body: String,
    headers: BTreeMap<String, String>,
    /// What the package's own verifier says.
    sdk: String,
}

fn fixture() -> Fixture {
    let text = include_str!("../../tests/fixtures/bittensor/btauth_11.json");
    let fixture: Fixture = serde_json::from_str(text).unwrap();
    assert_eq!((fixture.bittensor.as_str(), fixture.vectors.len()), ("11.3.0", 41));
    fixture
}

impl Fixture {
    fn verifier(&self) -> Verifier {
        let nonces = Nonces::in_memory(NonceLimits::default(), at(self.now - 3600 * S));
        Verifier::new(vec![self.own.parse().unwrap()], nonces)
    }

    fn vector(&self, note: &str) -> &Vector {
        self.vectors.iter().find(|vector| vector.note == note).unwrap()
    }
}

impl Vector {
    fn get<'a>(&'a self) -> impl Fn(&str) -> Option<&'a [u8]> {
        move |name| {
            let same = |(other, _): &(&String, &String)| other.eq_ignore_ascii_case(name);
            self.headers.iter().find(same).map(|(_, value)| value.as_bytes())
        }
    }

    fn head(&self) -> Result<Head<'_>, Unverified> {
        Head::read(&self.get())
    }

    fn ask(&self, verifier: &Verifier, now: Moment) -> Result<Proof, Unverified> {
        let head = self.head()?;
        let digit = |at| u8::from_str_radix(&self.body[at..at + 2], 16).unwrap();
        let body: Vec<_> = (0..self.body.len()).step_by(2).map(digit).collect();
        let body_sha256 = &Sha256::digest(body).into();
        let request = Request { method: &self.method, target: &self.target, body_sha256 };
        verifier.verify_btauth(&head, &request, now)
    }

    fn label(&self, verifier: &Verifier, now: Moment) -> &'static str {
        self.ask(verifier, now).map_or_else(|error| error.as_str(), |_| "ok")
    }
}

/// What we say where the package says this.
fn equals(sdk: &str, ours: &str) -> bool {
    match sdk {
        "ok" => ours == "ok",
        "BadSignature" => ours == "signature",
        "StaleRequest" => ["stale", "future"].contains(&ours),
        "WrongReceiver" => ["receiver", "missing_receiver"].contains(&ours),
        "MalformedAuth" => {
            ours.starts_with("missing_") || ours.starts_with("malformed_") || ours == "scheme"
        }
        _ => false,
    }
}

#[test]
fn the_real_packages_requests_are_judged_as_it_judges_them() {
    let fixture = fixture();
    let narrower = [
        ("ed25519", "scheme"),
        ("sr25519, said to be ed25519", "scheme"),
        ("a negative nonce", "malformed_nonce"),
    ];
    for vector in &fixture.vectors {
        let ours = vector.label(&fixture.verifier(), at(fixture.now));
        match narrower.iter().find(|(note, _)| *note == vector.note) {
            Some((_, expected)) => assert_eq!(ours, *expected, "{}", vector.note),
            None => assert!(equals(&vector.sdk, ours), "{}: {ours}, {}", vector.note, vector.sdk),
        }
    }
}

#[test]
fn a_good_request_proves_whom_it_is_for() {
    let fixture = fixture();
    let plain = fixture.vector("plain");
    let own: Hotkey = fixture.own.parse().unwrap();
    let proof = plain.ask(&fixture.verifier(), at(fixture.now + S)).unwrap();
    assert_eq!(proof, Proof { own, age_s: 1.0 });
    let alice = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY".parse();
    assert_eq!(caller(&plain.get()).ok(), alice.ok());
    assert!(is_spoken(&plain.get()) && !is_spoken(&Dendrite::new(1, own).sign(NOW).get()));
}

#[test]
fn the_same_request_passes_once() {
    let fixture = fixture();
    let (verifier, plain) = (fixture.verifier(), fixture.vector("plain"));
    let now = at(fixture.now);
    assert_eq!(verifier.check_btauth(&plain.head().unwrap(), now), Ok(()));
    assert_eq!(plain.label(&verifier, now), "ok");
    assert_eq!(plain.label(&verifier, now), "replayed");
    assert_eq!(verifier.check_btauth(&plain.head().unwrap(), now), Err(Unverified::Replayed));
    // Known without a look at the signature, which costs the most.
    assert_eq!(fixture.vector("another body").label(&verifier, now), "replayed");
    // Also under another path: a nonce is a caller's, whatever it asks.
    assert_eq!(fixture.vector("with a query").label(&verifier, now), "replayed");
    assert_eq!(plain.label(&verifier, at(fixture.now + 11 * S)), "stale");
}

#[test]
fn what_was_refused_is_not_remembered() {
    let fixture = fixture();
    let (verifier, now) = (fixture.verifier(), at(fixture.now));
    assert_eq!(fixture.vector("another body").label(&verifier, now), "signature");
    assert_eq!(verifier.nonces().held(), 0);
    assert_eq!(fixture.vector("plain").label(&verifier, now), "ok");
}

#[test]
fn much_is_refused_before_the_body_is_there() {
    let fixture = fixture();
    let verifier = fixture.verifier();
    let check = |note: &str| {
        let outcome = fixture.vector(note).head();
        outcome
            .and_then(|head| verifier.check_btauth(&head, at(fixture.now)))
            .map_or_else(|error| error.as_str(), |()| "ok")
    };
    assert_eq!(check("for somebody else"), "receiver");
    assert_eq!(check("for nobody in particular"), "missing_receiver");
    assert_eq!(check("for nobody, and a dash for a receiver"), "receiver");
    assert_eq!(check("a nanosecond older"), "stale");
    assert_eq!(check("a nanosecond further ahead"), "future");
    assert_eq!(check("ed25519"), "scheme");
    // These only the body tells apart.
    assert_eq!(check("another body"), "ok");
    assert_eq!(check("a signature of ones"), "ok");
}

#[test]
fn the_body_must_not_come_too_late() {
    let fixture = fixture();
    let (verifier, plain, now) = (fixture.verifier(), fixture.vector("plain"), at(fixture.now));
    assert_eq!(verifier.check_btauth(&plain.head().unwrap(), now), Ok(()));
    let passed = Duration::from_nanos(10 * S + 1);
    let late = Moment { wall: now.wall + passed, mono: now.mono + passed };
    assert_eq!(plain.label(&verifier, late), "stale");
}

#[test]
fn both_protocols_share_a_memory_and_no_nonce() {
    let own = Keypair::from_seed(&[2; 32]).hotkey();
    let nonces = Nonces::in_memory(NonceLimits::default(), at(NOW - 3600 * S));
    let verifier = Verifier::new(vec![own], nonces);
    let dendrite = Dendrite::new(1, own);
    let sent = dendrite.sign(NOW);
    assert!(verifier.verify(&sent.head().unwrap(), at(NOW)).is_ok());
    let (caller, receiver) = (dendrite.keys.hotkey(), own.to_string());
    let caller_text = caller.to_string();
    let (caller_text, receiver) = (caller_text.as_str(), receiver.as_str());
    let mut head = Head { caller, caller_text, receiver, nonce: NOW, signature: [0; 64] };
    let request = Request { method: "POST", target: "/ImageSynapse", body_sha256: &[0; 32] };
    head.signature = dendrite.keys.sign(payload(&head, &request).as_bytes());
    assert!(verifier.verify_btauth(&head, &request, at(NOW)).is_ok());
    assert_eq!(verifier.nonces().held(), 2);
}
