//! An encoder of any supported kind: pixels in, features out.
//!
//! `config.json` says which kind. A new kind is one more variant here and one file beside.
//!
//! Must not know: heads, thresholds, what the features mean.

use candle_core::{Device, Result, Tensor};
use candle_nn::VarBuilder;
use serde::Deserialize;

use super::{ModelError, ModelFiles, convnext, dinov3};

/// What an encoder says of a batch. f32.
#[derive(Clone, Debug)]
pub struct Features {
    /// `[batch, hidden]`: one vector for the whole image (transformers' `pooler_output`).
    pub cls: Tensor,
    /// `[batch, patches, hidden]`: one vector per place, row by row; no CLS, no registers.
    pub patches: Tensor,
}

/// The configuration of an encoder, as its `config.json` has it.
#[derive(Clone, Debug, PartialEq)]
pub enum EncoderConfig {
    /// `model_type` `dinov3_vit`.
    Dinov3Vit(dinov3::Config),
    /// `model_type` `dinov3_convnext`.
    Dinov3ConvNext(convnext::Config),
}

impl EncoderConfig {
    /// Reads the value of a `config.json`.
    pub fn from_json(value: serde_json::Value) -> std::result::Result<Self, ModelError> {
        fn read<T: for<'a> Deserialize<'a>>(
            value: serde_json::Value,
        ) -> std::result::Result<T, ModelError> {
            serde_json::from_value(value).map_err(|error| ModelError::config(error.to_string()))
        }
        match value.get("model_type").and_then(serde_json::Value::as_str) {
            Some("dinov3_vit") => read(value).map(Self::Dinov3Vit),
            Some("dinov3_convnext") => read(value).map(Self::Dinov3ConvNext),
            found => Err(ModelError::config(format!(
                "model_type {} is not an encoder we have; supported are `dinov3_vit` and \
                 `dinov3_convnext`",
                found.map_or("(missing)".into(), |name| format!("`{name}`"))
            ))),
        }
    }

    /// Reads the `config.json` of a model.
    pub fn load(files: &ModelFiles) -> std::result::Result<Self, ModelError> {
        const NAME: &str = "config.json";
        Self::from_json(files.json(NAME)?)
            .map_err(|error| ModelError::config(format!("{}: {error}", files.label(NAME))))
    }
}

/// A network of one of the supported kinds. Cloning shares the weights.
#[derive(Clone, Debug)]
pub enum Encoder {
    /// `model_type` `dinov3_vit`.
    Dinov3Vit(dinov3::VisionTransformer),
    /// `model_type` `dinov3_convnext`.
    Dinov3ConvNext(convnext::ConvNext),
}

impl Encoder {
    /// Builds the network over the tensors of `vb`: loaded ones to infer, variables to train.
    pub fn new(
        config: &EncoderConfig,
        vb: VarBuilder<'_>,
    ) -> std::result::Result<Self, ModelError> {
        match config {
            EncoderConfig::Dinov3Vit(config) => {
                dinov3::VisionTransformer::new(config, vb).map(Self::Dinov3Vit)
            }
            EncoderConfig::Dinov3ConvNext(config) => {
                convnext::ConvNext::new(config, vb).map(Self::Dinov3ConvNext)
            }
        }
    }

    /// Reads `config.json` and `model.safetensors` (or its shards), to infer on the CPU.
    pub fn load(files: &ModelFiles) -> std::result::Result<Self, ModelError> {
        let config = EncoderConfig::load(files)?;
        Self::new(&config, files.checkpoint("model")?.var_builder(&Device::Cpu))
    }

    /// Width of the features.
    pub fn hidden_size(&self) -> usize {
        match self {
            Self::Dinov3Vit(network) => network.hidden_size(),
            Self::Dinov3ConvNext(network) => network.hidden_size(),
        }
    }

    /// `pixels` `[batch, 3, height, width]`, prepared by the model's
    /// [`Preprocessor`](super::Preprocessor).
    pub fn forward(&self, pixels: &Tensor) -> Result<Features> {
        self.forward_tapped(pixels, Tap::off())
    }

    /// Like [`forward`](Self::forward), and shows what happens inside. With a tap the steps are
    /// not fused, so results may differ in the last bits.
    pub fn forward_tapped(&self, pixels: &Tensor, tap: Tap<'_>) -> Result<Features> {
        match self {
            Self::Dinov3Vit(network) => network.forward(pixels, tap),
            Self::Dinov3ConvNext(network) => network.forward(pixels, tap),
        }
    }
}

/// Receives a name and a tensor.
pub type Listener<'a> = dyn FnMut(&str, &Tensor) + 'a;

/// Where a network shows its intermediate results, for tests and for the lab. Usually off.
pub struct Tap<'a> {
    listener: Option<&'a mut Listener<'a>>,
    prefix: String,
}

impl<'a> Tap<'a> {
    /// Shows nothing and costs nothing.
    pub fn off() -> Self {
        Self { listener: None, prefix: String::new() }
    }

    /// Calls `listener` with each tensor and its name.
    pub fn on(listener: &'a mut Listener<'a>) -> Self {
        Self { listener: Some(listener), prefix: String::new() }
    }

    /// True if somebody listens.
    pub fn is_on(&self) -> bool {
        self.listener.is_some()
    }

    /// A tap for a part of the network: its names begin with `name` and a dot.
    pub(crate) fn below(&mut self, name: impl FnOnce() -> String) -> Tap<'_> {
        match &mut self.listener {
            None => Tap::off(),
            Some(listener) => {
                let listener: &mut Listener<'_> = &mut **listener;
                let prefix = format!("{}{}.", self.prefix, name());
                Tap { listener: Some(listener), prefix }
            }
        }
    }

    /// Shows a tensor; the name is only made if somebody listens.
    pub(crate) fn see(&mut self, name: impl FnOnce() -> String, tensor: &Tensor) {
        if let Some(listener) = &mut self.listener {
            listener(&format!("{}{}", self.prefix, name()), tensor);
        }
    }
}

/// `vb`, or `vb` below `model.` if the probed tensor is there.
pub(crate) fn rooted<'a>(vb: VarBuilder<'a>, probe: &str) -> VarBuilder<'a> {
    let below = vb.pp("model");
    if !vb.contains_tensor(probe) && below.contains_tensor(probe) { below } else { vb }
}

#[cfg(test)]
mod tests;
