//! A data set as training sees it: labels, weights, difficulty, the teacher's word; and the order in
//! which an epoch goes through it.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::Context as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::recipe::{ClassWeights, Recipe};
use crate::lab::answers::Answers;
use crate::lab::dataset::Example;
use crate::lab::dataset::mix::{self, Kind};
use crate::lab::files::write_whole;

/// What is known of every image, in their order.
pub(super) struct Set {
    pub(super) examples: Vec<Example>,
    /// How much an image counts in the loss.
    pub(super) weights: Vec<f32>,
    /// The teacher's probabilities, if there is a teacher.
    pub(super) teacher: Option<Vec<f32>>,
    /// How hard each image is, 0 to 1, where the recipe needs to know.
    difficulty: Option<Vec<f64>>,
    kinds: Vec<Kind>,
}

/// A line of what a model said; `roadcrew evaluate --out` writes more.
#[derive(Serialize, Deserialize)]
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
            anyhow::ensure!(count > 0, "none is labelled {name}; both labels are needed");
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
        let kind = |(index, example): (usize, &Example)| Kind {
            synthetic: is_synthetic(example),
            hard: difficulty.as_ref().is_some_and(|difficulty| difficulty[index] >= HARD),
        };
        let kinds = examples.iter().enumerate().map(kind).collect();
        Ok(Self { examples, weights, teacher, difficulty, kinds })
    }

    /// The order of an epoch, counted from 0.
    pub(super) fn order(&self, recipe: &Recipe, epoch: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
        let admitted: Vec<usize> = match (&recipe.curriculum, &self.difficulty) {
            (Some(curriculum), Some(difficulty)) => {
                let labels: Vec<bool> = self.examples.iter().map(|e| e.roadwork).collect();
                curriculum.admitted(epoch, difficulty, &labels)
            }
            _ => (0..self.examples.len()).collect(),
        };
        let size = match recipe.epoch_images {
            0 => admitted.len(),
            most => most,
        };
        let kinds: Vec<Kind> = admitted.iter().map(|index| self.kinds[*index]).collect();
        let mixed = recipe.mix.epoch(&kinds, size, rng).into_iter().map(|place| admitted[place]);
        let mut order: Vec<usize> = mixed.collect();
        if let Some(share) = recipe.hard_negatives {
            self.harden(&mut order, &admitted, share, rng);
        }
        order
    }

    /// Puts other images without roadwork in the place of those that are there: `share` of them hard.
    fn harden(&self, order: &mut [usize], admitted: &[usize], share: f64, rng: &mut ChaCha8Rng) {
        let is_negative = |index: usize| !self.examples[index].roadwork;
        let negatives = admitted.iter().copied().filter(|index| is_negative(*index));
        let (hard, easy): (Vec<usize>, Vec<usize>) =
            negatives.partition(|index| self.kinds[*index].hard);
        let places: Vec<usize> =
            (0..order.len()).filter(|place| is_negative(order[*place])).collect();
        let (of_easy, of_hard) = mix::counts(easy.len(), hard.len(), share, places.len());
        let mut chosen = mix::cycle(&easy, of_easy, rng);
        chosen.extend(mix::cycle(&hard, of_hard, rng));
        chosen.shuffle(rng);
        places.into_iter().zip(chosen).for_each(|(place, index)| order[place] = index);
    }

    /// SHA-256 of everything here that training depends on, in lower-case hex.
    pub(super) fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for (index, example) in self.examples.iter().enumerate() {
            hasher.update((example.picture.id.len() as u64).to_le_bytes());
            hasher.update(&example.picture.id);
            hasher.update([u8::from(example.roadwork), u8::from(self.kinds[index].synthetic)]);
            hasher.update(self.weights[index].to_le_bytes());
            let taught = self.teacher.as_ref().map_or(f32::NAN, |teacher| teacher[index]);
            hasher.update(taught.to_le_bytes());
            let difficulty = self.difficulty.as_ref().map_or(f64::NAN, |all| all[index]);
            hasher.update(difficulty.to_le_bytes());
        }
        format!("{:x}", hasher.finalize())
    }
}

/// From this difficulty on an image is hard: where a model is wrong, or nearly so.
const HARD: f64 = 0.4;

/// Rendered scenes are, and what a manifest calls so.
fn is_synthetic(example: &Example) -> bool {
    let picture = &example.picture;
    picture.scene.is_some() || picture.origin.as_deref() == Some("synthetic")
}

/// How difficult each image is, where the recipe needs to know.
fn difficulty(examples: &[Example], recipe: &Recipe) -> anyhow::Result<Option<Vec<f64>>> {
    if !recipe.needs_difficulty() {
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
        example.picture.difficulty.or(level).with_context(|| {
            format!(
                "how difficult is {}? A curriculum, mix.hard and hard_negatives need `scores`, what a \
                 model says of the training images (`roadcrew evaluate DATA --out FILE`)",
                example.picture.id
            )
        })
    });
    known.collect::<anyhow::Result<_>>().map(Some)
}

/// What a file of scores says of each example. Images are told apart by their ids.
fn said(path: &Path, examples: &[Example]) -> anyhow::Result<Vec<f32>> {
    let text = fs_err::read_to_string(path)?;
    let mut by_id = HashMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line: Line = serde_json::from_str(line)
            .with_context(|| format!("{}, line {}", path.display(), index + 1))?;
        by_id.insert(line.id, line.probability);
    }
    ensure_distinct(examples)?;
    let mut all = Vec::with_capacity(examples.len());
    for id in examples.iter().map(|example| &example.picture.id) {
        let probability = by_id.get(id).copied().flatten();
        all.push(
            probability
                .filter(|p| (0.0..=1.0).contains(p))
                .with_context(|| format!("{} has no probability for {id}", path.display()))?,
        );
    }
    Ok(all)
}

/// Scores and teachers tell images apart by their ids.
///
/// # Errors
/// If two images have the same.
pub fn ensure_distinct(examples: &[Example]) -> anyhow::Result<()> {
    let mut seen = HashSet::new();
    for id in examples.iter().map(|example| &example.picture.id) {
        anyhow::ensure!(
            seen.insert(id),
            "two images are called {id}: scores and teachers need one data set, with ids of its own"
        );
    }
    Ok(())
}

/// Writes what an engine said of each example, for `scores` and `distillation.teacher`.
///
/// # Errors
/// If an image was not answered, or the file cannot be written.
pub fn write_scores(path: &Path, examples: &[Example], answers: &Answers) -> anyhow::Result<()> {
    let mut text = Vec::new();
    for (example, answer) in examples.iter().zip(&answers.answers) {
        let id = example.picture.id.clone();
        let verdict = answer.outcome.as_ref();
        let verdict = verdict.map_err(|rejection| anyhow::anyhow!("{id}: {rejection}"))?;
        let line = Line { id, probability: Some(verdict.probability.get()) };
        serde_json::to_writer(&mut text, &line)?;
        text.push(b'\n');
    }
    write_whole(path, &text)
}
