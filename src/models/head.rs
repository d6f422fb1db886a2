//! The head of a classifier: features in, one logit per image out.
//!
//! `fc2(gelu(fc1(pooled features)))`, the error-function GELU between, as `head.safetensors` has
//! it: `fc1.{weight[h, in], bias[h]}`, `fc2.{weight[1, h], bias[1]}`. Which features are pooled
//! follows from `in` (see [`Pooling`]). The layout is this project's own.
//!
//! Must not know: which encoder made the features, or which threshold the score meets.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::layers::{Activation, Linear, differentiable};
use super::{Features, ModelError, ModelFiles};

/// Which features a head looks at; `D` is the encoder's hidden size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// CLS alone: `D` values.
    Cls,
    /// CLS, then the mean over the patches: `2 D` values.
    ClsMean,
    /// CLS, then the mean, then the maximum over the patches: `3 D` values.
    ClsMeanMax,
}

impl Pooling {
    /// Tells the pooling by the width of `fc1`.
    pub fn from_width(inputs: usize, hidden_size: usize) -> std::result::Result<Self, ModelError> {
        for pooling in [Self::Cls, Self::ClsMean, Self::ClsMeanMax] {
            if pooling.width(hidden_size) == inputs {
                return Ok(pooling);
            }
        }
        let d = hidden_size;
        Err(ModelError::config(format!(
            "the head's fc1 takes {inputs} values, but the encoder's hidden size is {d}: expected \
             {d} (CLS), {} (CLS, mean of patches) or {} (CLS, mean and maximum of patches)",
            2 * d,
            3 * d
        )))
    }

    /// Number of values for an encoder of that hidden size.
    pub fn width(self, hidden_size: usize) -> usize {
        hidden_size
            * match self {
                Self::Cls => 1,
                Self::ClsMean => 2,
                Self::ClsMeanMax => 3,
            }
    }

    /// `[batch, width]`. Differentiable.
    pub fn pool(self, features: &Features) -> Result<Tensor> {
        let Features { cls, patches } = features;
        match self {
            Self::Cls => Ok(cls.clone()),
            Self::ClsMean => Tensor::cat(&[cls, &patches.mean(1)?], D::Minus1),
            Self::ClsMeanMax => Tensor::cat(&[cls, &patches.mean(1)?, &patches.max(1)?], D::Minus1),
        }
    }
}

/// Two linear layers. Cloning shares the weights.
#[derive(Clone, Debug)]
pub struct Head {
    pooling: Pooling,
    fc1: Linear,
    fc2: Linear,
}

impl Head {
    /// A head of known sizes over the tensors of `vb`; with variables, a new one to train.
    pub fn new(
        pooling: Pooling,
        hidden_size: usize,
        width: usize,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        let linear = |name: &str, inputs: usize, outputs: usize| {
            let vb = vb.pp(name);
            let stdev = 1.0 / (inputs as f64).sqrt();
            let init = Init::Randn { mean: 0.0, stdev };
            let weight = vb.get_with_hints((outputs, inputs), "weight", init)?;
            let bias = vb.get_with_hints(outputs, "bias", Init::Const(0.0))?;
            Ok::<_, candle_core::Error>(Linear::from_tensors(weight, Some(bias)))
        };
        let fc1 = linear("fc1", pooling.width(hidden_size), width)?;
        Ok(Self { pooling, fc1, fc2: linear("fc2", width, 1)? })
    }

    /// Reads `head.safetensors`; all sizes come from the file.
    pub fn load(files: &ModelFiles, hidden_size: usize) -> std::result::Result<Self, ModelError> {
        let checkpoint = files.checkpoint("head")?;
        let name = files.label("head.safetensors");
        let (width, inputs) = match checkpoint.shape("fc1.weight") {
            Some(&[width, inputs]) => (width, inputs),
            _ => checkpoint.tensor("fc1.weight", None, &Device::Cpu)?.dims2()?,
        };
        let pooling = Pooling::from_width(inputs, hidden_size)
            .map_err(|error| ModelError::config(format!("{name}: {error}")))?;
        Ok(Self::new(pooling, hidden_size, width, checkpoint.var_builder(&Device::Cpu))?)
    }

    /// Which features this head looks at.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Width of the layer between.
    pub fn width(&self) -> usize {
        self.fc1.weight().dim(0).unwrap_or(0)
    }

    /// `[batch]` logits; the probability of roadwork is their sigmoid.
    pub fn forward(&self, features: &Features) -> Result<Tensor> {
        self.forward_with(&self.pooling.pool(features)?, Ok)
    }

    /// From pooled features `[batch, width]` to `[batch]` logits, with a step between the layers:
    /// training passes its dropout.
    pub fn forward_with(
        &self,
        pooled: &Tensor,
        between: impl FnOnce(Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let pooled =
            if differentiable(&[pooled]) { pooled.clone() } else { pooled.contiguous()? };
        let hidden = self.fc1.forward_act(&pooled, Activation::Gelu)?;
        self.fc2.forward(&between(hidden)?)?.squeeze(D::Minus1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_tells_the_pooling() {
        assert_eq!(Pooling::from_width(8, 8).unwrap(), Pooling::Cls);
        assert_eq!(Pooling::from_width(16, 8).unwrap(), Pooling::ClsMean);
        assert_eq!(Pooling::from_width(24, 8).unwrap(), Pooling::ClsMeanMax);
        let error = Pooling::from_width(9, 8).unwrap_err().to_string();
        for part in ["9 values", "8 (CLS)", "16 (CLS, mean", "24 (CLS, mean and maximum"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn pools_in_the_order_that_it_says() {
        let tensor = |values: &[f32], shape: &[usize]| {
            Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
        };
        let features = Features {
            cls: tensor(&[1.0, 2.0], &[1, 2]),
            patches: tensor(&[3.0, -8.0, 5.0, 4.0], &[1, 2, 2]),
        };
        let pooled = Pooling::ClsMeanMax.pool(&features).unwrap();
        let values: Vec<Vec<f32>> = pooled.to_vec2().unwrap();
        assert_eq!(values, [[1.0, 2.0, 4.0, -2.0, 5.0, 4.0]]);
    }
}
