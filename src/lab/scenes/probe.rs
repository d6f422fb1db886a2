//! How far colour alone gets: a logistic regression on the mean colours of an eight-by-eight grid
//! and a histogram of hues. It guards against scenes whose class a model could tell without
//! looking at shapes.

use image::RgbImage;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use super::{SceneSpec, render};

/// Cells along either side of the grid of mean colours.
const GRID: usize = 8;
/// Bins of the hue histogram, each weighted by saturation.
const HUES: usize = 16;
/// Numbers an image is reduced to.
const FEATURES: usize = GRID * GRID * 3 + HUES;
/// Passes of gradient descent over all training scenes.
const PASSES: usize = 400;
/// Gradient step.
const STEP: f32 = 0.1;
/// Weight decay.
const DECAY: f32 = 0.01;

type Features = [f32; FEATURES];

/// Trains on the first `train` scenes of a series and returns the share of the `test` scenes
/// after them that is classified rightly.
pub fn linear_accuracy(spec: &SceneSpec, train: u64, test: u64) -> f32 {
    let mut scenes: Vec<(Features, f32)> = (0..train + test)
        .into_par_iter()
        .map(|index| {
            let scene = render(spec, index);
            (features(&scene.image), f32::from(scene.label.label))
        })
        .collect();
    let train = (train as usize).min(scenes.len());
    standardise(&mut scenes, train);
    let (seen, unseen) = scenes.split_at(train);
    let (weights, bias) = fit(seen);
    let right = unseen
        .iter()
        .filter(|(features, label)| (score(&weights, bias, features) > 0.0) == (*label > 0.5))
        .count();
    right as f32 / unseen.len().max(1) as f32
}

/// Mean colours of the grid's cells, row by row, then the hue histogram.
fn features(image: &RgbImage) -> Features {
    let mut sums = [0.0; FEATURES];
    let mut counts = [0_u32; GRID * GRID];
    let (wide, high) = (image.width() as usize, image.height() as usize);
    for (x, y, pixel) in image.enumerate_pixels() {
        let cell = y as usize * GRID / high * GRID + x as usize * GRID / wide;
        let colour = pixel.0.map(|channel| f32::from(channel) / 255.0);
        counts[cell] += 1;
        for (sum, channel) in sums[cell * 3..].iter_mut().zip(colour) {
            *sum += channel;
        }
        let (hue, saturation) = hue(colour);
        let bin = ((hue * HUES as f32) as usize).min(HUES - 1);
        sums[GRID * GRID * 3 + bin] += saturation;
    }
    for (cell, count) in counts.iter().enumerate() {
        for sum in &mut sums[cell * 3..cell * 3 + 3] {
            *sum /= (*count).max(1) as f32;
        }
    }
    for sum in &mut sums[GRID * GRID * 3..] {
        *sum /= (wide * high) as f32;
    }
    sums
}

/// Hue from 0 to 1 and saturation.
fn hue([r, g, b]: [f32; 3]) -> (f32, f32) {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    let range = most - least;
    if range <= 0.0 {
        return (0.0, 0.0);
    }
    let sixth = if most == r {
        ((g - b) / range).rem_euclid(6.0)
    } else if most == g {
        (b - r) / range + 2.0
    } else {
        (r - g) / range + 4.0
    };
    (sixth / 6.0, range / most)
}

/// Brings every feature to mean 0 and deviation 1 over the training scenes.
fn standardise(scenes: &mut [(Features, f32)], train: usize) {
    let count = train.max(1) as f32;
    for feature in 0..FEATURES {
        let seen = || scenes[..train].iter().map(|(features, _)| features[feature]);
        let mean = seen().sum::<f32>() / count;
        let spread = (seen().map(|value| (value - mean).powi(2)).sum::<f32>() / count).sqrt();
        for (features, _) in scenes.iter_mut() {
            features[feature] = (features[feature] - mean) / spread.max(1e-6);
        }
    }
}

fn fit(scenes: &[(Features, f32)]) -> (Features, f32) {
    let (mut weights, mut bias) = ([0.0; FEATURES], 0.0);
    let step = STEP / scenes.len().max(1) as f32;
    for _ in 0..PASSES {
        let (mut slope, mut drift) = ([0.0; FEATURES], 0.0);
        for (features, label) in scenes {
            let error = 1.0 / (1.0 + (-score(&weights, bias, features)).exp()) - label;
            drift += error;
            for (total, value) in slope.iter_mut().zip(features) {
                *total += error * value;
            }
        }
        bias -= step * drift;
        for (weight, total) in weights.iter_mut().zip(slope) {
            *weight -= step * total + STEP * DECAY * *weight;
        }
    }
    (weights, bias)
}

fn score(weights: &Features, bias: f32, features: &Features) -> f32 {
    weights.iter().zip(features).map(|(weight, value)| weight * value).sum::<f32>() + bias
}
