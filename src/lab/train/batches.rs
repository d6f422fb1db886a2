//! Labelled images as batches of tensors.

use std::path::Path;

use candle_core::{Device, Tensor};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::loss::Targets;
use super::network::Network;
use super::recipe::Recipe;
use super::set::Set;
use crate::image::{Image, ImageLimits};
use crate::lab::augment::AugmentSpec;
use crate::lab::dataset::Example;
use crate::lab::features::{self, FeatureSpec, Item, Vary};

/// A batch.
pub(super) struct Labelled {
    /// Pixels `[n, 3, h, w]`, or features `[n, width]` if the encoder is frozen.
    pub(super) inputs: Tensor,
    /// What should be said of them.
    pub(super) targets: Targets,
}

/// Where a batch's images come from, and how they vary.
pub(super) struct Batches<'a> {
    network: &'a Network,
    set: &'a Set,
    recipe: &'a Recipe,
    limits: ImageLimits,
    /// With a frozen encoder: the features of every variation, `variants` rows for each image.
    features: Option<(Tensor, usize)>,
    variation: Variation,
}

/// How often a picture may look different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variation {
    /// In every epoch, as the recipe says.
    Free,
    /// Never: framed as the recipe's views say, always the same way, and nothing else.
    Fixed,
}

impl<'a> Batches<'a> {
    /// Batches of a set's images.
    pub(super) fn new(
        network: &'a Network,
        set: &'a Set,
        recipe: &'a Recipe,
        variation: Variation,
    ) -> Self {
        let limits = ImageLimits::default();
        Self { network, set, recipe, limits, features: None, variation }
    }

    /// Computes the features of a frozen encoder, where the cache has none. `progress` is told how many
    /// are done, and of how many.
    pub(super) fn freeze(
        mut self,
        model: &Path,
        cache: &Path,
        progress: &dyn Fn(u64, u64),
    ) -> anyhow::Result<Self> {
        let variants = if self.variation == Variation::Free { self.recipe.variants } else { 1 };
        let named =
            (0..variants).map(|variant| self.name(variant)).collect::<anyhow::Result<Vec<_>>>()?;
        let augment = &self.recipe.augment;
        let free = |image: &Image, rng: &mut ChaCha8Rng| augment.apply(image, rng);
        let fixed = |image: &Image, rng: &mut ChaCha8Rng| augment.views.draw(rng).of(image, rng);
        let vary: &Vary<'_> = if self.variation == Variation::Free { &free } else { &fixed };
        let vary = |name| (!augment.is_identity()).then_some((name, vary));
        let items: Vec<Item<'_>> = self
            .set
            .examples
            .iter()
            .flat_map(|e| {
                named.iter().map(|name| Item { picture: &e.picture, vary: vary(name.as_str()) })
            })
            .collect();
        let model = model.to_string_lossy();
        let pooling = Some(self.network.pooling());
        let spec = FeatureSpec { model: &model, pooling, cache, limits: self.limits };
        let of = items.len() as u64;
        let rows = features::compute_items(&spec, &items, &|done| progress(done, of))?;
        let shape = (rows.len(), rows.width);
        let rows = Tensor::from_vec(rows.values, shape, &Device::Cpu)?;
        self.features = Some((rows, variants));
        Ok(self)
    }

    /// The name of a variation: everything that it depends on besides the image.
    fn name(&self, variant: usize) -> anyhow::Result<String> {
        let augment = serde_json::to_string(&self.recipe.augment)?;
        Ok(format!("{:?} {variant} {augment}", self.variation))
    }

    /// A batch of these images. What varies follows from `seed` and the place in the batch.
    pub(super) fn load(&self, indices: &[usize], seed: u64) -> anyhow::Result<Labelled> {
        let inputs = match &self.features {
            Some((features, variants)) => {
                let row = |(place, index): (usize, &usize)| {
                    (index * variants + (seed as usize).wrapping_add(place) % variants) as u32
                };
                let rows: Vec<u32> = indices.iter().enumerate().map(row).collect();
                features.index_select(&Tensor::new(rows, &Device::Cpu)?, 0)?
            }
            None => {
                let seeds = (0..).map(|place: u64| seed.wrapping_add(place));
                self.pixels(&indices.iter().copied().zip(seeds).collect::<Vec<_>>())?
            }
        };
        Ok(Labelled { inputs, targets: self.targets(indices)? })
    }

    /// Pixels `[n, 3, h, w]` of images, each with the seed of its variation.
    fn pixels(&self, seeded: &[(usize, u64)]) -> anyhow::Result<Tensor> {
        let vary =
            |(index, seed): &(usize, u64)| self.picture(&self.set.examples[*index], *seed, *index);
        let images: Vec<Image> = seeded.par_iter().map(vary).collect::<anyhow::Result<_>>()?;
        Ok(self.network.preprocessor.tensor(&images.iter().collect::<Vec<_>>())?)
    }

    fn picture(&self, example: &Example, seed: u64, index: usize) -> anyhow::Result<Image> {
        let image = example.picture.decode(&self.limits)?;
        let augment: &AugmentSpec = &self.recipe.augment;
        if augment.is_identity() {
            return Ok(image);
        }
        match self.variation {
            Variation::Free => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(index as u64);
                augment.apply(&image, &mut rng)
            }
            Variation::Fixed => {
                let mut rng = ChaCha8Rng::seed_from_u64(index as u64);
                augment.views.draw(&mut rng).of(&image, &mut rng)
            }
        }
    }

    fn targets(&self, indices: &[usize]) -> anyhow::Result<Targets> {
        let smoothing = match self.variation {
            Variation::Free => self.recipe.label_smoothing as f32,
            Variation::Fixed => 0.0,
        };
        let tensor = |values: Vec<f32>| Tensor::from_vec(values, indices.len(), &Device::Cpu);
        let label = |index: &usize| {
            let label = f32::from(u8::from(self.set.examples[*index].roadwork));
            label * (1.0 - smoothing) + smoothing / 2.0
        };
        let labels = tensor(indices.iter().map(label).collect())?;
        let weights = tensor(indices.iter().map(|index| self.set.weights[*index]).collect())?;
        let soft = self.set.teacher.as_ref().zip(self.recipe.distillation.as_ref());
        let teacher = soft.map(|(soft, settings)| {
            let soft = tensor(indices.iter().map(|index| soft[*index]).collect())?;
            Ok::<_, candle_core::Error>((soft, settings.temperature, settings.alpha))
        });
        Ok(Targets { labels, weights, teacher: teacher.transpose()? })
    }
}
