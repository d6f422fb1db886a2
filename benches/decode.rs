//! JPEG decoders side by side, and the preprocessing behind them, on one 1280x720 frame.
//!
//! Holds the choice of decoder to account: `Image::decode` (zune-jpeg, by the `image` crate, with
//! our header scan before it) against `jpeg-decoder`.
#![allow(clippy::unwrap_used, reason = "a bench")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use image::codecs::jpeg::JpegEncoder;
use roadcrew::image::{Image, ImageLimits};
use roadcrew::kernels::preprocess::{Filter, Plan, preprocess};

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;

/// A frame with smooth parts, edges and grain, so that neither decoder has it too easy.
fn frame() -> Vec<u8> {
    let mut state = 1u32;
    let mut grain = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 28) as u8
    };
    let mut pixels = Vec::new();
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let sign = (x / 40 + y / 40) % 7 == 0;
            let base = if sign { [230, 120, 10] } else { [(x / 6) as u8, (y / 4) as u8, 90] };
            pixels.extend(base.map(|value: u8| value.saturating_add(grain())));
        }
    }
    pixels
}

fn decode(criterion: &mut Criterion) {
    let pixels = frame();
    let mut jpeg = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut jpeg, 88);
    encoder.encode(&pixels, WIDTH, HEIGHT, image::ExtendedColorType::Rgb8).unwrap();

    let mut group = criterion.benchmark_group("jpeg_1280x720");
    group.throughput(Throughput::Bytes(jpeg.len() as u64));
    group.bench_function("ours (zune-jpeg)", |bencher| {
        let limits = ImageLimits::default();
        bencher.iter(|| Image::decode(black_box(&jpeg), &limits).unwrap());
    });
    group.bench_function("jpeg-decoder", |bencher| {
        bencher.iter(|| jpeg_decoder::Decoder::new(black_box(&jpeg[..])).decode().unwrap());
    });
    group.finish();

    let image = Image::from_rgb(WIDTH, HEIGHT, pixels).unwrap();
    for filter in [Filter::Bilinear, Filter::Bicubic] {
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        let plan = Plan { height: 224, width: 224, filter, rescale: 1.0 / 255.0, mean, std };
        criterion.bench_function(&format!("preprocess_1280x720_to_224 {filter:?}"), |bencher| {
            bencher.iter(|| preprocess(&[black_box(&image)], &plan));
        });
    }
}

criterion_group!(benches, decode);
criterion_main!(benches);
