//! The pieces that the networks share, each in two forms.
//!
//! candle-nn's fused layer norm and softmax have no backward pass and stop gradients without a
//! word, so a network that trains must not use them. Each piece here asks [`differentiable`] and
//! takes candle's elementary operations if a gradient may flow, and [`crate::kernels::fused`]
//! otherwise. Both forms give the same numbers to rounding.
//!
//! Must not know: which network it is part of.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::ModelError;
use crate::kernels::fused::{self, Act};

/// True if the fused forms must not be used: a gradient may flow, or the tensors are not f32 on
/// the CPU.
pub fn differentiable(tensors: &[&Tensor]) -> bool {
    tensors.iter().any(|t| t.track_op() || !t.device().is_cpu() || t.dtype() != DType::F32)
}

/// How new weights are drawn when a network is built to be trained (loaded ones ignore this).
pub(crate) const WEIGHT_INIT: Init = Init::Randn { mean: 0.0, stdev: 0.02 };

/// An activation function, by the names of transformers' `ACT2FN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `gelu`: with the error function.
    Gelu,
    /// `gelu_new`, `gelu_pytorch_tanh`, `gelu_fast`: the tanh approximation.
    GeluTanh,
    /// `silu`, `swish`.
    Silu,
    /// `relu`.
    Relu,
}

impl Activation {
    /// Reads the name in a `hidden_act`.
    pub fn from_name(name: &str) -> std::result::Result<Self, ModelError> {
        match name {
            "gelu" | "gelu_python" => Ok(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Self::GeluTanh),
            "silu" | "swish" => Ok(Self::Silu),
            "relu" => Ok(Self::Relu),
            other => Err(ModelError::config(format!(
                "hidden_act `{other}` is not supported; supported are gelu, gelu_new, \
                 gelu_pytorch_tanh, silu, relu"
            ))),
        }
    }

    /// Applies the function to every value. Differentiable.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gelu => x.gelu_erf(),
            Self::GeluTanh => x.gelu(),
            Self::Silu => x.silu(),
            Self::Relu => x.relu(),
        }
    }

    /// The fused form, if there is one.
    pub fn fused(self) -> Option<Act> {
        match self {
            Self::Gelu => Some(Act::Gelu),
            Self::Silu => Some(Act::Silu),
            Self::GeluTanh | Self::Relu => None,
        }
    }
}

/// `y = x W^T + b`: weight `[out, in]`, bias `[out]` or none.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Takes `weight` and, if the configuration says so, `bias` from `vb`.
    pub fn new(vb: VarBuilder<'_>, inputs: usize, outputs: usize, bias: bool) -> Result<Self> {
        let weight = vb.get_with_hints((outputs, inputs), "weight", WEIGHT_INIT)?;
        let bias =
            bias.then(|| vb.get_with_hints(outputs, "bias", Init::Const(0.0))).transpose()?;
        Ok(Self { weight, bias })
    }

    /// A layer over given tensors.
    pub fn from_tensors(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// `[out, in]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `[out]`, if the layer has one.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The bias, or zeros.
    pub fn bias_or_zeros(&self) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => Ok(bias.clone()),
            None => Tensor::zeros(self.weight.dim(0)?, self.weight.dtype(), self.weight.device()),
        }
    }

    /// `x W^T` alone: one matrix product whatever the shape `[.., in]` of `x`; the result is new
    /// and contiguous.
    pub fn product(&self, x: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = self.weight.dims2()?;
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        x.reshape(((), inputs))?.matmul(&self.weight.t()?)?.reshape(shape)
    }

    /// `[.., in]` to `[.., out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.product(x)?;
        match &self.bias {
            None => Ok(y),
            Some(bias) if differentiable(&[&y, bias]) => y.broadcast_add(bias),
            Some(bias) => {
                fused::bias_act_in_place(&y, bias, Act::Identity)?;
                Ok(y)
            }
        }
    }

    /// `activation(forward(x))`.
    pub fn forward_act(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let y = self.product(x)?;
        match (activation.fused(), &self.bias) {
            (Some(act), Some(bias)) if !differentiable(&[&y, bias]) => {
                fused::bias_act_in_place(&y, bias, act)?;
                Ok(y)
            }
            (_, Some(bias)) => activation.forward(&y.broadcast_add(bias)?),
            (_, None) => activation.forward(&y),
        }
    }
}

/// Layer norm over the last dimension.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Takes `weight` and `bias`, both `[size]`, from `vb`.
    pub fn new(vb: VarBuilder<'_>, size: usize, eps: f64) -> Result<Self> {
        let weight = vb.get_with_hints(size, "weight", Init::Const(1.0))?;
        let bias = vb.get_with_hints(size, "bias", Init::Const(0.0))?;
        Ok(Self { weight, bias, eps })
    }

    /// `[.., size]` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if !differentiable(&[x, &self.weight, &self.bias]) {
            return fused::layer_norm(&x.contiguous()?, &self.weight, &self.bias, self.eps as f32);
        }
        let centered = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centered.sqr()?.mean_keepdim(D::Minus1)?;
        let x = centered.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        x.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// `softmax(scale * x)` over the last dimension. The fused form overwrites `x`, so it takes it.
pub fn softmax(x: Tensor, scale: f64) -> Result<Tensor> {
    if differentiable(&[&x]) {
        return candle_nn::ops::softmax(&(x * scale)?, D::Minus1);
    }
    fused::softmax_in_place(&x, scale as f32)?;
    Ok(x)
}

/// `residual + scale * y`, `scale` per channel: what ends a block of every network here.
///
/// Holds what the fused form needs beside the layer whose product it finishes.
#[derive(Clone, Debug)]
pub struct ScaledResidual {
    scale: Tensor,
    /// `[2, n]`: the scale, and the scale times the bias of the layer before.
    affine: Option<Tensor>,
}

impl ScaledResidual {
    /// `last` is the layer whose output is scaled.
    pub fn new(scale: Tensor, last: &Linear) -> Result<Self> {
        let affine = if differentiable(&[&scale, last.weight()]) {
            None
        } else {
            let shift = (&scale * last.bias_or_zeros()?)?;
            Some(Tensor::stack(&[&scale, &shift], 0)?)
        };
        Ok(Self { scale, affine })
    }

    /// `residual + scale * y`, from the finished output `y` of the last layer.
    pub fn add(&self, y: &Tensor, residual: &Tensor) -> Result<Tensor> {
        y.broadcast_mul(&self.scale)? + residual
    }

    /// `residual + scale * last(x)`, fused where that is possible.
    pub fn forward(&self, last: &Linear, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        match &self.affine {
            Some(affine) if !differentiable(&[x, residual]) => {
                let y = last.product(x)?;
                fused::residual_in_place(&y, affine, &residual.contiguous()?)?;
                Ok(y)
            }
            _ => self.add(&last.forward(x)?, residual),
        }
    }
}

/// Cuts an image into tiles: `[b, c, h, w]` to `[b, h / size.0 * (w / size.1), c * size.0 *
/// size.1]`, tiles row by row, values of a tile in the order of a convolution's weight. What does
/// not fill a tile at the right and bottom is left out, as a convolution leaves it out.
pub fn patchify(x: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    let (rows, columns) = (h / size.0, w / size.1);
    x.narrow(2, 0, rows * size.0)?
        .narrow(3, 0, columns * size.1)?
        .reshape(&[b, c, rows, size.0, columns, size.1])?
        .permute(vec![0, 2, 4, 1, 3, 5])?
        .reshape((b, rows * columns, c * size.0 * size.1))
}
