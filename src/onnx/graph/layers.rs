//! The pieces that the networks share, as ONNX nodes: the counterpart of `models/layers.rs`.
//!
//! A piece computes in the kind of its input. Layer norms keep their statistics in f32 by ONNX's own
//! definition (`stash_type`), softmax is cast.

use super::builder::{Graph, Layout, Value};
use super::initializer::Kind;
use super::proto::Attribute;
use super::weights::Weights;
use crate::models::layers::Activation;

/// `x W^T + b` over the last dimension of a tensor of any rank.
pub(super) fn linear(
    graph: &mut Graph,
    x: &Value,
    weights: &Weights,
    (inputs, outputs): (usize, usize),
    bias: bool,
) -> anyhow::Result<Value> {
    let form = (x.kind, Layout::Transposed);
    let weight = graph.weight(weights, "weight", form, &[outputs, inputs])?;
    let y = graph.binary("MatMul", x, &weight);
    if !bias {
        return Ok(y);
    }
    let bias = graph.weight(weights, "bias", (x.kind, Layout::AsStored), &[outputs])?;
    Ok(graph.binary("Add", &y, &bias))
}

/// Layer norm over the last dimension.
pub(super) fn layer_norm(
    graph: &mut Graph,
    x: &Value,
    weights: &Weights,
    (size, eps): (usize, f64),
) -> anyhow::Result<Value> {
    let form = (x.kind, Layout::AsStored);
    let scale = graph.weight(weights, "weight", form, &[size])?;
    let shift = graph.weight(weights, "bias", form, &[size])?;
    let with = vec![Attribute::int("axis", -1), Attribute::float("epsilon", eps as f32)];
    Ok(graph.node("LayerNormalization", &[x, &scale, &shift], with))
}

/// A convolution without overlap or with the padding that keeps the size.
pub(super) struct Conv {
    /// Channels out, channels in of each group, height and width of the filter.
    pub(super) shape: [usize; 4],
    pub(super) stride: [usize; 2],
    pub(super) padding: usize,
    pub(super) groups: usize,
}

impl Conv {
    /// Over `x` `[batch, channels, height, width]`, with a bias.
    pub(super) fn over(
        &self,
        graph: &mut Graph,
        x: &Value,
        weights: &Weights,
    ) -> anyhow::Result<Value> {
        let form = (x.kind, Layout::AsStored);
        let weight = graph.weight(weights, "weight", form, &self.shape)?;
        let bias = graph.weight(weights, "bias", form, &self.shape[..1])?;
        let sides = |sides: &[usize]| sides.iter().map(|side| *side as i64).collect::<Vec<_>>();
        let with = vec![
            Attribute::ints("kernel_shape", &sides(&self.shape[2..])),
            Attribute::ints("strides", &sides(&self.stride)),
            Attribute::ints("pads", &[self.padding as i64; 4]),
            Attribute::int("group", self.groups as i64),
        ];
        Ok(graph.node("Conv", &[x, &weight, &bias], with))
    }
}

/// An activation, of operators that every opset since 13 has.
pub(super) fn activate(
    graph: &mut Graph,
    x: &Value,
    activation: Activation,
) -> anyhow::Result<Value> {
    match activation {
        Activation::Relu => Ok(graph.node("Relu", &[x], Vec::new())),
        Activation::Silu => {
            let gate = graph.node("Sigmoid", &[x], Vec::new());
            Ok(graph.binary("Mul", x, &gate))
        }
        Activation::Gelu => {
            let root = graph.number(std::f32::consts::SQRT_2, x)?;
            let scaled = graph.binary("Div", x, &root);
            let erf = graph.node("Erf", &[&scaled], Vec::new());
            half_of_one_more(graph, x, &erf)
        }
        Activation::GeluTanh => {
            let [cubic, factor] = [0.044715, (2.0 / std::f32::consts::PI).sqrt()];
            let (cubic, factor) = (graph.number(cubic, x)?, graph.number(factor, x)?);
            let square = graph.binary("Mul", x, x);
            let cube = graph.binary("Mul", &square, x);
            let cube = graph.binary("Mul", &cube, &cubic);
            let inner = graph.binary("Add", x, &cube);
            let inner = graph.binary("Mul", &inner, &factor);
            let tanh = graph.node("Tanh", &[&inner], Vec::new());
            half_of_one_more(graph, x, &tanh)
        }
    }
}

/// `x * (1 + y) / 2`, in the order that runtimes know a GELU by.
fn half_of_one_more(graph: &mut Graph, x: &Value, y: &Value) -> anyhow::Result<Value> {
    let (one, half) = (graph.number(1.0, x)?, graph.number(0.5, x)?);
    let more = graph.binary("Add", y, &one);
    let product = graph.binary("Mul", x, &more);
    Ok(graph.binary("Mul", &product, &half))
}

/// Softmax over the last dimension, computed in f32.
pub(super) fn softmax(graph: &mut Graph, x: &Value) -> Value {
    let wide = graph.cast(x, Kind::F32);
    let weights = graph.node("Softmax", &[&wide], vec![Attribute::int("axis", -1)]);
    graph.cast(&weights, x.kind)
}

/// `y` times the weight `leaf`, one factor per channel of the last dimension.
pub(super) fn scaled(
    graph: &mut Graph,
    y: &Value,
    weights: &Weights,
    (leaf, size): (&str, usize),
) -> anyhow::Result<Value> {
    let scale = graph.weight(weights, leaf, (y.kind, Layout::AsStored), &[size])?;
    Ok(graph.binary("Mul", y, &scale))
}
