//! A classifier's head as ONNX nodes: the counterpart of `models/head.rs`. All f32: it is small.

use super::builder::{Graph, Layout, Value};
use super::features::Features;
use super::initializer::Kind;
use super::layers::activate;
use super::proto::Attribute;
use super::weights::Weights;
use crate::calibration::Calibration;
use crate::models::layers::Activation;
use crate::models::{Checkpoint, Pooling};

/// Which features the head in a checkpoint looks at, and the width of its layer between.
///
/// # Errors
/// If it is no head for features of that size.
pub(super) fn shape(
    checkpoint: &Checkpoint,
    hidden_size: usize,
) -> anyhow::Result<(Pooling, usize)> {
    match checkpoint.shape("fc1.weight") {
        Some(&[width, inputs]) => Ok((Pooling::from_width(inputs, hidden_size)?, width)),
        found => anyhow::bail!(
            "head.safetensors: `fc1.weight` should be a matrix, found {}",
            found.map_or("no such tensor".to_owned(), |shape| format!("the shape {shape:?}"))
        ),
    }
}

/// From features to logits `[batch]`.
///
/// # Errors
/// If the weights are not those of a head for these features.
pub(super) fn logits(
    graph: &mut Graph,
    features: &Features,
    weights: &Weights,
) -> anyhow::Result<Value> {
    let (pooling, width) = shape(&weights.checkpoint(), features.hidden_size)?;
    let pooled = pool(graph, features, pooling);
    let inputs = pooling.width(features.hidden_size);
    let hidden = dense(graph, &pooled, &weights.pp("fc1"), (inputs, width))?;
    let hidden = activate(graph, &hidden, Activation::Gelu)?;
    let logits = dense(graph, &hidden, &weights.pp("fc2"), (width, 1))?;
    let axis = graph.integers(&[1]);
    Ok(graph.binary("Squeeze", &logits, &axis))
}

/// From logits to probabilities; without a calibration, their sigmoid.
///
/// # Errors
/// If the calibration is not finite.
pub(super) fn probability(
    graph: &mut Graph,
    logits: &Value,
    calibration: Option<Calibration>,
) -> anyhow::Result<Value> {
    let mut logits = logits.clone();
    if let Some(Calibration { scale, shift }) = calibration {
        let (scale, shift) = (graph.number(scale, &logits)?, graph.number(shift, &logits)?);
        logits = graph.binary("Mul", &logits, &scale);
        logits = graph.binary("Add", &logits, &shift);
    }
    Ok(graph.node("Sigmoid", &[&logits], Vec::new()))
}

/// `[batch, width]`.
fn pool(graph: &mut Graph, features: &Features, pooling: Pooling) -> Value {
    let reduced: &[&str] = match pooling {
        Pooling::Cls => return features.cls.clone(),
        Pooling::ClsMean => &["ReduceMean"],
        Pooling::ClsMeanMax => &["ReduceMean", "ReduceMax"],
    };
    let mut parts = vec![features.cls.clone()];
    for op in reduced {
        let over = vec![Attribute::ints("axes", &[1]), Attribute::int("keepdims", 0)];
        parts.push(graph.node(op, &[&features.patches], over));
    }
    let parts: Vec<&Value> = parts.iter().collect();
    graph.node("Concat", &parts, vec![Attribute::int("axis", 1)])
}

/// A layer with a bias over a matrix.
fn dense(
    graph: &mut Graph,
    x: &Value,
    weights: &Weights,
    (inputs, outputs): (usize, usize),
) -> anyhow::Result<Value> {
    let form = (Kind::F32, Layout::AsStored);
    let weight = graph.weight(weights, "weight", form, &[outputs, inputs])?;
    let bias = graph.weight(weights, "bias", form, &[outputs])?;
    Ok(graph.node("Gemm", &[x, &weight, &bias], vec![Attribute::int("transB", 1)]))
}
