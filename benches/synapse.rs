//! The body of a call: finding the image in the JSON and decoding its base64, against the plain way
//! of doing it and against a copy of the body, which is the least that anything could cost.
#![allow(clippy::unwrap_used, reason = "a bench")]

use std::hint::black_box;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use roadcrew::http::axon::Synapse;

/// What a dendrite sends with an image of so many bytes.
fn body(image: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let image: Vec<u8> = (0..image).map(|_| byte()).collect();
    let text = STANDARD.encode(image);
    let before = r#"{"name": "ImageSynapse", "timeout": 9.0, "total_size": 7530, "header_size": 0,
        "dendrite": {"ip": "192.0.2.10", "nonce": 1795359862387512062}, "axon": {"port": 8091},
        "computed_body_hash": "", "testnet_label": -1, "image": ""#;
    format!("{before}{text}\", \"prediction\": -1.0}}").into_bytes()
}

/// The plain way: a tree of values, and a decoder of the usual kind.
fn plainly(body: &[u8]) -> Vec<u8> {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap();
    STANDARD.decode(value["image"].as_str().unwrap()).unwrap()
}

fn read(criterion: &mut Criterion) {
    for (name, image) in [("98.9 kB", 98_900), ("20 MB", 20_000_000)] {
        let body = body(image);
        assert_eq!(Synapse::read(body.clone(), None).unwrap().image(), plainly(&body));
        let mut group = criterion.benchmark_group(format!("synapse of {name}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("ours, in place", |bencher| {
            let work = |body| Synapse::read(body, None).unwrap();
            bencher.iter_batched(|| body.clone(), work, BatchSize::PerIteration);
        });
        group.bench_function("plainly", |bencher| bencher.iter(|| plainly(black_box(&body))));
        group.bench_function("a copy of the body", |bencher| {
            bencher.iter(|| black_box(&body).clone());
        });
        group.finish();
    }
}

criterion_group!(benches, read);
criterion_main!(benches);
