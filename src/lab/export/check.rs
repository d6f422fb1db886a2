//! Pictures and what candle says of them, in a file: whoever runs the exported model elsewhere can
//! compare.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::calibration::{Calibration, sigmoid};
use crate::image::Image;
use crate::lab::files::whole;
use crate::lab::scenes::{SceneSpec, render};
use crate::models::{Encoder, Head, ModelFiles, Preprocessor};

/// How many pictures: the first synthetic scenes of seed 0.
const PICTURES: u64 = 5;

/// Writes a safetensors file with `pixel_values` `[5, 3, height, width]`, `logits` `[5]` and
/// `probability` `[5]`, f32, computed by candle as in a stage.
///
/// # Errors
/// If the model cannot be loaded, or the file not be written.
pub(super) fn write(
    files: &ModelFiles,
    calibration: Option<Calibration>,
    path: &Path,
) -> anyhow::Result<()> {
    let mut images = Vec::new();
    for index in 0..PICTURES {
        let picture = render(&SceneSpec::new(0, 1), index).image;
        let (width, height) = picture.dimensions();
        images.extend(Image::from_rgb(width, height, picture.into_raw()));
    }
    let images: Vec<&Image> = images.iter().collect();
    let pixels = Preprocessor::load(files)?.tensor(&images)?;
    let encoder = Encoder::load(files)?;
    let head = Head::load(files, encoder.hidden_size())?;
    let logits: Vec<f32> = head.forward(&encoder.forward(&pixels)?)?.to_vec1()?;
    let probability = |logit: &f32| calibration.map_or(sigmoid(*logit), |c| c.apply(*logit));
    let probabilities: Vec<f32> = logits.iter().map(probability).collect();
    let vector = |values: Vec<f32>| Tensor::from_vec(values, images.len(), &Device::Cpu);
    let tensors = HashMap::from([
        ("pixel_values", pixels),
        ("logits", vector(logits)?),
        ("probability", vector(probabilities)?),
    ]);
    whole(path, |partial| Ok(candle_core::safetensors::save(&tensors, partial)?))
}
