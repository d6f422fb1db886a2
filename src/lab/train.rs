//! Training: a new head on a frozen backbone, or the whole network.
//!
//! AdamW under a cosine schedule, early stopping on the validation set's MCC, a checkpoint after
//! every epoch. What is random (order, flips, dropout, first weights) follows from the seed and the
//! epoch alone, so a resumed run ends where an uninterrupted one does.

mod batches;
mod checkpoint;
mod curriculum;
mod loss;
mod network;
mod optimizer;
mod recipe;
mod set;

use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use anyhow::Context as _;
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::dataset::{self, Example};
use super::files::write_json;
use super::scores::Confusion;
use crate::calibration::sigmoid;
use crate::clock;
use batches::{Batches, Variation};
use checkpoint::Checkpoint;
use network::Network;
use optimizer::{AdamW, cosine};
use set::Set;

pub use curriculum::Curriculum;
pub use loss::Distillation;
pub use recipe::{ClassWeights, DEFAULT, Features, HeadStart, Recipe, Scope};
pub use set::write_scores;

/// Batches that are made ahead of the step that needs them.
const AHEAD: usize = 2;

/// Where streams of random numbers for dropout begin; those of the order are below.
const DROPOUT: u64 = 1 << 32;

/// A training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSpec {
    /// Labelled images to learn from.
    pub data: Vec<PathBuf>,
    /// Labelled images to judge by; without any, every tenth image of `data` is held out.
    pub validation: Vec<PathBuf>,
    /// A model folder: `config.json`, `preprocessor_config.json`, and weights unless the whole
    /// network is trained from nothing.
    pub model: PathBuf,
    /// Where the trained model folder goes.
    pub out: PathBuf,
    /// How it is trained.
    pub recipe: Recipe,
    /// Where the features of a frozen backbone are kept.
    #[serde(skip)]
    pub cache: PathBuf,
    /// Go on from the checkpoint in `out`.
    #[serde(skip)]
    pub resume: bool,
}

/// One epoch in `metrics.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean loss over the training images.
    pub train_loss: f64,
    /// Mean loss over the validation images.
    pub validation_loss: f64,
    /// Share of right answers on the validation images.
    pub accuracy: f64,
    /// Matthews' correlation coefficient on the validation images.
    pub mcc: f64,
    /// Learning rate at the end of the epoch.
    pub learning_rate: f64,
    /// Seconds it took.
    pub seconds: f64,
}

/// Where a run stands. Everything in it but the times is repeatable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Every epoch so far.
    pub epochs: Vec<Epoch>,
    /// The best epoch: the one whose weights are in `out`.
    pub best: usize,
    /// Whether the run stopped before its last epoch because nothing improved.
    pub stopped_early: bool,
}

impl History {
    /// The best epoch's figures.
    pub fn best_epoch(&self) -> Option<&Epoch> {
        self.best.checked_sub(1).and_then(|index| self.epochs.get(index))
    }

    /// By MCC; among equals by loss.
    fn is_better(&self, epoch: &Epoch) -> bool {
        self.best_epoch().is_none_or(|best| {
            epoch.mcc > best.mcc
                || (epoch.mcc == best.mcc && epoch.validation_loss < best.validation_loss)
        })
    }

    fn stale(&self) -> usize {
        self.epochs.len() - self.best
    }
}

/// What came of a training: one run for each seed, and which of them is in `out`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trained {
    /// The seed of the best run.
    pub seed: u64,
    /// The best run.
    #[serde(flatten)]
    pub history: History,
    /// Every run's best MCC on the validation images, by seed, in the order of the recipe.
    pub mcc_by_seed: Vec<(u64, f64)>,
}

/// Told about progress.
pub trait Watcher {
    /// So many features of so many are there.
    fn features(&self, done: u64, of: u64);
    /// So many images of so many are done in this epoch; `loss` is the running mean.
    fn step(&self, epoch: usize, done: usize, of: usize, loss: f64);
    /// An epoch is over.
    fn epoch(&self, epoch: &Epoch);
}

/// Trains, and leaves in `out`: the best weights in the Hugging Face layout, `metrics.json`, and
/// the checkpoint. With several seeds each has its own folder below `out`, and the best is copied.
///
/// # Errors
/// Unreadable data or model files, a checkpoint of another run, a full disk.
pub fn train(spec: &TrainSpec, watcher: &dyn Watcher) -> anyhow::Result<Trained> {
    spec.recipe.check()?;
    let (train, validation) = split(spec)?;
    let train = Set::new(train, &spec.recipe).context("training images")?;
    let judged =
        Recipe { distillation: None, class_weights: ClassWeights::None, ..spec.recipe.clone() };
    let validation = Set::new(validation, &judged).context("validation images")?;
    let mut runs = Vec::new();
    for seed in &spec.recipe.seeds {
        let out = match spec.recipe.seeds.len() {
            1 => spec.out.clone(),
            _ => spec.out.join(format!("seed-{seed}")),
        };
        fs_err::create_dir_all(&out)?;
        let run = Run { spec, seed: *seed, out, train: &train, validation: &validation, watcher };
        runs.push((*seed, run.out.clone(), run.run(&judged)?));
    }
    let mcc = |history: &History| history.best_epoch().map_or(f64::NEG_INFINITY, |epoch| epoch.mcc);
    let mcc_by_seed = runs.iter().map(|(seed, _, history)| (*seed, mcc(history))).collect();
    let best = runs.into_iter().reduce(|a, b| if mcc(&b.2) > mcc(&a.2) { b } else { a });
    let (seed, from, history) = best.context("the recipe has no seed")?;
    if from != spec.out {
        copy_model(&from, &spec.out)?;
    }
    Ok(Trained { seed, history, mcc_by_seed })
}

/// Copies the files of a trained model, each whole.
fn copy_model(from: &Path, to: &Path) -> anyhow::Result<()> {
    for name in network::FILES.iter().chain(&["metrics.json"]) {
        super::files::write_whole(&to.join(name), &fs_err::read(from.join(name))?)?;
    }
    Ok(())
}

/// The images that a run learns from.
///
/// # Errors
/// If they cannot be read.
pub fn training_examples(spec: &TrainSpec) -> anyhow::Result<Vec<Example>> {
    split(spec).map(|(train, _)| train)
}

/// Training and validation examples.
fn split(spec: &TrainSpec) -> anyhow::Result<(Vec<Example>, Vec<Example>)> {
    let load = |folders: &[PathBuf]| -> anyhow::Result<Vec<Example>> {
        let sets = folders.iter().map(|folder| dataset::load(folder));
        Ok(sets.collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect())
    };
    let all = load(&spec.data)?;
    if !spec.validation.is_empty() {
        return Ok((all, load(&spec.validation)?));
    }
    let (held, rest): (Vec<_>, Vec<_>) =
        all.into_iter().enumerate().partition(|(i, _)| i % 10 == 9);
    anyhow::ensure!(!held.is_empty(), "fewer than ten images: name a validation set");
    let examples = |part: Vec<(usize, Example)>| part.into_iter().map(|(_, e)| e).collect();
    Ok((examples(rest), examples(held)))
}

/// One seed's run.
struct Run<'a> {
    spec: &'a TrainSpec,
    seed: u64,
    out: PathBuf,
    train: &'a Set,
    validation: &'a Set,
    watcher: &'a dyn Watcher,
}

/// What an epoch needs.
struct Material<'a> {
    network: &'a Network,
    train: Batches<'a>,
    validation: Batches<'a>,
}

impl Run<'_> {
    fn run(&self, judged: &Recipe) -> anyhow::Result<History> {
        let recipe = &self.spec.recipe;
        let network = Network::new(&self.spec.model, recipe, self.seed)?;
        let mut optimizer = AdamW::new(network.trained(), recipe.weight_decay, recipe.ema)?;
        let mut history = History::default();
        let checkpoint = Checkpoint::of(self.spec, &self.out);
        if self.spec.resume && checkpoint.exists() {
            history = checkpoint.load(&mut optimizer)?;
        } else if !self.spec.resume {
            checkpoint.must_not_exist()?;
        }
        let mut train = Batches::new(&network, self.train, recipe, Variation::Free);
        let mut validation = Batches::new(&network, self.validation, judged, Variation::Fixed);
        if network.is_frozen() {
            let (model, cache) = (&self.spec.model, &self.spec.cache);
            let progress = |done, of| self.watcher.features(done, of);
            train = train.freeze(model, cache, &progress).context("training images")?;
            validation = validation.freeze(model, cache, &progress).context("validation images")?;
        }
        let material = Material { network: &network, train, validation };
        while history.epochs.len() < recipe.epochs && history.stale() < recipe.patience {
            let epoch = self.epoch(history.epochs.len(), &material, &mut optimizer)?;
            self.watcher.epoch(&epoch);
            let better = history.is_better(&epoch);
            history.epochs.push(epoch);
            if better {
                history.best = history.epochs.len();
                optimizer.averaged(|| network.export(&self.out))??;
            }
            history.stopped_early =
                history.stale() >= recipe.patience && history.epochs.len() < recipe.epochs;
            checkpoint.save(&optimizer, &history)?;
            write_json(&self.out.join("metrics.json"), &history)?;
        }
        Ok(history)
    }

    /// Trains for an epoch, counted from 0, and judges what has come of it.
    fn epoch(
        &self,
        epoch: usize,
        material: &Material<'_>,
        optimizer: &mut AdamW,
    ) -> anyhow::Result<Epoch> {
        let begun = clock::now();
        let (train_loss, learning_rate) = self.steps(epoch, material, optimizer)?;
        anyhow::ensure!(
            train_loss.is_finite(),
            "the loss is {train_loss}: the run diverged; lower learning_rate"
        );
        let (validation_loss, confusion) = optimizer.averaged(|| self.judge(material))??;
        Ok(Epoch {
            epoch: epoch + 1,
            train_loss,
            validation_loss,
            accuracy: confusion.accuracy(),
            mcc: confusion.mcc(),
            learning_rate,
            seconds: clock::now().saturating_duration_since(begun).as_secs_f64(),
        })
    }

    /// The mean loss of an epoch's steps and the last learning rate. Batches are made ahead, on a
    /// thread of their own; what is random in them follows from their number alone.
    fn steps(
        &self,
        epoch: usize,
        material: &Material<'_>,
        optimizer: &mut AdamW,
    ) -> anyhow::Result<(f64, f64)> {
        let recipe = &self.spec.recipe;
        let mut rng = self.generator(epoch as u64);
        let order = self.train.order(recipe, epoch, &mut rng);
        let batches: Vec<_> =
            order.chunks(recipe.batch).map(|indices| (indices, rng.next_u64())).collect();
        let mut dropout = self.generator(DROPOUT + epoch as u64);
        // The schedule is that of full epochs, so that it does not depend on what a curriculum admits.
        let full =
            if recipe.epoch_images > 0 { recipe.epoch_images } else { self.train.examples.len() };
        let total = full.div_ceil(recipe.batch) * recipe.epochs;
        let begun = epoch * full.div_ceil(recipe.batch);
        let (mut sum, mut done, mut rate) = (0.0, 0, 0.0);
        std::thread::scope(|scope| {
            let (ready, made) = sync_channel(AHEAD);
            let (batches, train) = (&batches, &material.train);
            scope.spawn(move || {
                // If nobody takes them any more, the run has failed elsewhere.
                let _ = batches.iter().try_for_each(|(indices, seed)| {
                    ready.send((indices.len(), train.load(indices, *seed)))
                });
            });
            for (step, (count, batch)) in made.into_iter().enumerate() {
                let batch = batch?;
                let logits =
                    material.network.logits(&batch.inputs, Some((recipe.dropout, &mut dropout)))?;
                let loss = loss::loss(&logits, &batch.targets)?;
                rate = recipe.learning_rate * cosine(begun + step, total, recipe.warm_up);
                optimizer.step(&loss.backward()?, rate)?;
                sum += f64::from(loss.to_scalar::<f32>()?) * count as f64;
                done += count;
                self.watcher.step(epoch + 1, done, order.len(), sum / done as f64);
            }
            Ok((sum / done.max(1) as f64, rate))
        })
    }

    /// The mean cross-entropy and the right and wrong answers on the validation images.
    fn judge(&self, material: &Material<'_>) -> anyhow::Result<(f64, Confusion)> {
        let (mut sum, mut confusion) = (0.0, Confusion::default());
        let all: Vec<usize> = (0..self.validation.examples.len()).collect();
        for indices in all.chunks(self.spec.recipe.batch) {
            let batch = material.validation.load(indices, 0)?;
            let logits = material.network.logits(&batch.inputs, None)?.detach();
            let each = loss::bce_with_logits(&logits, &batch.targets.labels)?;
            sum += each.to_vec1::<f32>()?.into_iter().map(f64::from).sum::<f64>();
            for (logit, index) in logits.to_vec1::<f32>()?.into_iter().zip(indices) {
                confusion.add(self.validation.examples[*index].roadwork, sigmoid(logit) > 0.5);
            }
        }
        Ok((sum / confusion.total().max(1) as f64, confusion))
    }

    fn generator(&self, stream: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(stream);
        rng
    }
}

#[cfg(test)]
mod tests;
