//! Inputs as batches of prepared pictures through a graph.

use std::sync::Arc;

use anyhow::Context as _;

use super::fault;
use crate::backends::{BackendError, Input};
use crate::image::Image;
use crate::kernels::preprocess::{Plan, preprocess_into};
use crate::onnx::{Layout, Runner, View};

/// A graph and how pictures are prepared for it.
#[derive(Debug)]
pub(in crate::backends) struct Frames {
    runner: Runner,
    plan: Plan,
    /// For graphs that want the channels last: the batch with its channels first.
    planes: Vec<f32>,
}

impl Frames {
    pub(in crate::backends) fn new(runner: Runner, plan: Plan) -> Self {
        Self { runner, plan, planes: Vec::new() }
    }

    /// What is read from the outputs, for every frame of every input in order. `read` gives one value
    /// per picture of its batch.
    pub(in crate::backends) fn each(
        &mut self,
        inputs: &[Input],
        mut read: impl FnMut(&[View<'_>]) -> anyhow::Result<Vec<f32>>,
    ) -> Result<Vec<f32>, BackendError> {
        let frames: Vec<&Image> =
            inputs.iter().flat_map(|input| input.frames().iter().map(Arc::as_ref)).collect();
        let mut said = Vec::with_capacity(frames.len());
        for batch in frames.chunks(self.runner.max_batch()) {
            said.extend(self.batch(batch, &mut read).map_err(fault)?);
        }
        Ok(said)
    }

    /// Runs grey pictures in batches of every size that is worth it.
    pub(in crate::backends) fn warm_up(
        &mut self,
        mut read: impl FnMut(&[View<'_>]) -> anyhow::Result<Vec<f32>>,
    ) -> Result<(), BackendError> {
        let Plan { height, width, .. } = self.plan;
        let grey = u32::try_from(width)
            .ok()
            .zip(u32::try_from(height).ok())
            .and_then(|(w, h)| Image::from_rgb(w, h, vec![128; width * height * 3]))
            .context("the graph's input size is not an image's")?;
        for size in self.runner.sizes() {
            self.batch(&vec![&grey; size], &mut read).map_err(fault)?;
        }
        Ok(())
    }

    fn batch(
        &mut self,
        images: &[&Image],
        read: &mut impl FnMut(&[View<'_>]) -> anyhow::Result<Vec<f32>>,
    ) -> anyhow::Result<Vec<f32>> {
        let Self { runner, plan, planes } = self;
        let layout = runner.pictures().layout;
        let fill = |pixels: &mut [f32]| {
            if layout == Layout::Nchw {
                return Ok(preprocess_into(images, plan, pixels)?);
            }
            planes.resize(pixels.len(), 0.0);
            preprocess_into(images, plan, planes)?;
            channels_last(planes, plan.len() / 3, pixels);
            Ok(())
        };
        let said = runner.run(images.len(), fill, read)?;
        let (found, wanted) = (said.len(), images.len());
        anyhow::ensure!(found == wanted, "the graph gave {found} answers for {wanted} pictures");
        Ok(said)
    }
}

/// From planes of `area` values per channel to pixels of three.
fn channels_last(planes: &[f32], area: usize, pixels: &mut [f32]) {
    let images = planes.chunks_exact(3 * area).zip(pixels.chunks_exact_mut(3 * area));
    for (planes, pixels) in images {
        for (i, pixel) in pixels.chunks_exact_mut(3).enumerate() {
            for (channel, value) in pixel.iter_mut().enumerate() {
                *value = planes[channel * area + i];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_become_pixels_image_by_image() {
        let planes: Vec<f32> = (0..12).map(|value| value as f32).collect();
        let mut pixels = vec![0.0; 12];
        channels_last(&planes, 2, &mut pixels);
        assert_eq!(pixels, [0., 2., 4., 1., 3., 5., 6., 8., 10., 7., 9., 11.]);
    }
}
