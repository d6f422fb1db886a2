//! What it costs to know who calls: a dendrite's headers read and verified, and the parts of it.
//!
//! `cargo bench --bench verify`

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, UNIX_EPOCH};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use roadcrew::bittensor::{
    EMPTY_BODY_HASH, Head, Hotkey, Keypair, Moment, NonceLimits, Nonces, Verifier,
};

const START: u64 = 1_795_359_862_000_000_000;
/// Between two requests, so that a bench of any length finds room in the memory.
const STEP: u64 = 10_000_000;

struct Dendrite {
    keys: Keypair,
    axon: Hotkey,
    begun: Moment,
    sent: u64,
}

type Sent = HashMap<&'static str, String>;

impl Dendrite {
    fn new() -> Self {
        let axon = Keypair::from_seed(&[2; 32]).hotkey();
        let wall = UNIX_EPOCH + Duration::from_nanos(START);
        let begun = Moment { wall, ..Moment::now() };
        Self { keys: Keypair::from_seed(&[1; 32]), axon, begun, sent: 0 }
    }

    /// The next request, and when it arrives.
    fn next(&mut self) -> (Sent, Moment) {
        self.sent += 1;
        let passed = STEP * self.sent;
        let (nonce, caller, axon) = (START + passed, self.keys.hotkey(), self.axon);
        let uuid = "ffebb1ee-e685-11f1-9fd3-02fc00000001";
        let message = format!("{nonce}.{caller}.{axon}.{uuid}.{EMPTY_BODY_HASH}");
        let mut signature = "0x".to_owned();
        for byte in self.keys.sign(message.as_bytes()) {
            write!(signature, "{byte:02x}").unwrap();
        }
        let sent = HashMap::from([
            ("timeout", "9.0".to_owned()),
            ("bt_header_axon_hotkey", axon.to_string()),
            ("bt_header_dendrite_nonce", nonce.to_string()),
            ("bt_header_dendrite_uuid", uuid.to_owned()),
            ("bt_header_dendrite_hotkey", caller.to_string()),
            ("bt_header_dendrite_signature", signature),
            ("computed_body_hash", EMPTY_BODY_HASH.to_owned()),
        ]);
        let passed = Duration::from_nanos(passed);
        let Moment { wall, mono } = self.begun;
        (sent, Moment { wall: wall + passed, mono: mono + passed })
    }

    fn verifier(&self, nonces: Nonces) -> Verifier {
        Verifier::new(vec![self.axon], nonces)
    }
}

fn read(sent: &Sent) -> Head<'_> {
    Head::read(&|name: &str| sent.get(name).map(String::as_bytes)).unwrap()
}

fn verify(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let mut group = c.benchmark_group("axon");
    let mut dendrite = Dendrite::new();
    let (sent, now) = dendrite.next();
    group.bench_function("head", |b| b.iter(|| read(black_box(&sent))));

    let message = format!("{START}.{:0>200}", 1);
    let signature = dendrite.keys.sign(message.as_bytes());
    let caller = dendrite.keys.hotkey();
    group.bench_function("signature alone", |b| {
        b.iter(|| assert!(caller.verifies(black_box(message.as_bytes()), &signature)));
    });

    for place in ["in memory", "on disk"] {
        let mut dendrite = Dendrite::new();
        let (begun, limits) = (dendrite.begun, NonceLimits::default());
        let nonces = match place {
            "in memory" => Nonces::in_memory(limits, begun),
            _ => Nonces::open(&folder.path().join("nonces"), limits, begun).unwrap(),
        };
        let verifier = dendrite.verifier(nonces);
        group.bench_function(format!("head and verify, nonces {place}"), |b| {
            b.iter_batched(
                || dendrite.next(),
                |(sent, now)| verifier.verify(&read(&sent), now).unwrap(),
                BatchSize::SmallInput,
            );
        });
    }

    let verifier = dendrite.verifier(Nonces::in_memory(NonceLimits::default(), dendrite.begun));
    verifier.verify(&read(&sent), now).unwrap();
    group.bench_function("a replay", |b| {
        b.iter(|| verifier.verify(black_box(&read(&sent)), now).unwrap_err());
    });
    let late = Moment { wall: now.wall + Duration::from_secs(60), ..now };
    group.bench_function("a stale request", |b| {
        b.iter(|| verifier.verify(black_box(&read(&sent)), late).unwrap_err());
    });
    let mut forged = sent.clone();
    forged.insert("bt_header_dendrite_uuid", "another".to_owned());
    group.bench_function("a forged request", |b| {
        b.iter(|| verifier.verify(black_box(&read(&forged)), now).unwrap_err());
    });
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);
