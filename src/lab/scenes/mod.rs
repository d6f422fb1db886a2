//! Labelled synthetic road scenes, on which the embedded models are trained and tested.
//!
//! A scene is a function of its seed, index and level alone. Half of the scenes show active
//! roadwork; the others show none, and a good part of them something that resembles it.

mod backdrop;
mod canvas;
mod dice;
mod film;
mod gear;
mod items;
mod labels;
mod layout;
mod lettering;
mod palette;
mod people;
mod plan;
pub mod probe;
mod shoot;
mod signs;
mod store;
mod street;
#[cfg(test)]
mod tests;
mod vehicles;
mod view;
mod zone;

pub use labels::{HardNegative, ObjectLabel, SceneLabel, Weather};
pub use plan::{Plan, plan};
pub use shoot::render;
pub use store::{DatasetSpec, Summary, encode_jpeg, quality, write_dataset};

/// The highest level.
pub const MAX_LEVEL: u8 = 3;
/// The shortest side of an image.
pub const MIN_SIDE: u32 = 32;

/// What every scene of a series has in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SceneSpec {
    /// Chooses the series.
    pub seed: u64,
    /// Difficulty, 0 (large and clean) to [`MAX_LEVEL`] (small, hidden, dark); 1 is everyday.
    pub level: u8,
    /// Width of the images in pixels, at least [`MIN_SIDE`].
    pub width: u32,
    /// Height of the images in pixels, at least [`MIN_SIDE`].
    pub height: u32,
}

impl SceneSpec {
    /// A series at the usual size, 320 by 180.
    pub fn new(seed: u64, level: u8) -> Self {
        Self { seed, level, width: 320, height: 180 }
    }
}

/// A rendered scene.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The picture, before compression.
    pub image: image::RgbImage,
    /// What is in it.
    pub label: SceneLabel,
}
