//! DINOv3 ConvNeXt as ONNX nodes: the counterpart of `models/convnext.rs`.
//!
//! Maps are channels first, as ONNX's convolutions want them; norms and pointwise layers see them
//! channels last.

use super::builder::{Graph, Value};
use super::features::Features;
use super::initializer::Kind;
use super::layers::{Conv, activate, layer_norm, linear, scaled};
use super::proto::Attribute;
use super::weights::Weights;
use crate::models::convnext::{Config, DOWN, FILTER, STEM, roots};
use crate::models::layers::Activation;

const TO_CHANNELS_LAST: [i64; 4] = [0, 2, 3, 1];
const TO_CHANNELS_FIRST: [i64; 4] = [0, 3, 1, 2];

/// The network from prepared pixels, in the kind of `pixels`, to its features, in f32.
///
/// # Errors
/// If the weights do not fit the configuration, or the pictures are too small.
pub(super) fn convnext(
    graph: &mut Graph,
    config: &Config,
    weights: &Weights,
    (pixels, (height, width)): (&Value, (usize, usize)),
) -> anyhow::Result<Features> {
    let activation = Activation::from_name(&config.hidden_act)?;
    let (stages, norm) = roots(config, weights.place())?;
    let (stages, norm) = (weights.at(stages), weights.at(norm));
    let min = config.side_min();
    anyhow::ensure!(
        height >= min && width >= min,
        "dinov3_convnext: pictures of {height} by {width} pixels are smaller than {min} by {min}"
    );
    let network = Network { config, activation };
    let mut x = pixels.clone();
    for i in 0..config.hidden_sizes.len() {
        let stage = stages.pp(i);
        x = graph.within(format!("stage.{i}"), |graph| network.stage(graph, &x, &stage, i))?;
    }
    let hidden_size = config.hidden_sizes[config.hidden_sizes.len() - 1];
    let x = graph.cast(&x, Kind::F32);
    let x = graph.transpose(&x, &TO_CHANNELS_LAST);
    let x = graph.reshape(&x, &[0, -1, hidden_size as i64]);
    let over_places = vec![Attribute::ints("axes", &[1]), Attribute::int("keepdims", 1)];
    let mean = graph.node("ReduceMean", &[&x], over_places);
    let x = graph.node("Concat", &[&mean, &x], vec![Attribute::int("axis", 1)]);
    let x = layer_norm(graph, &x, &norm, (hidden_size, config.layer_norm_eps))?;
    Ok(Features::cut(graph, &x, 1, hidden_size))
}

/// What all stages share.
struct Network<'a> {
    config: &'a Config,
    activation: Activation,
}

impl Network<'_> {
    /// `[batch, channels, height, width]` to the same with other sizes.
    fn stage(
        &self,
        graph: &mut Graph,
        x: &Value,
        weights: &Weights,
        index: usize,
    ) -> anyhow::Result<Value> {
        let (c, depth) = (self.config.hidden_sizes[index], self.config.depths[index]);
        let downsample = weights.pp("downsample_layers");
        let (norm, conv) =
            (downsample.pp(usize::from(index == 0)), downsample.pp(usize::from(index > 0)));
        let mut x = if index == 0 {
            let conv_out = tiles(3, c, STEM).over(graph, x, &conv)?;
            self.norm(graph, &conv_out, &norm, c)?
        } else {
            let before = self.config.hidden_sizes[index - 1];
            let normed = self.norm(graph, x, &norm, before)?;
            tiles(before, c, DOWN).over(graph, &normed, &conv)?
        };
        let layers = weights.pp("layers");
        for j in 0..depth {
            let block = layers.pp(j);
            x = graph.within(format!("layer.{j}"), |graph| self.block(graph, &x, &block, c))?;
        }
        Ok(x)
    }

    /// Layer norm over the channels of a map that has them first.
    fn norm(
        &self,
        graph: &mut Graph,
        x: &Value,
        weights: &Weights,
        channels: usize,
    ) -> anyhow::Result<Value> {
        let x = graph.transpose(x, &TO_CHANNELS_LAST);
        let x = layer_norm(graph, &x, weights, (channels, self.config.layer_norm_eps))?;
        Ok(graph.transpose(&x, &TO_CHANNELS_FIRST))
    }

    fn block(
        &self,
        graph: &mut Graph,
        x: &Value,
        weights: &Weights,
        c: usize,
    ) -> anyhow::Result<Value> {
        let padding = FILTER / 2;
        let conv = Conv { shape: [c, 1, FILTER, FILTER], stride: [1, 1], padding, groups: c };
        let y = conv.over(graph, x, &weights.pp("depthwise_conv"))?;
        let y = graph.transpose(&y, &TO_CHANNELS_LAST);
        let y = layer_norm(graph, &y, &weights.pp("layer_norm"), (c, self.config.layer_norm_eps))?;
        let y = linear(graph, &y, &weights.pp("pointwise_conv1"), (c, 4 * c), true)?;
        let y = activate(graph, &y, self.activation)?;
        let y = linear(graph, &y, &weights.pp("pointwise_conv2"), (4 * c, c), true)?;
        let y = scaled(graph, &y, weights, ("gamma", c))?;
        let y = graph.transpose(&y, &TO_CHANNELS_FIRST);
        Ok(graph.binary("Add", &y, x))
    }
}

/// A convolution over tiles that do not overlap.
fn tiles(inputs: usize, outputs: usize, side: usize) -> Conv {
    Conv { shape: [outputs, inputs, side, side], stride: [side, side], padding: 0, groups: 1 }
}
