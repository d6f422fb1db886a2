//! A classifier on candle.

use std::sync::Arc;

use anyhow::Context as _;

use crate::backends::{BackendContext, Input};
use crate::image::Image;
use crate::models::{Encoder, Head, ModelFiles, Preprocessor};

/// A loaded network and its preprocessing.
#[derive(Debug)]
pub(super) struct Candle {
    preprocessor: Preprocessor,
    encoder: Encoder,
    head: Head,
    max_batch: usize,
}

impl Candle {
    pub(super) fn load(files: &ModelFiles, ctx: &BackendContext) -> anyhow::Result<Self> {
        let encoder = Encoder::load(files)?;
        let head = Head::load(files, encoder.hidden_size())?;
        let preprocessor = Preprocessor::load(files)?;
        Ok(Self { preprocessor, encoder, head, max_batch: ctx.max_batch.max(1) })
    }

    /// One logit per frame of every input: in batches of the largest size, and one by one where
    /// images keep their own size.
    pub(super) fn logits(&self, inputs: &[Input]) -> anyhow::Result<Vec<f32>> {
        let frames: Vec<&Image> =
            inputs.iter().flat_map(|input| input.frames().iter().map(Arc::as_ref)).collect();
        let batch = if self.preprocessor.size().is_some() { self.max_batch } else { 1 };
        let mut logits = Vec::with_capacity(frames.len());
        for chunk in frames.chunks(batch) {
            logits.extend(self.batch(chunk)?);
        }
        Ok(logits)
    }

    fn batch(&self, images: &[&Image]) -> anyhow::Result<Vec<f32>> {
        let pixels = self.preprocessor.tensor(images)?;
        let features = self.encoder.forward(&pixels)?;
        Ok(self.head.forward(&features)?.to_vec1()?)
    }

    pub(super) fn warm_up(&self) -> anyhow::Result<()> {
        let (height, width) = self.preprocessor.size().unwrap_or((224, 224));
        let (width, height) = (u32::try_from(width), u32::try_from(height));
        let grey = width
            .ok()
            .zip(height.ok())
            .and_then(|(w, h)| Image::from_rgb(w, h, vec![128; w as usize * h as usize * 3]));
        let grey = grey.context("the model's input size is not an image's")?;
        let mut size = 1;
        while size <= self.max_batch {
            self.batch(&vec![&grey; size])?;
            size *= 2;
        }
        Ok(())
    }
}
