//! A classifier as an ONNX graph: encoder, head and calibration, for runtimes other than candle.
//!
//! The graph is built from the configuration and the names and shapes in the checkpoint; weights are
//! read while they are written. The same model gives the same bytes.
//!
//! Must not know: who runs it, or where it is written to.

mod builder;
mod convnext;
mod features;
mod head;
mod initializer;
mod layers;
mod model;
pub(crate) mod proto;
pub(crate) mod raw;
mod vit;
mod weights;

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Serialize;

use crate::calibration::Calibration;
use crate::kernels::preprocess::{Filter, Plan};
use crate::models::{EncoderConfig, ModelFiles, Preprocessor};
use builder::{Graph, Value};
use features::Features;
use initializer::Kind;
use proto::Extent;
use weights::Weights;

pub use model::{IR_VERSION, Model, OPSET};

/// The type that the encoder computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32 bits: the numbers of our own stages.
    F32,
    /// 16 bits: half the file; layer norms' statistics, softmax and the head stay in f32.
    F16,
}

/// The input of a graph: `[batch, 3, height, width]`, f32, prepared.
pub const PIXELS: &str = "pixel_values";
/// An output: `[batch]`, f32, before any calibration.
pub const LOGITS: &str = "logits";
/// An output: `[batch]`, f32, 0 to 1.
pub const PROBABILITY: &str = "probability";

/// An output of an encoder: `[batch, prefix + patches, hidden]`, f32, the first token CLS.
pub const TOKENS: &str = "last_hidden_state";
/// An output of an encoder: `[batch, hidden]`, f32, the token CLS.
pub const POOLED: &str = "pooler_output";

/// The dimension that is as long as the caller likes.
pub(crate) fn batch() -> Extent {
    Extent::Param("batch".into())
}

/// An encoder's graph, and what it says of itself.
pub struct Encoder {
    /// The graph.
    pub model: Model,
    /// Its metadata.
    pub metadata: BTreeMap<&'static str, String>,
    /// Width of the features.
    pub hidden_size: usize,
}

/// What is known of a model before its weights are read.
pub struct Source<'a> {
    files: &'a ModelFiles,
    config: EncoderConfig,
    plan: Plan,
    calibration: Option<Calibration>,
}

impl<'a> Source<'a> {
    /// Reads everything but the weights.
    ///
    /// # Errors
    /// If a file is missing or wrong, or pictures have no fixed size.
    pub fn load(files: &'a ModelFiles) -> anyhow::Result<Self> {
        let preprocessor = Preprocessor::load(files)?;
        anyhow::ensure!(
            preprocessor.size().is_some(),
            "{}: do_resize is false, so pictures have no fixed size, which the export needs; set \
             do_resize and size",
            files.label("preprocessor_config.json")
        );
        let calibration =
            files.contains(CALIBRATION).then(|| files.json(CALIBRATION)).transpose()?;
        let (config, plan) = (EncoderConfig::load(files)?, preprocessor.plan(&[])?);
        Ok(Self { files, config, plan, calibration })
    }

    /// How pictures become the input.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The model's `calibration.json`, if it has one.
    pub fn calibration(&self) -> Option<Calibration> {
        self.calibration
    }

    pub(crate) fn input_shape(&self) -> [Extent; 4] {
        let side = |length: usize| Extent::Value(length as i64);
        [batch(), side(3), side(self.plan.height), side(self.plan.width)]
    }

    /// The graph, with `calibration` applied to [`PROBABILITY`]. Weights are read when it is written.
    ///
    /// # Errors
    /// If the model cannot be expressed, or a tensor is missing or of the wrong shape.
    pub fn model(
        &self,
        dtype: Dtype,
        calibration: Option<Calibration>,
        metadata: &BTreeMap<&'static str, String>,
    ) -> anyhow::Result<Model> {
        let mut graph = Graph::default();
        let pixels = graph.input(PIXELS, &self.input_shape());
        let features = graph.within("encoder", |graph| self.encoder(graph, dtype, &pixels))?;
        let weights = Weights::new(self.files.checkpoint("head")?, "head");
        let (logits, probability) = graph.within("head", |graph| {
            let logits = head::logits(graph, &features, &weights)
                .with_context(|| self.files.label("head.safetensors"))?;
            let probability = head::probability(graph, &logits, calibration)?;
            anyhow::Ok((logits, probability))
        })?;
        graph.output(&logits, LOGITS, &[batch()]);
        graph.output(&probability, PROBABILITY, &[batch()]);
        Ok(Model::new("roadcrew", graph, metadata))
    }

    /// The graph of the encoder alone, without a head, under the names that exports of DINOv3 usually
    /// have. Weights are read when it is written.
    ///
    /// # Errors
    /// If the model cannot be expressed, or a tensor is missing or of the wrong shape.
    pub fn encoder_model(&self, dtype: Dtype) -> anyhow::Result<Encoder> {
        let mut graph = Graph::default();
        let pixels = graph.input(PIXELS, &self.input_shape());
        let features = graph.within("encoder", |graph| self.encoder(graph, dtype, &pixels))?;
        let hidden = Extent::Value(features.hidden_size as i64);
        let tokens = Extent::Param("tokens".into());
        graph.output(&features.tokens, TOKENS, &[batch(), tokens, hidden.clone()]);
        graph.output(&features.cls, POOLED, &[batch(), hidden]);
        let prefix = features.prefix.to_string();
        let mut metadata = self.metadata(dtype, None)?;
        metadata.insert("prefix_tokens", prefix);
        graph.drop_unused(&features.patches);
        let (model, hidden_size) = (Model::new("roadcrew", graph, &metadata), features.hidden_size);
        Ok(Encoder { model, metadata, hidden_size })
    }

    fn encoder(&self, graph: &mut Graph, dtype: Dtype, pixels: &Value) -> anyhow::Result<Features> {
        let weights = Weights::new(self.files.checkpoint("model")?, "encoder");
        let kind = match dtype {
            Dtype::F32 => Kind::F32,
            Dtype::F16 => Kind::F16,
        };
        let pixels = graph.cast(pixels, kind);
        let input = (&pixels, (self.plan.height, self.plan.width));
        match &self.config {
            EncoderConfig::Dinov3Vit(config) => vit::vit(graph, config, &weights, input),
            EncoderConfig::Dinov3ConvNext(config) => {
                convnext::convnext(graph, config, &weights, input)
            }
        }
    }

    /// What the model says of itself.
    ///
    /// # Errors
    /// If its files cannot be read.
    pub fn metadata(
        &self,
        dtype: Dtype,
        calibration: Option<Calibration>,
    ) -> anyhow::Result<BTreeMap<&'static str, String>> {
        let model_type = match self.config {
            EncoderConfig::Dinov3Vit(_) => "dinov3_vit",
            EncoderConfig::Dinov3ConvNext(_) => "dinov3_convnext",
        };
        let applied = calibration.map_or(Ok("none".into()), |it| serde_json::to_string(&it))?;
        Ok(BTreeMap::from([
            ("model_type", model_type.into()),
            ("model_digest", self.files.digest()?),
            ("preprocessing", serde_json::to_string(&Preparation::of(&self.plan))?),
            ("calibration", applied),
            ("dtype", if dtype == Dtype::F16 { "f16" } else { "f32" }.into()),
            ("roadcrew_version", env!("CARGO_PKG_VERSION").into()),
        ]))
    }
}

const CALIBRATION: &str = "calibration.json";

/// How a picture becomes `pixel_values`: antialiased resize, then
/// `(value * rescale_factor - mean) / std` per channel, RGB.
#[derive(Serialize)]
struct Preparation {
    height: usize,
    width: usize,
    resample: &'static str,
    rescale_factor: f32,
    mean: [f32; 3],
    std: [f32; 3],
}

impl Preparation {
    fn of(plan: &Plan) -> Self {
        let resample = match plan.filter {
            Filter::Bilinear => "bilinear",
            Filter::Bicubic => "bicubic",
        };
        let Plan { height, width, rescale: rescale_factor, mean, std, .. } = *plan;
        Self { height, width, resample, rescale_factor, mean, std }
    }
}
