//! Training: a new head on a frozen backbone, or the whole network.
//!
//! AdamW under a cosine schedule, early stopping on the validation set's MCC, a checkpoint after
//! every epoch. What is random (order, flips, dropout, first weights) follows from the seed and the
//! epoch alone, so a resumed run ends where an uninterrupted one does.

mod batches;
mod checkpoint;
mod network;
mod optimizer;

use std::path::PathBuf;

use anyhow::Context as _;
use candle_core::Tensor;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::dataset::{self, Example};
use super::files::write_json;
use super::scores::Confusion;
use crate::calibration::sigmoid;
use crate::clock;
use crate::image::ImageLimits;
use crate::models::Pooling;
use batches::{Batches, Labelled};
use checkpoint::Checkpoint;
use network::Network;
use optimizer::{AdamW, cosine};

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// A new head; the backbone stays as it is and its features are computed once.
    Head,
    /// Backbone and head together.
    All,
}

/// A training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSpec {
    /// Labelled images to learn from.
    pub data: PathBuf,
    /// Labelled images to judge by; without it, every tenth image of `data` is held out.
    pub validation: Option<PathBuf>,
    /// A model folder: `config.json`, `preprocessor_config.json`, and weights unless the whole
    /// network is trained from nothing.
    pub model: PathBuf,
    /// Where the trained model folder goes.
    pub out: PathBuf,
    /// What is trained.
    pub scope: Scope,
    /// Which features a new head looks at.
    #[serde(with = "pooling_name")]
    pub pooling: Pooling,
    /// Width of a new head.
    pub hidden: usize,
    /// Share of the hidden values dropped while training.
    pub dropout: f32,
    /// Most passes over the data.
    pub epochs: usize,
    /// Images per step.
    pub batch: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay of matrices; biases and norms have none.
    pub weight_decay: f64,
    /// Stop after so many epochs without a better MCC.
    pub patience: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Go on from the checkpoint in `out`.
    #[serde(skip)]
    pub resume: bool,
}

mod pooling_name {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::Pooling;

    pub(super) fn serialize<S: Serializer>(p: &Pooling, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(match p {
            Pooling::Cls => "cls",
            Pooling::ClsMean => "cls-mean",
            Pooling::ClsMeanMax => "cls-mean-max",
        })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Pooling, D::Error> {
        match String::deserialize(d)?.as_str() {
            "cls" => Ok(Pooling::Cls),
            "cls-mean" => Ok(Pooling::ClsMean),
            "cls-mean-max" => Ok(Pooling::ClsMeanMax),
            other => Err(serde::de::Error::custom(format!("unknown pooling {other}"))),
        }
    }
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
    fn best_mcc(&self) -> f64 {
        let best = self.best.checked_sub(1).and_then(|i| self.epochs.get(i));
        best.map_or(f64::NEG_INFINITY, |epoch| epoch.mcc)
    }

    fn stale(&self) -> usize {
        self.epochs.len() - self.best
    }
}

/// Told about progress.
pub trait Watcher {
    /// So many images of so many are done in this epoch; `loss` is the running mean.
    fn step(&self, epoch: usize, done: usize, of: usize, loss: f64);
    /// An epoch is over.
    fn epoch(&self, epoch: &Epoch);
}

/// Trains, and leaves in `out`: the best weights in the Hugging Face layout, `metrics.json`, and
/// the checkpoint.
///
/// # Errors
/// Unreadable data or model files, a checkpoint of another run, a full disk.
pub fn train(spec: &TrainSpec, watcher: &dyn Watcher) -> anyhow::Result<History> {
    fs_err::create_dir_all(&spec.out)?;
    let (train, validation) = split(spec)?;
    let network = Network::new(spec)?;
    let mut optimizer = AdamW::new(network.trained(), spec.weight_decay);
    let mut history = History::default();
    let checkpoint = Checkpoint::of(spec);
    if spec.resume {
        history = checkpoint.load(&mut optimizer)?;
    } else {
        checkpoint.must_not_exist()?;
    }
    let limits = ImageLimits::default();
    let train = Batches::prepare(&network, &train, &limits).context("training images")?;
    let validation = Batches::prepare(&network, &validation, &limits).context("validation")?;
    let run = Run { spec, network: &network, train: &train, validation: &validation, watcher };
    while history.epochs.len() < spec.epochs && history.stale() < spec.patience {
        let epoch = run.epoch(history.epochs.len() + 1, &mut optimizer)?;
        watcher.epoch(&epoch);
        let better = epoch.mcc > history.best_mcc();
        history.epochs.push(epoch);
        if better {
            history.best = history.epochs.len();
            network.export(&spec.out)?;
        }
        history.stopped_early =
            history.stale() >= spec.patience && history.epochs.len() < spec.epochs;
        checkpoint.save(&optimizer, &history)?;
        write_json(&spec.out.join("metrics.json"), &history)?;
    }
    Ok(history)
}

/// Training and validation examples.
fn split(spec: &TrainSpec) -> anyhow::Result<(Vec<Example>, Vec<Example>)> {
    let all = dataset::load(&spec.data)?;
    if let Some(dir) = &spec.validation {
        return Ok((all, dataset::load(dir)?));
    }
    let (held, rest): (Vec<_>, Vec<_>) =
        all.into_iter().enumerate().partition(|(i, _)| i % 10 == 9);
    anyhow::ensure!(!held.is_empty(), "fewer than ten images: name a validation set");
    let examples = |part: Vec<(usize, Example)>| part.into_iter().map(|(_, e)| e).collect();
    Ok((examples(rest), examples(held)))
}

/// What an epoch needs.
struct Run<'a> {
    spec: &'a TrainSpec,
    network: &'a Network,
    train: &'a Batches,
    validation: &'a Batches,
    watcher: &'a dyn Watcher,
}

impl Run<'_> {
    fn epoch(&self, epoch: usize, optimizer: &mut AdamW) -> anyhow::Result<Epoch> {
        let begun = clock::now();
        let spec = self.spec;
        let mut rng = ChaCha8Rng::seed_from_u64(spec.seed);
        rng.set_stream(epoch as u64);
        let steps = self.train.len().div_ceil(spec.batch);
        let (mut sum, mut done, mut rate) = (0.0, 0, 0.0);
        for indices in self.train.shuffled(spec.batch, &mut rng) {
            let batch = self.train.load(self.network, &indices, Some(&mut rng))?;
            let logits = self.network.logits(&batch.inputs, Some((spec.dropout, &mut rng)))?;
            let loss = bce_with_logits(&logits, &batch.labels)?;
            rate = spec.learning_rate * cosine(optimizer.steps(), steps * spec.epochs);
            optimizer.step(&loss.backward()?, rate)?;
            sum += f64::from(loss.to_scalar::<f32>()?) * indices.len() as f64;
            done += indices.len();
            self.watcher.step(epoch, done, self.train.len(), sum / done as f64);
        }
        anyhow::ensure!(
            sum.is_finite(),
            "the loss is {sum}: the run diverged; lower --learning-rate"
        );
        let (validation_loss, confusion) = self.judge()?;
        Ok(Epoch {
            epoch,
            train_loss: sum / done.max(1) as f64,
            validation_loss,
            accuracy: confusion.accuracy(),
            mcc: confusion.mcc(),
            learning_rate: rate,
            seconds: clock::now().saturating_duration_since(begun).as_secs_f64(),
        })
    }

    fn judge(&self) -> anyhow::Result<(f64, Confusion)> {
        let (mut sum, mut confusion) = (0.0, Confusion::default());
        for indices in self.validation.in_order(self.spec.batch) {
            let Labelled { inputs, labels } = self.validation.load(self.network, &indices, None)?;
            let logits = self.network.logits(&inputs, None)?.detach();
            sum += f64::from(bce_with_logits(&logits, &labels)?.to_scalar::<f32>()?)
                * indices.len() as f64;
            for (logit, label) in logits.to_vec1::<f32>()?.into_iter().zip(labels.to_vec1::<f32>()?)
            {
                confusion.add(label > 0.5, sigmoid(logit) > 0.5);
            }
        }
        Ok((sum / confusion.total().max(1) as f64, confusion))
    }
}

/// Mean binary cross-entropy of logits `[n]` against labels `[n]`: `relu(x) - x y + ln(1 + e^-|x|)`,
/// which does not overflow.
fn bce_with_logits(logits: &Tensor, labels: &Tensor) -> candle_core::Result<Tensor> {
    let softplus = ((logits.abs()?.neg()?.exp()? + 1.0)?).log()?;
    ((logits.relu()? - logits.mul(labels)?)? + softplus)?.mean_all()
}

#[cfg(test)]
mod tests;
