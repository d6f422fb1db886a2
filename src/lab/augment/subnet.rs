//! The four transform levels that validators of the subnet put an image through before they send it,
//! so that training and evaluation see what serving will see. Every level ends at 224 x 224 and as a
//! JPEG of quality 75.
//!
//! Source: the behaviour of `natix/utils/image_transforms.py` of the subnet's repository, including
//! its oddities: the rotation takes the nearest pixel, the flips never happen, colour distortions cut
//! or wrap values instead of rounding them.

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::colour::{blur, colour_noise, darken, desaturate_wrapping};
use super::geometry::{Frame, centre_square, crop, resize, resize_by_neighbours, rotate};
use crate::image::{Image, ImageLimits};

/// Side of what validators send, in pixels.
pub const SIDE: u32 = 224;

/// Quality of the JPEG that they send.
const QUALITY: u8 = 75;

/// A transform level, 0 to 3: from a centre crop to heavy distortion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Level(u8);

impl Level {
    /// Every level, mildest first.
    pub const ALL: [Self; 4] = [Self(0), Self(1), Self(2), Self(3)];
}

impl TryFrom<u8> for Level {
    type Error = String;

    fn try_from(level: u8) -> Result<Self, String> {
        if level <= 3 { Ok(Self(level)) } else { Err(format!("transform level {level}: 0 to 3")) }
    }
}

impl From<Level> for u8 {
    fn from(level: Level) -> Self {
        level.0
    }
}

/// The picture as a validator would send it.
pub fn transform(image: &Image, level: Level, rng: &mut ChaCha8Rng) -> Image {
    if level.0 == 0 {
        return resize(&centre_square(image), SIDE, SIDE);
    }
    let turned = rotate(image, rng.random_range(-20.0..=20.0));
    let mut image = resize(&crop(&turned, square(image.width(), image.height(), rng)), SIDE, SIDE);
    // Each distortion has a strength of its own, from none to the level's highest.
    let mut strength = || usize::from(rng.random_range(0..level.0));
    let strengths = [(); 5].map(|()| strength());
    if let Some(factor) = pick(&[0.4, 0.3], strengths[0]) {
        image = desaturate_wrapping(&image, factor);
    }
    if let Some(factor) = pick(&[0.85, 0.725], strengths[1]) {
        image = darken(&image, factor);
    }
    if let Some(factor) = pick(&[2_u32, 3], strengths[2]) {
        let small = resize_by_neighbours(&image, SIDE / factor, SIDE / factor);
        image = resize_by_neighbours(&small, SIDE, SIDE);
    }
    if level.0 < 3 {
        return image;
    }
    if let Some(variance) = pick(&[0.001_f32, 0.002], strengths[3]) {
        // The noise is added to values of 0 to 1 in a range of 219 of 255 steps.
        image = colour_noise(&image, variance.sqrt() * 255.0 * 255.0 / 219.0, rng);
    }
    if let Some(size) = pick(&[7_usize, 9], strengths[4]) {
        image = blur(&image, size, size as f32 / 6.0);
    }
    image
}

/// The parameter of a strength; 0 is none.
fn pick<T: Copy>(parameters: &[T; 2], strength: usize) -> Option<T> {
    parameters.get(strength.checked_sub(1)?).copied()
}

/// A square of 20 to 100 % of the area, anywhere; after ten that do not fit, the largest in the middle.
fn square(width: u32, height: u32, rng: &mut ChaCha8Rng) -> Frame {
    let area = f64::from(width) * f64::from(height);
    for _ in 0..10 {
        let side = (area * rng.random_range(0.2..=1.0)).sqrt().round().max(1.0) as u32;
        if side <= width && side <= height {
            let (x, y) = (rng.random_range(0..=width - side), rng.random_range(0..=height - side));
            return Frame { x, y, width: side, height: side };
        }
    }
    let side = width.min(height);
    Frame { x: (width - side) / 2, y: (height - side) / 2, width: side, height: side }
}

/// The file that would be sent: chroma at half the resolution, as Pillow writes it by default.
///
/// # Errors
/// If a side is longer than 65,535 pixels.
pub fn to_jpeg(image: &Image) -> anyhow::Result<Vec<u8>> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    let (width, height) = (u16::try_from(image.width())?, u16::try_from(image.height())?);
    encoder.encode(image.pixels(), width, height, ColorType::Rgb)?;
    Ok(file)
}

/// The picture after it was sent: with the marks of the JPEG.
///
/// # Errors
/// As [`to_jpeg`].
pub fn through_jpeg(image: &Image) -> anyhow::Result<Image> {
    Ok(Image::decode(&to_jpeg(image)?, &ImageLimits::default())?)
}
