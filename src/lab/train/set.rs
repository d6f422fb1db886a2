//! A data set as training sees it: labels, weights, difficulty, the teacher's word; and the order in
//! which an epoch goes through it.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use super::recipe::{ClassWeights, Recipe};
use crate::lab::dataset::Example;

/// What is known of every image, in their order.
pub(super) struct Set {
    pub(super) examples: Vec<Example>,
    /// How much an image counts in the loss.
    pub(super) weights: Vec<f32>,
    /// The teacher's probabilities, if there is a teacher.
    pub(super) teacher: Option<Vec<f32>>,
    difficulty: Option<Vec<f64>>,
}

/// A line of what a model said; `roadcrew evaluate --out` writes more.
#[derive(Deserialize)]
struct Line {
    id: String,
    probability: Option<f32>,
}

impl Set {
    /// The training set of a recipe.
    pub(super) fn new(examples: Vec<Example>, recipe: &Recipe) -> anyhow::Result<Self> {
        let roadwork = examples.iter().filter(|example| example.roadwork).count();
        let counts = [examples.len() - roadwork, roadwork];
        for (name, count) in ["not_roadwork", "roadwork"].iter().zip(counts) {
            anyhow::ensure!(count > 0, "no training image is labelled {name}; both are needed");
        }
        let weight = |example: &Example| match recipe.class_weights {
            ClassWeights::None => 1.0,
            ClassWeights::Balanced => {
                examples.len() as f32 / (2 * counts[usize::from(example.roadwork)]) as f32
            }
        };
        let weights = examples.iter().map(weight).collect();
        let teacher = recipe.distillation.as_ref();
        let teacher = teacher.map(|teacher| said(&teacher.teacher, &examples)).transpose()?;
        let teacher = teacher.zip(recipe.distillation.as_ref());
        let teacher = teacher.map(|(said, settings)| {
            said.into_iter().map(|probability| settings.soften(probability)).collect()
        });
        let difficulty = difficulty(&examples, recipe)?;
        Ok(Self { examples, weights, teacher, difficulty })
    }

    /// The order of an epoch, counted from 0.
    pub(super) fn order(&self, recipe: &Recipe, epoch: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
        let mut order: Vec<usize> = match (&recipe.curriculum, &self.difficulty) {
            (Some(curriculum), Some(difficulty)) => {
                let labels: Vec<bool> = self.examples.iter().map(|e| e.roadwork).collect();
                curriculum.admitted(epoch, difficulty, &labels)
            }
            _ => (0..self.examples.len()).collect(),
        };
        order.shuffle(rng);
        if recipe.epoch_images > 0 {
            order.truncate(recipe.epoch_images);
        }
        order
    }
}

/// How difficult each image is, where the recipe needs to know.
fn difficulty(examples: &[Example], recipe: &Recipe) -> anyhow::Result<Option<Vec<f64>>> {
    if recipe.curriculum.is_none() && recipe.mix.hard.is_none() {
        return Ok(None);
    }
    if !recipe.scores.as_os_str().is_empty() {
        let said = said(&recipe.scores, examples)?;
        let wrong = |(p, example): (f32, &Example)| {
            f64::from((p - f32::from(u8::from(example.roadwork))).abs())
        };
        return Ok(Some(said.into_iter().zip(examples).map(wrong).collect()));
    }
    let known = examples.iter().map(|example| {
        let level = example.picture.scene.as_ref().map(|scene| f64::from(scene.level) / 3.0);
        level.with_context(|| {
            format!(
                "how difficult is {}? A curriculum and mix.hard need `scores`, what a model says of \
                 the training images (`roadcrew evaluate DIR --out FILE`)",
                example.picture.id
            )
        })
    });
    known.collect::<anyhow::Result<_>>().map(Some)
}

/// What a file of scores says of each example.
fn said(path: &Path, examples: &[Example]) -> anyhow::Result<Vec<f32>> {
    let text = fs_err::read_to_string(path)?;
    let mut by_id = HashMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line: Line = serde_json::from_str(line)
            .with_context(|| format!("{}, line {}", path.display(), index + 1))?;
        by_id.insert(line.id, line.probability);
    }
    let of = |example: &Example| {
        let id = &example.picture.id;
        let probability = by_id.get(id).copied().flatten();
        probability
            .filter(|p| (0.0..=1.0).contains(p))
            .with_context(|| format!("{} has no probability for {id}", path.display()))
    };
    examples.iter().map(of).collect()
}
