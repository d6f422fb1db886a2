//! Labelled images as batches of tensors.

use candle_core::{Device, Tensor};
use rand::seq::SliceRandom as _;
use rand::{Rng as _, RngCore as _};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::network::Network;
use crate::image::{Image, ImageLimits};
use crate::lab::dataset::Example;

/// Images whose features are computed at a time.
const CHUNK: usize = 64;

/// A batch.
pub(super) struct Labelled {
    /// Pixels `[n, 3, h, w]`, or features `[n, width]` if the encoder is frozen.
    pub(super) inputs: Tensor,
    /// `[n]`, 1 for roadwork.
    pub(super) labels: Tensor,
}

/// A data set ready to be drawn from.
pub(super) struct Batches {
    labels: Vec<f32>,
    images: Vec<Image>,
    features: Option<Tensor>,
}

impl Batches {
    /// Decodes every image at the model's size; with a frozen encoder also computes the features.
    pub(super) fn prepare(
        network: &Network,
        examples: &[Example],
        limits: &ImageLimits,
    ) -> anyhow::Result<Self> {
        let labels = examples.iter().map(|e| f32::from(u8::from(e.roadwork))).collect();
        let mut images = Vec::with_capacity(examples.len());
        let mut features = Vec::new();
        for chunk in examples.chunks(CHUNK) {
            let decoded: Vec<Image> = chunk
                .par_iter()
                .map(|e| e.picture.decode(limits))
                .collect::<anyhow::Result<_>>()?;
            if network.is_frozen() {
                let refs: Vec<_> = decoded.iter().collect();
                features.push(network.features(&network.preprocessor.tensor(&refs)?)?);
            } else {
                images.extend(decoded);
            }
        }
        let features = (!features.is_empty()).then(|| Tensor::cat(&features, 0)).transpose()?;
        Ok(Self { labels, images, features })
    }

    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    /// Batches of indices in a random order.
    pub(super) fn shuffled(&self, size: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.shuffle(rng);
        order.chunks(size).map(<[usize]>::to_vec).collect()
    }

    /// Batches of indices in order.
    pub(super) fn in_order(&self, size: usize) -> Vec<Vec<usize>> {
        let order: Vec<usize> = (0..self.len()).collect();
        order.chunks(size).map(<[usize]>::to_vec).collect()
    }

    /// A batch; with `rng`, images are flipped and their brightness and contrast vary.
    pub(super) fn load(
        &self,
        network: &Network,
        indices: &[usize],
        rng: Option<&mut ChaCha8Rng>,
    ) -> anyhow::Result<Labelled> {
        let labels: Vec<f32> = indices.iter().map(|i| self.labels[*i]).collect();
        let labels = Tensor::from_vec(labels, indices.len(), &Device::Cpu)?;
        if let Some(features) = &self.features {
            let indices: Vec<u32> = indices.iter().map(|i| *i as u32).collect();
            let picked = Tensor::from_vec(indices, labels.dims1()?, &Device::Cpu)?;
            return Ok(Labelled { inputs: features.index_select(&picked, 0)?, labels });
        }
        let inputs = match rng {
            None => {
                let images: Vec<_> = indices.iter().map(|i| &self.images[*i]).collect();
                network.preprocessor.tensor(&images)?
            }
            Some(rng) => {
                let seed = rng.next_u64();
                let varied: Vec<Image> =
                    indices.par_iter().map(|i| vary(&self.images[*i], seed ^ *i as u64)).collect();
                network.preprocessor.tensor(&varied.iter().collect::<Vec<_>>())?
            }
        };
        Ok(Labelled { inputs, labels })
    }
}

/// Half of the images are mirrored; contrast and brightness vary by up to a fifth.
fn vary(image: &Image, seed: u64) -> Image {
    use rand::SeedableRng as _;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mirrored = rng.random::<bool>();
    let gain = rng.random_range(0.8_f32..1.2);
    let shift = rng.random_range(-25.0_f32..25.0);
    let table: Vec<u8> = (0..=255_u8)
        .map(|v| ((f32::from(v) - 128.0) * gain + 128.0 + shift).clamp(0.0, 255.0) as u8)
        .collect();
    let width = image.width() as usize;
    let mut pixels: Vec<u8> = image.pixels().iter().map(|v| table[usize::from(*v)]).collect();
    if mirrored {
        for row in pixels.chunks_exact_mut(width * 3) {
            for x in 0..width / 2 {
                for channel in 0..3 {
                    row.swap(x * 3 + channel, (width - 1 - x) * 3 + channel);
                }
            }
        }
    }
    Image::from_rgb(image.width(), image.height(), pixels).unwrap_or_else(|| image.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varying_keeps_the_size_and_is_repeatable() {
        let image = Image::from_rgb(3, 2, (0..18).map(|v| v * 10).collect()).unwrap();
        let once = vary(&image, 5);
        assert_eq!((once.width(), once.height()), (3, 2));
        assert_eq!(once.pixels(), vary(&image, 5).pixels());
        let seeds: std::collections::BTreeSet<_> =
            (0..16).map(|seed| vary(&image, seed).pixels().to_vec()).collect();
        assert!(seeds.len() > 8);
    }
}
