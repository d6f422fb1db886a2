//! `preprocessor_config.json` becomes a plan for the preprocessing kernel.
//!
//! Read are the fields of transformers' (5.23) image processors that rescale, resize to a fixed
//! size and normalise, in that order, as `DINOv3ViTImageProcessor` does. A file that asks for more
//! (a crop, an aspect-keeping resize) is refused rather than half obeyed.
//!
//! Must not know: which network comes after.

use serde::Deserialize;

use super::{ModelError, ModelFiles};
use crate::image::Image;
use crate::kernels::preprocess::{Filter, Plan, preprocess};

/// The steps between a picture and a network's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocessor {
    /// Height and width of the input; none if pictures keep their own.
    size: Option<(usize, usize)>,
    filter: Filter,
    rescale: f32,
    mean: [f32; 3],
    std: [f32; 3],
}

#[derive(Deserialize)]
struct File {
    #[serde(default = "yes")]
    do_resize: bool,
    #[serde(default = "yes")]
    do_rescale: bool,
    #[serde(default = "yes")]
    do_normalize: bool,
    do_center_crop: Option<bool>,
    do_pad: Option<bool>,
    size: Option<serde_json::Value>,
    resample: Option<u32>,
    rescale_factor: Option<f64>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

fn yes() -> bool {
    true
}

impl Preprocessor {
    /// Reads `preprocessor_config.json`.
    pub fn load(files: &ModelFiles) -> Result<Self, ModelError> {
        const NAME: &str = "preprocessor_config.json";
        Self::from_file(files.json(NAME)?)
            .map_err(|message| ModelError::config(format!("{}: {message}", files.label(NAME))))
    }

    /// Reads the text of a `preprocessor_config.json`.
    pub fn from_json(text: &str) -> Result<Self, ModelError> {
        let file =
            serde_json::from_str(text).map_err(|error| ModelError::config(error.to_string()))?;
        Self::from_file(file).map_err(ModelError::config)
    }

    fn from_file(file: File) -> Result<Self, String> {
        if file.do_center_crop == Some(true) || file.do_pad == Some(true) {
            return Err("do_center_crop and do_pad are not supported; set them to false".into());
        }
        let filter = match file.resample {
            None | Some(2) => Filter::Bilinear,
            Some(3) => Filter::Bicubic,
            Some(other) => {
                return Err(format!(
                    "resample {other} is not supported; supported are 2 (bilinear) and 3 (bicubic)"
                ));
            }
        };
        let size = file.do_resize.then(|| size(file.size.as_ref())).transpose()?;
        let rescale = file.rescale_factor.unwrap_or(1.0 / 255.0) as f32;
        // The defaults of DINOv3ViTImageProcessor: ImageNet's.
        let mean = file.image_mean.unwrap_or([0.485, 0.456, 0.406]);
        let std = file.image_std.unwrap_or([0.229, 0.224, 0.225]);
        if std.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
            return Err(format!("image_std {std:?} must be above zero"));
        }
        Ok(Self {
            size,
            filter,
            rescale: if file.do_rescale { rescale } else { 1.0 },
            mean: if file.do_normalize { mean } else { [0.0; 3] },
            std: if file.do_normalize { std } else { [1.0; 3] },
        })
    }

    /// Height and width of the network's input in pixels; none if pictures keep their own.
    pub fn size(&self) -> Option<(usize, usize)> {
        self.size
    }

    /// The kernel's plan for a batch.
    ///
    /// # Errors
    /// Without a fixed size (`do_resize` false) all images must have the same one.
    pub fn plan(&self, images: &[&Image]) -> Result<Plan, ModelError> {
        let own = |image: &Image| (image.height() as usize, image.width() as usize);
        let (height, width) = match (self.size, images) {
            (Some(size), _) => size,
            (None, []) => (0, 0),
            (None, [first, rest @ ..]) => {
                if let Some(other) = rest.iter().find(|image| own(image) != own(first)) {
                    return Err(ModelError::config(format!(
                        "do_resize is false, so the images of a batch must have one size; found \
                         {first:?} and {other:?}"
                    )));
                }
                own(first)
            }
        };
        let Self { filter, rescale, mean, std, .. } = *self;
        Ok(Plan { height, width, filter, rescale, mean, std })
    }

    /// A batch as a tensor `[images, 3, height, width]` on the CPU, f32.
    pub fn tensor(&self, images: &[&Image]) -> Result<candle_core::Tensor, ModelError> {
        let plan = self.plan(images)?;
        let values = preprocess(images, &plan);
        let shape = (images.len(), 3, plan.height, plan.width);
        Ok(candle_core::Tensor::from_vec(values, shape, &candle_core::Device::Cpu)?)
    }
}

/// `{"height": h, "width": w}`, or one number for both.
fn size(value: Option<&serde_json::Value>) -> Result<(usize, usize), String> {
    let side = |value: &serde_json::Value| {
        value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=1 << 14).contains(n))
    };
    let found = match value {
        None => Some((224, 224)),
        Some(serde_json::Value::Object(map)) => {
            map.get("height").and_then(side).zip(map.get("width").and_then(side))
        }
        Some(number) => side(number).map(|n| (n, n)),
    };
    found.ok_or_else(|| {
        format!(
            "size {} is not supported; expected {{\"height\": h, \"width\": w}} with sides of 1 \
             to 16384",
            value.unwrap_or(&serde_json::Value::Null)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_transformers_writes() {
        let text = r#"{"do_normalize": true, "do_rescale": true, "do_resize": true,
            "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 3,
            "rescale_factor": 0.5, "size": {"height": 64, "width": 96}, "image_processor_type": "X"}"#;
        let plan = Preprocessor::from_json(text).unwrap().plan(&[]).unwrap();
        let expected = Plan {
            height: 64,
            width: 96,
            filter: Filter::Bicubic,
            rescale: 0.5,
            mean: [0.1, 0.2, 0.3],
            std: [0.4, 0.5, 0.6],
        };
        assert_eq!(plan, expected);
        let defaults = Preprocessor::from_json("{}").unwrap();
        assert_eq!(defaults.size(), Some((224, 224)));
        assert_eq!(defaults.mean, [0.485, 0.456, 0.406]);
        let off = r#"{"do_normalize": false, "do_rescale": false, "do_resize": false}"#;
        let off = Preprocessor::from_json(off).unwrap();
        assert_eq!((off.size(), off.rescale, off.mean, off.std), (None, 1.0, [0.0; 3], [1.0; 3]));
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        for (text, part) in [
            (r#"{"do_center_crop": true}"#, "do_center_crop"),
            (r#"{"resample": 1}"#, "resample 1"),
            (r#"{"size": {"shortest_edge": 224}}"#, "shortest_edge"),
            (r#"{"size": {"height": 0, "width": 5}}"#, "sides of 1"),
            (r#"{"image_std": [1, 0, 1]}"#, "above zero"),
            ("[", "EOF"),
        ] {
            let error = Preprocessor::from_json(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn without_a_resize_the_sizes_must_agree() {
        let image = |w, h| Image::from_rgb(w, h, vec![51; (w * h * 3) as usize]).unwrap();
        let off = r#"{"do_normalize": false, "do_resize": false}"#;
        let off = Preprocessor::from_json(off).unwrap();
        let (a, b) = (image(3, 2), image(2, 3));
        let tensor = off.tensor(&[&a, &a]).unwrap();
        assert_eq!(tensor.dims(), [2, 3, 2, 3]);
        let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        assert!(values.iter().all(|v| (v - 0.2).abs() < 1e-6));
        assert!(off.tensor(&[&a, &b]).unwrap_err().to_string().contains("one size"));
    }
}
