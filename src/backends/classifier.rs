//! Encoder, head and calibration: an image classifier from a checkpoint, on candle or ONNX Runtime.
//!
//! Settings, `[stages.NAME.classifier]`: `model` is `embedded:screen`, `embedded:confirm`, or a
//! folder in the Hugging Face layout with a `head.safetensors` beside the weights, and optionally a
//! `calibration.json` (`{"scale": s, "shift": t}`); `runtime` is what computes it.

mod candle;
mod graph;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::onnx::{Frames, of_logits};
use super::{Backend, BackendContext, BackendError, Input};
use crate::calibration::Calibration;
use crate::models::ModelFiles;
use crate::prediction::Prediction;
use candle::Candle;

/// The keys of [`ClassifierSpec`].
pub const KEYS: &[&str] = &["model", "runtime"];

/// The settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierSpec {
    /// `embedded:NAME`, or the path of a model folder.
    pub model: String,
    /// What computes it.
    #[serde(default)]
    pub runtime: Runtime,
}

/// What computes a classifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// ONNX Runtime if it can be loaded and the model be written as a graph, else candle.
    #[default]
    Auto,
    /// candle, which is compiled in.
    Candle,
    /// ONNX Runtime, or the stage does not load.
    Onnx,
}

/// A loaded model. A clip is judged by the mean of its frames' logits.
#[derive(Debug)]
pub struct Classifier {
    network: Network,
    calibration: Calibration,
    version: String,
}

#[derive(Debug)]
enum Network {
    Candle(Candle),
    Onnx(Frames),
}

impl Classifier {
    /// Loads the model that the settings name.
    ///
    /// # Errors
    /// Unknown names, missing files, tensors of the wrong shape: the message says which. With the
    /// runtime `onnx` also if there is no ONNX Runtime.
    pub fn new(ctx: &BackendContext) -> anyhow::Result<Self> {
        let spec: ClassifierSpec = ctx.settings()?;
        let files = ModelFiles::named(&spec.model)?;
        Self::load(&files, &spec, ctx).with_context(|| format!("model {}", spec.model))
    }

    fn load(
        files: &ModelFiles,
        spec: &ClassifierSpec,
        ctx: &BackendContext,
    ) -> anyhow::Result<Self> {
        let on_candle =
            || anyhow::Ok((Network::Candle(Candle::load(files, ctx)?), "candle".into()));
        let on_onnx = || graph::open(files, ctx).map(|(it, version)| (Network::Onnx(it), version));
        let (network, runtime) = match spec.runtime {
            Runtime::Candle => on_candle()?,
            Runtime::Onnx => on_onnx()?,
            Runtime::Auto => match on_onnx() {
                Ok(opened) => opened,
                Err(error) => {
                    let opened = on_candle()?;
                    tracing::info!(stage = ctx.stage, "candle computes {}: {error:#}", spec.model);
                    opened
                }
            },
        };
        tracing::info!(stage = ctx.stage, model = spec.model, runtime, "a classifier is loaded");
        let calibration = if files.contains("calibration.json") {
            files.json("calibration.json")?
        } else {
            Calibration::default()
        };
        let version = format!("{} {runtime}", files.digest()?);
        Ok(Self { network, calibration, version })
    }
}

impl Backend for Classifier {
    fn infer(&mut self, inputs: &[Input]) -> Result<Vec<Prediction>, BackendError> {
        let logits = match &mut self.network {
            Network::Candle(candle) => candle.logits(inputs)?,
            Network::Onnx(frames) => frames.each(inputs, graph::logits)?,
        };
        Ok(of_logits(inputs, &logits, &self.calibration))
    }

    fn warm_up(&mut self) -> Result<(), BackendError> {
        match &mut self.network {
            Network::Candle(candle) => Ok(candle.warm_up()?),
            Network::Onnx(frames) => frames.warm_up(graph::logits),
        }
    }

    /// The digest of the model's files (weights, head, calibration and preprocessing), and what
    /// computes it.
    fn version(&self) -> String {
        self.version.clone()
    }
}
