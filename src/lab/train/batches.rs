//! Labelled images as batches of tensors.

use candle_core::{Device, Tensor};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::loss::Targets;
use super::network::Network;
use super::recipe::Recipe;
use super::set::Set;
use crate::image::{Image, ImageLimits};
use crate::lab::augment::{AugmentSpec, Views};
use crate::lab::dataset::Example;
use crate::lab::features::{self, FeatureSpec, Item, Vary};

/// Part of the name of every changed picture's features: to be raised when `lab::augment` changes what
/// comes out of a change.
const REVISION: &str = "a1";

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
    variation: Variation,
    frozen: Option<&'a Frozen>,
}

/// The features of a frozen encoder: so many versions of each image, row after row.
pub(super) struct Frozen {
    rows: Tensor,
    variants: usize,
}

/// How often a picture may look different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variation {
    /// In every epoch, as the recipe says.
    Free,
    /// Never: framed as the recipe's views say, always the same way, and nothing else.
    Fixed,
}

/// How a picture is changed, and the name of the change.
type Change<'a> = (String, Box<Vary<'a>>);

impl Frozen {
    /// The features of a set, computed where the cache has none. `progress` is told how many are done,
    /// and of how many.
    pub(super) fn of(
        set: &Set,
        recipe: &Recipe,
        variation: Variation,
        spec: &FeatureSpec<'_>,
        progress: &dyn Fn(u64, u64),
    ) -> anyhow::Result<Self> {
        let mut changes = vec![framed(recipe)];
        if variation == Variation::Free && !recipe.augment.is_identity() {
            for variant in 1..recipe.variants {
                changes.push(Some(varied(recipe, variant)?));
            }
        }
        let changes: Vec<Option<(&str, &Vary<'_>)>> = changes
            .iter()
            .map(|change| change.as_ref().map(|(name, vary)| (name.as_str(), vary.as_ref())))
            .collect();
        let mut items = Vec::with_capacity(set.examples.len() * changes.len());
        for Example { picture, .. } in &set.examples {
            items.extend(changes.iter().map(|vary| Item { picture, vary: *vary }));
        }
        let of = items.len() as u64;
        let rows = features::compute_items(spec, &items, &|done| progress(done, of))?;
        let shape = (rows.len(), rows.width);
        let rows = Tensor::from_vec(rows.values, shape, &Device::Cpu)?;
        Ok(Self { rows, variants: changes.len() })
    }
}

/// A picture as the views frame it, always in the same way; none if they leave it as it is.
fn framed(recipe: &Recipe) -> Option<Change<'_>> {
    let views = &recipe.augment.views;
    let vary = |image: &Image, rng: &mut ChaCha8Rng| views.draw(rng).of(image, rng);
    (*views != Views::default()).then(|| {
        let change: Box<Vary<'_>> = Box::new(vary);
        (format!("{REVISION} framed {views:?}"), change)
    })
}

/// A picture as the recipe varies it.
fn varied(recipe: &Recipe, variant: usize) -> anyhow::Result<Change<'_>> {
    let augment = &recipe.augment;
    let name = format!("{REVISION} varied {variant} {}", serde_json::to_string(augment)?);
    let vary = |image: &Image, rng: &mut ChaCha8Rng| augment.apply(image, rng);
    Ok((name, Box::new(vary)))
}

impl<'a> Batches<'a> {
    /// Batches of a set's images; of their features, if the encoder is frozen.
    pub(super) fn new(
        network: &'a Network,
        set: &'a Set,
        recipe: &'a Recipe,
        variation: Variation,
        frozen: Option<&'a Frozen>,
    ) -> Self {
        let limits = ImageLimits::default();
        Self { network, set, recipe, limits, variation, frozen }
    }

    /// What is decoded.
    pub(super) fn within(self, limits: ImageLimits) -> Self {
        Self { limits, ..self }
    }

    /// A batch of these images. What varies follows from `seed` and the place in the batch.
    pub(super) fn load(&self, indices: &[usize], seed: u64) -> anyhow::Result<Labelled> {
        let inputs = match self.frozen {
            Some(Frozen { rows: features, variants }) => {
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
