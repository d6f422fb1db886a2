//! What pixels become where they are: tone, blur, noise. Pure.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::geometry::{map, picture, pixel};
use crate::image::Image;

/// Luma of red, green and blue (ITU-R BT.601).
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// Factors on brightness, contrast and saturation; 1 leaves each as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tone {
    /// On every value.
    pub brightness: f32,
    /// On the distance from the picture's mean luma.
    pub contrast: f32,
    /// On the distance from the pixel's own luma.
    pub saturation: f32,
}

/// Brightness, then contrast, then saturation, as torchvision's `ColorJitter` defines them.
pub fn tone(image: &Image, tone: Tone) -> Image {
    let Tone { brightness, contrast, saturation } = tone;
    let lit = |value: u8| (f32::from(value) * brightness).min(255.0);
    let count = image.pixels().len() / 3;
    let sum: f64 =
        image.pixels().chunks_exact(3).map(|p| f64::from(luma(p.iter().map(|v| lit(*v))))).sum();
    let mean = (sum / count as f64) as f32;
    let mut pixels = Vec::with_capacity(image.pixels().len());
    for p in image.pixels().chunks_exact(3) {
        let values = [0, 1, 2].map(|c| ((lit(p[c]) - mean) * contrast + mean).clamp(0.0, 255.0));
        let grey = luma(values.into_iter());
        pixels.extend(
            values.map(|v| ((v - grey) * saturation + grey).round().clamp(0.0, 255.0) as u8),
        );
    }
    picture(image.width(), image.height(), pixels)
}

fn luma(values: impl Iterator<Item = f32>) -> f32 {
    values.zip(LUMA).map(|(value, weight)| value * weight).sum()
}

/// A Gaussian of `size` (odd) taps, mirrored at the edges without repeating them, as OpenCV blurs.
pub fn blur(image: &Image, size: usize, sigma: f32) -> Image {
    let radius = (size / 2) as i64;
    let weights: Vec<f32> =
        (-radius..=radius).map(|d| (-(d * d) as f32 / (2.0 * sigma * sigma)).exp()).collect();
    let sum: f32 = weights.iter().sum();
    let along = |image: &Image, dx: i64, dy: i64| {
        map(image.width(), image.height(), |x, y| {
            let mut total = [0.0_f32; 3];
            for (weight, d) in weights.iter().zip(-radius..=radius) {
                let from = pixel(
                    image,
                    reflected(i64::from(x) + d * dx, image.width()),
                    reflected(i64::from(y) + d * dy, image.height()),
                );
                (0..3).for_each(|c| total[c] += f32::from(from[c]) * weight / sum);
            }
            total.map(|value| value.round() as u8)
        })
    };
    along(&along(image, 1, 0), 0, 1)
}

fn reflected(at: i64, length: u32) -> u32 {
    let last = i64::from(length) - 1;
    if last == 0 {
        return 0;
    }
    let at = at.rem_euclid(2 * last);
    at.min(2 * last - at) as u32
}

/// Chroma times `factor`; values beyond a byte wrap around, as they do where the subnet casts floats
/// to bytes without clipping.
pub fn desaturate_wrapping(image: &Image, factor: f32) -> Image {
    map(image.width(), image.height(), |x, y| {
        let values = pixel(image, x, y).map(f32::from);
        let grey = luma(values.into_iter());
        values.map(|v| wrap((v - grey) * factor + grey))
    })
}

/// Every value times `factor`, rounded down.
pub fn darken(image: &Image, factor: f32) -> Image {
    map(image.width(), image.height(), |x, y| {
        pixel(image, x, y).map(|v| (f32::from(v) * factor) as u8)
    })
}

fn wrap(value: f32) -> u8 {
    (value as i32).rem_euclid(256) as u8
}

/// Gaussian noise of standard deviation `sigma` on luma and both chroma channels of YCbCr, in units
/// of a byte.
pub fn colour_noise(image: &Image, sigma: f32, rng: &mut ChaCha8Rng) -> Image {
    let mut pixels = Vec::with_capacity(image.pixels().len());
    for p in image.pixels().chunks_exact(3) {
        let [y, cb, cr] = [0, 1, 2].map(|_| normal(rng) * sigma);
        let shifts = [y + 1.403 * cr, y - 0.344 * cb - 0.714 * cr, y + 1.773 * cb];
        pixels.extend([0, 1, 2].map(|c| (f32::from(p[c]) + shifts[c]).clamp(0.0, 255.0) as u8));
    }
    picture(image.width(), image.height(), pixels)
}

/// A standard normal number (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}
