//! DINOv3 vision transformer as ONNX nodes: the counterpart of `models/dinov3.rs`.
//!
//! The size of the pictures is fixed, so the rotary tables are constants. They cover all tokens, with
//! the identity for CLS and registers, which spares cutting them off.

use super::builder::{Graph, Layout, Value};
use super::features::Features;
use super::initializer::Kind;
use super::layers::{Conv, activate, layer_norm, linear, scaled, softmax};
use super::proto::Attribute;
use super::weights::Weights;
use crate::models::dinov3::{Config, angles, roots};
use crate::models::layers::Activation;

/// The network from prepared pixels, in the kind of `pixels`, to its features, in f32.
///
/// # Errors
/// If the weights do not fit the configuration, or the pictures hold no patch.
pub(super) fn vit(
    graph: &mut Graph,
    config: &Config,
    weights: &Weights,
    (pixels, size): (&Value, (usize, usize)),
) -> anyhow::Result<Features> {
    let activation = Activation::from_name(&config.hidden_act)?;
    let (root, layers) = roots(config, weights.place())?;
    let (root, layers) = (weights.at(root), weights.at(layers));
    let (ph, pw) = config.patch_size.sides();
    let (rows, columns) = (size.0 / ph, size.1 / pw);
    anyhow::ensure!(
        rows * columns > 0,
        "dinov3_vit: pictures of {} by {} pixels hold no patch of {ph} by {pw}",
        size.0,
        size.1
    );
    let d = config.hidden_size;
    let mut x = graph.within("embeddings", |graph| {
        embed(graph, config, &root.pp("embeddings"), (pixels, rows * columns))
    })?;
    let rope = Rope::new(graph, config, (rows, columns), x.kind)?;
    let network = Network { config, activation, rope };
    for i in 0..config.num_hidden_layers {
        let block = layers.pp(i);
        x = graph.within(format!("layer.{i}"), |graph| network.block(graph, &x, &block))?;
    }
    let x = graph.cast(&x, Kind::F32);
    let x = layer_norm(graph, &x, &root.pp("norm"), (d, config.layer_norm_eps))?;
    Ok(Features::cut(graph, &x, 1 + config.num_register_tokens, d))
}

/// CLS, registers, patches row by row: `[batch, tokens, hidden]`.
fn embed(
    graph: &mut Graph,
    config: &Config,
    weights: &Weights,
    (pixels, patches): (&Value, usize),
) -> anyhow::Result<Value> {
    let (d, registers) = (config.hidden_size, config.num_register_tokens);
    let (ph, pw) = config.patch_size.sides();
    let conv = Conv { shape: [d, 3, ph, pw], stride: [ph, pw], padding: 0, groups: 1 };
    let map = conv.over(graph, pixels, &weights.pp("patch_embeddings"))?;
    let flat = graph.reshape(&map, &[0, d as i64, patches as i64]);
    let tokens = graph.transpose(&flat, &[0, 2, 1]);

    let form = (pixels.kind, Layout::AsStored);
    let mut prefix = graph.weight(weights, "cls_token", form, &[1, 1, d])?;
    let along_tokens = || vec![Attribute::int("axis", 1)];
    if registers > 0 {
        let registers = graph.weight(weights, "register_tokens", form, &[1, registers, d])?;
        prefix = graph.node("Concat", &[&prefix, &registers], along_tokens());
    }
    let first = vec![Attribute::int("start", 0), Attribute::int("end", 1)];
    let batch = Value { kind: Kind::I64, ..graph.node("Shape", &[&tokens], first) };
    let ones = graph.integers(&[1, 1]);
    let shape = graph.node("Concat", &[&batch, &ones], vec![Attribute::int("axis", 0)]);
    let prefix = graph.binary("Expand", &prefix, &shape);
    Ok(graph.node("Concat", &[&prefix, &tokens], along_tokens()))
}

/// The rotation of every token, `[tokens, head size]` each.
struct Rope {
    cos: Value,
    sin: Value,
}

impl Rope {
    fn new(
        graph: &mut Graph,
        config: &Config,
        grid: (usize, usize),
        kind: Kind,
    ) -> anyhow::Result<Self> {
        let (d, prefix) = (config.head_dim(), 1 + config.num_register_tokens);
        let angles = angles(config, grid);
        let dims = vec![prefix + grid.0 * grid.1, d];
        let table = |f: fn(f32) -> f32| {
            let still = std::iter::repeat_n(f(0.0), prefix * d);
            still.chain(angles.iter().map(|angle| f(*angle))).collect::<Vec<_>>()
        };
        Ok(Self {
            cos: graph.table("rope.cos", (dims.clone(), kind), &table(f32::cos))?,
            sin: graph.table("rope.sin", (dims, kind), &table(f32::sin))?,
        })
    }

    /// Turns `x` `[batch, heads, tokens, head size]`; the first half of a head is paired with the
    /// second.
    fn turn(&self, graph: &mut Graph, x: &Value, head_dim: usize) -> Value {
        let (low, high) = graph.halves(x, 3, head_dim / 2);
        let high = graph.node("Neg", &[&high], Vec::new());
        let crossed = graph.node("Concat", &[&high, &low], vec![Attribute::int("axis", 3)]);
        let along = graph.binary("Mul", x, &self.cos);
        let across = graph.binary("Mul", &crossed, &self.sin);
        graph.binary("Add", &along, &across)
    }
}

/// What all blocks share.
struct Network<'a> {
    config: &'a Config,
    activation: Activation,
    rope: Rope,
}

impl Network<'_> {
    /// `[batch, tokens, hidden]` to the same shape.
    fn block(&self, graph: &mut Graph, x: &Value, weights: &Weights) -> anyhow::Result<Value> {
        let (d, eps) = (self.config.hidden_size, self.config.layer_norm_eps);
        let y = layer_norm(graph, x, &weights.pp("norm1"), (d, eps))?;
        let y = graph
            .within("attention", |graph| self.attention(graph, &y, &weights.pp("attention")))?;
        let y = scaled(graph, &y, &weights.pp("layer_scale1"), ("lambda1", d))?;
        let x = graph.binary("Add", &y, x);
        let y = layer_norm(graph, &x, &weights.pp("norm2"), (d, eps))?;
        let y = graph.within("mlp", |graph| self.mlp(graph, &y, &weights.pp("mlp")))?;
        let y = scaled(graph, &y, &weights.pp("layer_scale2"), ("lambda1", d))?;
        Ok(graph.binary("Add", &y, &x))
    }

    fn attention(&self, graph: &mut Graph, x: &Value, weights: &Weights) -> anyhow::Result<Value> {
        let Config { hidden_size: d, query_bias, key_bias, value_bias, proj_bias, .. } =
            self.config;
        let d = *d;
        let q = self.heads(graph, x, (&weights.pp("q_proj"), *query_bias))?;
        let k = self.heads(graph, x, (&weights.pp("k_proj"), *key_bias))?;
        let v = self.heads(graph, x, (&weights.pp("v_proj"), *value_bias))?;
        let head_dim = self.config.head_dim();
        let q = self.rope.turn(graph, &q, head_dim);
        let k = self.rope.turn(graph, &k, head_dim);
        // Before the product, which in f16 might not hold it otherwise.
        let scale = graph.number((head_dim as f64).powf(-0.5) as f32, x)?;
        let q = graph.binary("Mul", &q, &scale);
        let k = graph.transpose(&k, &[0, 1, 3, 2]);
        let scores = graph.binary("MatMul", &q, &k);
        let shares = softmax(graph, &scores);
        let mixed = graph.binary("MatMul", &shares, &v);
        let mixed = graph.transpose(&mixed, &[0, 2, 1, 3]);
        let mixed = graph.reshape(&mixed, &[0, 0, d as i64]);
        linear(graph, &mixed, &weights.pp("o_proj"), (d, d), *proj_bias)
    }

    /// `[batch, tokens, hidden]` through a layer to `[batch, heads, tokens, head size]`.
    fn heads(
        &self,
        graph: &mut Graph,
        x: &Value,
        (weights, bias): (&Weights, bool),
    ) -> anyhow::Result<Value> {
        let Config { hidden_size: d, num_attention_heads: heads, .. } = self.config;
        let y = linear(graph, x, weights, (*d, *d), bias)?;
        let split = graph.reshape(&y, &[0, 0, *heads as i64, self.config.head_dim() as i64]);
        Ok(graph.transpose(&split, &[0, 2, 1, 3]))
    }

    fn mlp(&self, graph: &mut Graph, x: &Value, weights: &Weights) -> anyhow::Result<Value> {
        let Config { hidden_size: d, intermediate_size: wide, mlp_bias: bias, .. } = self.config;
        let up = linear(graph, x, &weights.pp("up_proj"), (*d, *wide), *bias)?;
        let y = if self.config.use_gated_mlp {
            let gate = linear(graph, x, &weights.pp("gate_proj"), (*d, *wide), *bias)?;
            let gate = activate(graph, &gate, self.activation)?;
            graph.binary("Mul", &gate, &up)
        } else {
            activate(graph, &up, self.activation)?
        };
        linear(graph, &y, &weights.pp("down_proj"), (*wide, *d), *bias)
    }
}
