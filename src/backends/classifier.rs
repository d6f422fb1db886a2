//! Encoder, head and calibration: an image classifier on candle.
//!
//! Settings, `[stages.NAME.classifier]`: `model` is `embedded:screen`, `embedded:confirm`, or a
//! folder in the Hugging Face layout with a `head.safetensors` beside the weights, and optionally a
//! `calibration.json` (`{"scale": s, "shift": t}`).

use std::sync::Arc;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{Backend, BackendContext, BackendError, Input};
use crate::calibration::Calibration;
use crate::image::Image;
use crate::models::{Encoder, Head, ModelFiles, Preprocessor, embedded};
use crate::prediction::Prediction;

/// The keys of [`ClassifierSpec`].
pub const KEYS: &[&str] = &["model"];

/// The settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierSpec {
    /// `embedded:NAME`, or the path of a model folder.
    pub model: String,
}

/// A loaded model. A clip is judged by the mean of its frames' logits.
#[derive(Debug)]
pub struct Classifier {
    preprocessor: Preprocessor,
    encoder: Encoder,
    head: Head,
    calibration: Calibration,
    max_batch: usize,
    version: String,
}

impl Classifier {
    /// Loads the model that the settings name.
    ///
    /// # Errors
    /// Unknown names, missing files, tensors of the wrong shape: the message says which.
    pub fn new(ctx: &BackendContext) -> anyhow::Result<Self> {
        let spec: ClassifierSpec = ctx.settings()?;
        let files = model_files(&spec.model)?;
        Self::load(&files, ctx.max_batch).with_context(|| format!("model {}", spec.model))
    }

    fn load(files: &ModelFiles, max_batch: usize) -> anyhow::Result<Self> {
        let encoder = Encoder::load(files)?;
        let head = Head::load(files, encoder.hidden_size())?;
        let calibration = if files.contains("calibration.json") {
            files.json("calibration.json")?
        } else {
            Calibration::default()
        };
        let (preprocessor, version) = (Preprocessor::load(files)?, files.digest()?);
        let max_batch = max_batch.max(1);
        Ok(Self { preprocessor, encoder, head, calibration, max_batch, version })
    }

    /// One logit per image.
    fn logits(&self, images: &[&Image]) -> anyhow::Result<Vec<f32>> {
        let pixels = self.preprocessor.tensor(images)?;
        let features = self.encoder.forward(&pixels)?;
        Ok(self.head.forward(&features)?.to_vec1()?)
    }

    /// The logits of any number of images: in batches of the largest size, and one by one where
    /// images keep their own size.
    fn all_logits(&self, images: &[&Image]) -> anyhow::Result<Vec<f32>> {
        let batch = if self.preprocessor.size().is_some() { self.max_batch } else { 1 };
        let mut logits = Vec::with_capacity(images.len());
        for chunk in images.chunks(batch) {
            logits.extend(self.logits(chunk)?);
        }
        Ok(logits)
    }
}

impl Backend for Classifier {
    fn infer(&mut self, inputs: &[Input]) -> Result<Vec<Prediction>, BackendError> {
        let frames: Vec<&Image> =
            inputs.iter().flat_map(|input| input.frames().iter().map(Arc::as_ref)).collect();
        let mut logits = self.all_logits(&frames)?.into_iter();
        let predictions = inputs.iter().map(|input| {
            let count = input.frames().len();
            let sum: f32 = logits.by_ref().take(count).sum();
            Prediction::from_raw(self.calibration.apply(sum / count as f32))
        });
        Ok(predictions.collect())
    }

    fn warm_up(&mut self) -> Result<(), BackendError> {
        let (height, width) = self.preprocessor.size().unwrap_or((224, 224));
        let (width, height) = (u32::try_from(width), u32::try_from(height));
        let grey = width
            .ok()
            .zip(height.ok())
            .and_then(|(w, h)| Image::from_rgb(w, h, vec![128; w as usize * h as usize * 3]));
        let grey = grey.context("the model's input size is not an image's")?;
        let mut size = 1;
        while size <= self.max_batch {
            self.logits(&vec![&grey; size])?;
            size *= 2;
        }
        Ok(())
    }

    /// The digest of the model's files: weights, head, calibration and preprocessing.
    fn version(&self) -> String {
        self.version.clone()
    }
}

/// The files of the model that a setting names: `embedded:NAME`, or a folder.
///
/// # Errors
/// If there is no such embedded model or folder.
pub(crate) fn model_files(model: &str) -> anyhow::Result<ModelFiles> {
    let Some(name) = model.strip_prefix("embedded:") else {
        return Ok(ModelFiles::folder(model)?);
    };
    embedded::find(name).with_context(|| {
        format!("there is no embedded model `{name}`; there are {}", embedded::NAMES.join(", "))
    })
}
