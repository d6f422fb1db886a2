//! Training: a new head on a frozen backbone, or the whole network.
//!
//! AdamW under a cosine schedule, early stopping on the validation set's MCC, a checkpoint after
//! every epoch. What is random (order, flips, dropout, first weights) follows from the seed and the
//! epoch alone, so a resumed run ends where an uninterrupted one does.

mod batches;
mod checkpoint;
mod curriculum;
mod loss;
mod material;
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
use sha2::{Digest as _, Sha256};

use super::dataset::{self, Example};
use super::features::FeatureSpec;
use super::files::{write_json, write_whole};
use super::scores::Confusion;
use crate::calibration::sigmoid;
use crate::clock;
use crate::image::ImageLimits;
use crate::models::ModelFiles;
use batches::{Batches, Frozen, Variation};
use checkpoint::Checkpoint;
use network::Network;
use optimizer::{AdamW, cosine};
use set::Set;

pub use curriculum::Curriculum;
pub use loss::Distillation;
pub use recipe::{ClassWeights, DEFAULT, Features, HeadStart, Recipe, Scope};
pub use set::{ensure_distinct, write_scores};

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
    /// What is decoded.
    #[serde(skip)]
    pub limits: ImageLimits,
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
/// Unreadable data or model files, a folder that is not free, a checkpoint of another run, a full disk.
pub fn train(spec: &TrainSpec, watcher: &dyn Watcher) -> anyhow::Result<Trained> {
    check(spec)?;
    let (train, validation) = material::parts(spec)?;
    let train = Set::new(train, &spec.recipe).context("training images")?;
    let judging = spec.recipe.judging();
    let validation = Set::new(validation, &judging).context("validation images")?;
    let frozen = match spec.recipe.scope {
        Scope::Head => Some(freeze(spec, [&train, &validation], watcher)?),
        Scope::All => None,
    };
    let material = digest(spec, [&train, &validation])?;
    let mut runs = Vec::new();
    for (seed, out) in spec.recipe.seeds.iter().zip(material::folders(spec)) {
        let network = Network::new(&spec.model, &spec.recipe, *seed)?;
        let [learnt, judged] = match &frozen {
            Some([learnt, judged]) => [Some(learnt), Some(judged)],
            None => [None, None],
        };
        let batches = |set, recipe, variation, frozen| {
            Batches::new(&network, set, recipe, variation, frozen).within(spec.limits)
        };
        let run = Run {
            spec,
            seed: *seed,
            out: &out,
            material: &material,
            network: &network,
            train: batches(&train, &spec.recipe, Variation::Free, learnt),
            validation: batches(&validation, &judging, Variation::Fixed, judged),
            sets: [&train, &validation],
            watcher,
        };
        fs_err::create_dir_all(&out)?;
        let history = run.run()?;
        runs.push((*seed, out, history));
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

/// What can be refused before anything is computed.
///
/// # Errors
/// A recipe that cannot work, a folder that is not free, or nothing to resume.
pub fn check(spec: &TrainSpec) -> anyhow::Result<()> {
    spec.recipe.check()?;
    material::may_write(spec)
}

/// The features of both sets, which no seed changes.
fn freeze(
    spec: &TrainSpec,
    [train, validation]: [&Set; 2],
    watcher: &dyn Watcher,
) -> anyhow::Result<[Frozen; 2]> {
    let first = spec.recipe.seeds.first().copied().unwrap_or_default();
    let pooling = Network::new(&spec.model, &spec.recipe, first)?.pooling();
    let model = spec.model.to_string_lossy();
    let features = FeatureSpec {
        model: &model,
        pooling: Some(pooling),
        cache: &spec.cache,
        limits: spec.limits,
    };
    let progress = |done, of| watcher.features(done, of);
    let of = |set, variation| Frozen::of(set, &spec.recipe, variation, &features, &progress);
    Ok([
        of(train, Variation::Free).context("training images")?,
        of(validation, Variation::Fixed).context("validation images")?,
    ])
}

/// SHA-256 of everything that a run depends on besides its settings.
fn digest(spec: &TrainSpec, sets: [&Set; 2]) -> anyhow::Result<String> {
    let model = ModelFiles::named(&spec.model.to_string_lossy())?.digest()?;
    let [train, validation] = sets.map(Set::digest);
    Ok(format!("{:x}", Sha256::digest(format!("{model} {train} {validation}"))))
}

/// Copies a run's model, each file whole.
fn copy_model(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs_err::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != checkpoint::NAME && entry.file_type()?.is_file() {
            write_whole(&to.join(name), &fs_err::read(entry.path())?)?;
        }
    }
    Ok(())
}

/// The images that a run learns from.
///
/// # Errors
/// If they cannot be read.
pub fn training_examples(spec: &TrainSpec) -> anyhow::Result<Vec<Example>> {
    material::parts(spec).map(|(train, _)| train)
}

/// One seed's run.
struct Run<'a> {
    spec: &'a TrainSpec,
    seed: u64,
    out: &'a Path,
    material: &'a str,
    network: &'a Network,
    train: Batches<'a>,
    validation: Batches<'a>,
    /// What is learnt from, and what is judged by.
    sets: [&'a Set; 2],
    watcher: &'a dyn Watcher,
}

impl Run<'_> {
    fn run(&self) -> anyhow::Result<History> {
        let recipe = &self.spec.recipe;
        let mut optimizer = AdamW::new(self.network.trained(), recipe.weight_decay, recipe.ema)?;
        let mut history = History::default();
        let checkpoint = Checkpoint::of(self.spec, self.material.to_owned(), self.out);
        if checkpoint.exists() {
            history = checkpoint.load(&mut optimizer)?;
        }
        while history.epochs.len() < recipe.epochs && history.stale() < recipe.patience {
            let epoch = self.epoch(history.epochs.len(), &mut optimizer)?;
            self.watcher.epoch(&epoch);
            let better = history.is_better(&epoch);
            history.epochs.push(epoch);
            if better {
                history.best = history.epochs.len();
                optimizer.averaged(|| self.network.export(self.out))??;
            }
            history.stopped_early =
                history.stale() >= recipe.patience && history.epochs.len() < recipe.epochs;
            checkpoint.save(&optimizer, &history)?;
            write_json(&self.out.join("metrics.json"), &history)?;
        }
        Ok(history)
    }

    /// Trains for an epoch, counted from 0, and judges what has come of it.
    fn epoch(&self, epoch: usize, optimizer: &mut AdamW) -> anyhow::Result<Epoch> {
        let begun = clock::now();
        let (train_loss, learning_rate) = self.steps(epoch, optimizer)?;
        let (validation_loss, confusion) = optimizer.averaged(|| self.judge())??;
        for loss in [train_loss, validation_loss] {
            let finite = loss.is_finite();
            anyhow::ensure!(finite, "the loss is {loss}: the run diverged; lower learning_rate");
        }
        Ok(Epoch {
            epoch: epoch + 1,
            train_loss: rounded(train_loss),
            validation_loss: rounded(validation_loss),
            accuracy: rounded(confusion.accuracy()),
            mcc: rounded(confusion.mcc()),
            learning_rate: rounded(learning_rate),
            seconds: rounded(clock::now().saturating_duration_since(begun).as_secs_f64()),
        })
    }

    /// The mean loss of an epoch's steps and the last learning rate. Batches are made ahead, on a
    /// thread of their own; what is random in them follows from their number alone.
    fn steps(&self, epoch: usize, optimizer: &mut AdamW) -> anyhow::Result<(f64, f64)> {
        let (recipe, [set, _]) = (&self.spec.recipe, self.sets);
        let mut rng = self.generator(epoch as u64);
        let order = set.order(recipe, epoch, &mut rng);
        let batches: Vec<_> =
            order.chunks(recipe.batch).map(|indices| (indices, rng.next_u64())).collect();
        let mut dropout = self.generator(DROPOUT + epoch as u64);
        // The schedule is that of full epochs, so that it does not depend on what a curriculum admits.
        let full = if recipe.epoch_images > 0 { recipe.epoch_images } else { set.examples.len() };
        let total = full.div_ceil(recipe.batch) * recipe.epochs;
        let begun = epoch * full.div_ceil(recipe.batch);
        let (mut sum, mut done, mut rate) = (0.0, 0, 0.0);
        std::thread::scope(|scope| {
            let (ready, made) = sync_channel(AHEAD);
            let (batches, train) = (&batches, &self.train);
            scope.spawn(move || {
                // If nobody takes them any more, the run has failed elsewhere.
                let _ = batches.iter().try_for_each(|(indices, seed)| {
                    ready.send((indices.len(), train.load(indices, *seed)))
                });
            });
            for (step, (count, batch)) in made.into_iter().enumerate() {
                let batch = batch?;
                let logits =
                    self.network.logits(&batch.inputs, Some((recipe.dropout, &mut dropout)))?;
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
    fn judge(&self) -> anyhow::Result<(f64, Confusion)> {
        let (mut sum, mut confusion) = (0.0, Confusion::default());
        let [_, set] = self.sets;
        let all: Vec<usize> = (0..set.examples.len()).collect();
        for indices in all.chunks(self.spec.recipe.batch) {
            let batch = self.validation.load(indices, 0)?;
            let logits = self.network.logits(&batch.inputs, None)?.detach();
            let each = loss::bce_with_logits(&logits, &batch.targets.labels)?;
            sum += each.to_vec1::<f32>()?.into_iter().map(f64::from).sum::<f64>();
            for (logit, index) in logits.to_vec1::<f32>()?.into_iter().zip(indices) {
                confusion.add(set.examples[*index].roadwork, sigmoid(logit) > 0.5);
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

/// To twelve places: so a figure is the same after it was written as JSON and read again, and a resumed
/// run has the history of an uninterrupted one.
fn rounded(figure: f64) -> f64 {
    (figure * 1e12).round() / 1e12
}

#[cfg(test)]
mod tests;
