//! Pictures of any size become one f32 tensor: scale, resize, normalise.
//!
//! The CPU twin of `kernels/preprocess.cu`. What both compute, per channel `c`:
//!
//! `out = resize(pixel) * rescale / std[c] - mean[c] / std[c]`
//!
//! where `resize` is the antialiased separable filter of Pillow and torchvision on *float* values:
//! nothing is rounded to 8 bits in between and nothing is clamped. Source: the weights of
//! `torch.nn.functional.interpolate(.., antialias=True)` (torch 2.15), in f32 as there. Rescaling
//! before the resize, as transformers' `DINOv3ViTImageProcessor` (5.23) does, is the same because
//! the filter is linear.
//!
//! The vertical pass comes first: it reads the 8-bit rows with unit stride, and the horizontal
//! pass then only sees the rows that survive.
//!
//! Must not know: which model asks, or where its settings were written.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::vectorised;
use crate::image::Image;

/// How neighbouring pixels are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// A triangle, two source pixels wide at scale 1.
    Bilinear,
    /// Keys' cubic with a = -0.5, four source pixels wide at scale 1.
    Bicubic,
}

/// Everything the kernel needs to know of one batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Height of the result, in pixels.
    pub height: usize,
    /// Width of the result, in pixels.
    pub width: usize,
    /// The resize filter.
    pub filter: Filter,
    /// Factor on the 8-bit values, usually 1/255.
    pub rescale: f32,
    /// Mean of each channel, after `rescale`.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, after `rescale`; not 0.
    pub std: [f32; 3],
}

/// The output buffer does not fit the batch.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{images} images need {expected} output values, the buffer holds {found}")]
pub struct WrongLength {
    images: usize,
    expected: usize,
    found: usize,
}

impl Filter {
    /// Half the width of the filter at scale 1, in source pixels.
    pub fn radius(self) -> f32 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    /// The weight at distance `x`, in source pixels.
    pub fn weight(self, x: f32) -> f32 {
        const A: f32 = -0.5;
        let x = x.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

impl Plan {
    /// Values per image: 3 * height * width.
    pub fn len(&self) -> usize {
        3 * self.height * self.width
    }

    /// True if the result has no pixels.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The factor of channel `c` in `resized * factor + bias`.
    pub fn factor(&self, channel: usize) -> f32 {
        self.rescale / self.std[channel]
    }

    /// The summand of channel `c` in `resized * factor + bias`.
    pub fn bias(&self, channel: usize) -> f32 {
        -self.mean[channel] / self.std[channel]
    }
}

/// Prepares a batch: `[images, 3, height, width]`, images in order, channels R, G, B.
pub fn preprocess(images: &[&Image], plan: &Plan) -> Vec<f32> {
    let mut out = vec![0.0; images.len() * plan.len()];
    if !out.is_empty() {
        fill(images, plan, &mut out);
    }
    out
}

/// Like [`preprocess`], into a buffer of exactly the right length.
pub fn preprocess_into(images: &[&Image], plan: &Plan, out: &mut [f32]) -> Result<(), WrongLength> {
    let expected = images.len() * plan.len();
    if out.len() != expected {
        return Err(WrongLength { images: images.len(), expected, found: out.len() });
    }
    if !out.is_empty() {
        fill(images, plan, out);
    }
    Ok(())
}

/// Output rows that one task makes; enough work to be worth a task, few enough to share one image.
const ROWS_PER_TASK: usize = 32;

fn fill(images: &[&Image], plan: &Plan, out: &mut [f32]) {
    let plane = plan.height * plan.width;
    out.par_chunks_exact_mut(plan.len()).zip(images.par_iter()).for_each(|(out, image)| {
        let vertical = Taps::new(image.height() as usize, plan.height, plan.filter);
        let horizontal = Taps::new(image.width() as usize, plan.width, plan.filter);
        let pass = Pass { image, plan, vertical: &vertical, horizontal: &horizontal };
        let (red, rest) = out.split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        let band = ROWS_PER_TASK * plan.width;
        red.par_chunks_mut(band)
            .zip(green.par_chunks_mut(band))
            .zip(blue.par_chunks_mut(band))
            .enumerate()
            .for_each(|(i, ((red, green), blue))| {
                pass.rows(i * ROWS_PER_TASK, [red, green, blue]);
            });
    });
}

/// For each output position of one axis: the first source position and the weights from there on.
struct Taps {
    first: Vec<usize>,
    count: Vec<usize>,
    weights: Vec<f32>,
    stride: usize,
}

impl Taps {
    /// The same formulas in the same precision as torch and `preprocess.cu`.
    fn new(input: usize, output: usize, filter: Filter) -> Self {
        let scale = input as f32 / output as f32;
        let stretch = scale.max(1.0);
        let support = filter.radius() * stretch;
        let stride = support.ceil() as usize * 2 + 1;
        let mut taps = Self {
            first: Vec::with_capacity(output),
            count: Vec::with_capacity(output),
            weights: vec![0.0; output * stride],
            stride,
        };
        for (i, weights) in taps.weights.chunks_exact_mut(stride).enumerate() {
            let center = scale * (i as f32 + 0.5);
            let first = ((center - support + 0.5).max(0.0) as usize).min(input - 1);
            let end = ((center + support + 0.5) as usize).min(input).max(first + 1);
            let count = (end - first).min(stride);
            let weights = &mut weights[..count];
            for (j, weight) in weights.iter_mut().enumerate() {
                let x = ((first + j) as f32 - center + 0.5) / stretch;
                *weight = filter.weight(x);
            }
            let total: f32 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= total);
            taps.first.push(first);
            taps.count.push(count);
        }
        taps
    }

    fn at(&self, i: usize) -> (usize, &[f32]) {
        let start = i * self.stride;
        (self.first[i], &self.weights[start..start + self.count[i]])
    }
}

struct Pass<'a> {
    image: &'a Image,
    plan: &'a Plan,
    vertical: &'a Taps,
    horizontal: &'a Taps,
}

impl Pass<'_> {
    /// Makes the output rows from `top` on, as many as the three channel bands hold.
    fn rows(&self, top: usize, bands: [&mut [f32]; 3]) {
        let width = self.plan.width;
        // One value more, so that the last pixel can be read four values wide.
        let mut row = vec![0.0; self.image.width() as usize * 3 + 1];
        let [red, green, blue] = bands;
        let bands = red
            .chunks_exact_mut(width)
            .zip(green.chunks_exact_mut(width))
            .zip(blue.chunks_exact_mut(width));
        for (y, ((red, green), blue)) in bands.enumerate() {
            vectorised(
                #[inline(always)]
                || {
                    self.weigh_rows(top + y, &mut row);
                    self.weigh_columns(&row, [red, green, blue]);
                },
            );
        }
    }

    /// The vertical pass: one row of the result's height, still in the source's width. Block by block, so
    /// that the sums stay in registers over all source rows.
    #[inline(always)]
    fn weigh_rows(&self, y: usize, row: &mut [f32]) {
        let (first, weights) = self.vertical.at(y);
        let stride = self.image.width() as usize * 3;
        let source = &self.image.pixels()[first * stride..];
        let (blocks, rest) = row[..stride].as_chunks_mut::<BLOCK>();
        let done = blocks.len() * BLOCK;
        for (i, block) in blocks.iter_mut().enumerate() {
            let mut sums = [0.0; BLOCK];
            for (pixels, &weight) in source.chunks_exact(stride).zip(weights) {
                add_weighed(&mut sums, &pixels[i * BLOCK..][..BLOCK], weight);
            }
            *block = sums;
        }
        rest.fill(0.0);
        for (pixels, &weight) in source.chunks_exact(stride).zip(weights) {
            add_weighed(rest, &pixels[done..], weight);
        }
    }

    /// The horizontal pass, and the normalisation. Pixels are read four values wide; the fourth is the
    /// next pixel's and is thrown away.
    #[inline(always)]
    fn weigh_columns(&self, row: &[f32], out: [&mut [f32]; 3]) {
        let factor: [f32; 3] = std::array::from_fn(|c| self.plan.factor(c));
        let bias: [f32; 3] = std::array::from_fn(|c| self.plan.bias(c));
        let [red, green, blue] = out;
        let values = red.iter_mut().zip(green).zip(blue);
        for (x, ((red, green), blue)) in values.enumerate() {
            let (first, weights) = self.horizontal.at(x);
            let mut sum = [0.0f32; 4];
            let pixels = row[first * 3..].windows(4).step_by(3);
            for (pixel, &weight) in pixels.zip(weights) {
                for c in 0..4 {
                    sum[c] += weight * pixel[c];
                }
            }
            *red = sum[0] * factor[0] + bias[0];
            *green = sum[1] * factor[1] + bias[1];
            *blue = sum[2] * factor[2] + bias[2];
            // Or the compiler would do without the fourth sum, and without instructions for four.
            std::hint::black_box(sum[3]);
        }
    }
}

/// Values whose sums fit the registers.
const BLOCK: usize = 64;

#[inline(always)]
fn add_weighed(sums: &mut [f32], pixels: &[u8], weight: f32) {
    for (sum, &pixel) in sums.iter_mut().zip(pixels) {
        *sum += weight * f32::from(pixel);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One output pixel as `preprocess.cu` computes it: one double sum, weights on the fly.
    fn direct(image: &Image, plan: &Plan, y: usize, x: usize) -> [f32; 3] {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let axis = |input: usize, output: usize, i: usize| {
            let scale = input as f32 / output as f32;
            let stretch = scale.max(1.0);
            let support = plan.filter.radius() * stretch;
            let center = scale * (i as f32 + 0.5);
            let first = ((center - support + 0.5).max(0.0) as usize).min(input - 1);
            let end = ((center + support + 0.5) as usize).min(input).max(first + 1);
            (first, end, center, stretch)
        };
        let (y0, y1, cy, sy) = axis(height, plan.height, y);
        let (x0, x1, cx, sx) = axis(width, plan.width, x);
        let weight = |j: usize, center: f32, stretch: f32| {
            plan.filter.weight((j as f32 - center + 0.5) / stretch)
        };
        let mut sum = [0.0f32; 3];
        let (mut total_y, mut total_x) = (0.0, 0.0);
        for j in x0..x1 {
            total_x += weight(j, cx, sx);
        }
        for i in y0..y1 {
            let wy = weight(i, cy, sy);
            total_y += wy;
            for j in x0..x1 {
                let w = wy * weight(j, cx, sx);
                let pixel = &image.pixels()[(i * width + j) * 3..];
                sum.iter_mut().zip(pixel).for_each(|(sum, p)| *sum += w * f32::from(*p));
            }
        }
        std::array::from_fn(|c| sum[c] / (total_y * total_x) * plan.factor(c) + plan.bias(c))
    }

    fn plan(height: usize, width: usize, filter: Filter) -> Plan {
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        Plan { height, width, filter, rescale: 1.0 / 255.0, mean, std }
    }

    fn noise(width: u32, height: u32, seed: u64) -> Image {
        let mut state = seed.wrapping_mul(2).wrapping_add(1);
        let pixels = (0..width * height * 3).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        });
        Image::from_rgb(width, height, pixels.collect()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

        #[test]
        fn the_separable_twin_agrees_with_the_direct_sum_of_the_gpu_kernel(
            sizes in prop::collection::vec((1u32..90, 1u32..90), 1..4),
            height in 1usize..40,
            width in 1usize..40,
            bicubic in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let filter = if bicubic { Filter::Bicubic } else { Filter::Bilinear };
            let plan = plan(height, width, filter);
            let images: Vec<Image> = sizes.iter().map(|&(w, h)| noise(w, h, seed)).collect();
            let out = preprocess(&images.iter().collect::<Vec<_>>(), &plan);
            prop_assert_eq!(out.len(), images.len() * plan.len());
            for (image, out) in images.iter().zip(out.chunks_exact(plan.len())) {
                for y in 0..height {
                    for x in 0..width {
                        let expected = direct(image, &plan, y, x);
                        for c in 0..3 {
                            let found = out[(c * height + y) * width + x];
                            prop_assert!(
                                (found - expected[c]).abs() < 5e-5,
                                "{:?} at {} {} {}: {} against {}",
                                image, c, y, x, found, expected[c]
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_same_size_only_normalises() {
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            let plan = plan(5, 7, filter);
            let image = noise(7, 5, 3);
            let out = preprocess(&[&image], &plan);
            for (i, &pixel) in image.pixels().iter().enumerate() {
                let (at, c) = (i / 3, i % 3);
                let expected = (f32::from(pixel) / 255.0 - plan.mean[c]) / plan.std[c];
                assert!((out[c * 35 + at] - expected).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn a_flat_picture_stays_flat() {
        let image = Image::from_rgb(33, 57, vec![128; 33 * 57 * 3]).unwrap();
        for (height, width) in [(1, 1), (16, 100), (200, 3)] {
            let plan = Plan {
                rescale: 1.0,
                mean: [0.0; 3],
                std: [1.0; 3],
                ..plan(height, width, Filter::Bicubic)
            };
            assert!(preprocess(&[&image], &plan).iter().all(|v| (v - 128.0).abs() < 1e-3));
        }
    }

    #[test]
    fn a_wrong_buffer_is_an_error() {
        let image = noise(4, 4, 1);
        let plan = plan(2, 2, Filter::Bilinear);
        let error = preprocess_into(&[&image], &plan, &mut [0.0; 5]).unwrap_err();
        assert_eq!(error.to_string(), "1 images need 12 output values, the buffer holds 5");
        let mut out = [0.0; 12];
        preprocess_into(&[&image], &plan, &mut out).unwrap();
        assert_eq!(preprocess(&[&image], &plan), out);
        assert!(preprocess(&[], &plan).is_empty());
    }
}
