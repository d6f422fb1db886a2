//! DINOv3 vision transformer (`model_type` `dinov3_vit`).
//!
//! Follows `DINOv3ViTModel` of transformers 5.23, inference only where the two differ: no
//! augmentation of the position embedding, no masking (`mask_token` is not read), no drop path.
//! Traps that the parity tests hold: tokens are CLS, registers, patches row by row; RoPE turns only
//! the patches, pairs the first half of a head with the second, and its coordinates are
//! normalised per axis; there is no other position embedding; the final norm is over all tokens.
//!
//! Must not know: how pixels were prepared, or what the features are for.

use std::f32::consts::PI;

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use serde::Deserialize;

use super::ModelError;
use super::encoder::{Features, Tap, rooted};
use super::layers::{
    Activation, LayerNorm, Linear, ScaledResidual, WEIGHT_INIT, differentiable, patchify, softmax,
};
use crate::kernels::fused;

/// The fields of `config.json` that matter here; the defaults are `DINOv3ViTConfig`'s.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Height and width of a patch, in pixels.
    pub patch_size: PatchSize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Width inside an MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Attention heads; each has `hidden_size / num_attention_heads` values, a multiple of 4.
    pub num_attention_heads: usize,
    /// Activation of the MLP.
    pub hidden_act: String,
    /// Epsilon of every layer norm.
    pub layer_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Channels of the input; must be 3.
    pub num_channels: usize,
    /// Whether `q_proj` has a bias.
    pub query_bias: bool,
    /// Whether `k_proj` has a bias.
    pub key_bias: bool,
    /// Whether `v_proj` has a bias.
    pub value_bias: bool,
    /// Whether `o_proj` has a bias.
    pub proj_bias: bool,
    /// Whether the MLP's layers have biases.
    pub mlp_bias: bool,
    /// What layer scales start from when training from nothing.
    pub layerscale_value: f64,
    /// Whether the MLP is gated: `down(act(gate(x)) * up(x))`.
    pub use_gated_mlp: bool,
    /// Tokens between CLS and the patches.
    pub num_register_tokens: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            patch_size: PatchSize::Square(16),
            hidden_size: 384,
            intermediate_size: 1536,
            num_hidden_layers: 12,
            num_attention_heads: 6,
            hidden_act: "gelu".into(),
            layer_norm_eps: 1e-5,
            rope_theta: 100.0,
            num_channels: 3,
            query_bias: true,
            key_bias: false,
            value_bias: true,
            proj_bias: true,
            mlp_bias: true,
            layerscale_value: 1.0,
            use_gated_mlp: false,
            num_register_tokens: 0,
        }
    }
}

/// One number, or height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum PatchSize {
    /// As high as wide.
    Square(usize),
    /// Height, width.
    Sides([usize; 2]),
}

impl PatchSize {
    /// Height and width.
    pub fn sides(self) -> (usize, usize) {
        match self {
            Self::Square(side) => (side, side),
            Self::Sides([height, width]) => (height, width),
        }
    }
}

impl Config {
    /// Width of an attention head.
    pub(crate) fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    fn check(&self) -> std::result::Result<(), ModelError> {
        let Self { hidden_size, num_attention_heads: heads, num_channels, .. } = self;
        let (height, width) = self.patch_size.sides();
        let wrong = if *heads == 0 || !hidden_size.is_multiple_of(*heads) {
            format!("hidden_size {hidden_size} is not a multiple of num_attention_heads {heads}")
        } else if *hidden_size == 0 || !self.head_dim().is_multiple_of(4) {
            format!(
                "the head size {} (hidden_size / num_attention_heads) is not a multiple of 4, \
                 which its two-dimensional RoPE needs",
                self.head_dim()
            )
        } else if *num_channels != 3 {
            format!("num_channels {num_channels} is not supported, only 3 (RGB)")
        } else if height == 0 || width == 0 {
            "patch_size is 0".into()
        } else {
            return Ok(());
        };
        Err(ModelError::config(format!("dinov3_vit: {wrong}")))
    }
}

/// Where the weights are in `vb`: all of them, and the blocks. Checks the configuration.
pub(crate) fn roots<'a>(
    config: &Config,
    vb: VarBuilder<'a>,
) -> std::result::Result<(VarBuilder<'a>, VarBuilder<'a>), ModelError> {
    config.check()?;
    let vb = rooted(vb, "embeddings.cls_token");
    let layers = rooted(vb.clone(), "layer.0.norm1.weight").pp("layer");
    let count = config.num_hidden_layers;
    if layers.contains_tensor(&format!("{count}.norm1.weight")) {
        return Err(ModelError::config(format!(
            "dinov3_vit: num_hidden_layers is {count}, but the weights have a `layer.{count}`"
        )));
    }
    Ok((vb, layers))
}

/// The network. Cloning shares the weights.
#[derive(Clone, Debug)]
pub struct VisionTransformer {
    config: Config,
    activation: Activation,
    cls: Tensor,
    registers: Option<Tensor>,
    patch: Linear,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl VisionTransformer {
    /// Takes the weights from `vb`: `layer.*` as the files on the hub have it, or `model.layer.*`
    /// as transformers 5 has it in memory, everything optionally below `model.`.
    pub fn new(config: &Config, vb: VarBuilder<'_>) -> std::result::Result<Self, ModelError> {
        let activation = Activation::from_name(&config.hidden_act)?;
        let (vb, layers) = roots(config, vb)?;
        let count = config.num_hidden_layers;
        let (d, registers) = (config.hidden_size, config.num_register_tokens);
        let (ph, pw) = config.patch_size.sides();
        let embeddings = vb.pp("embeddings");
        let patch = embeddings.pp("patch_embeddings");
        let weight = patch.get_with_hints((d, 3, ph, pw), "weight", WEIGHT_INIT)?;
        let bias = patch.get_with_hints(d, "bias", Init::Const(0.0))?;
        let registers = (registers > 0)
            .then(|| embeddings.get_with_hints((1, registers, d), "register_tokens", WEIGHT_INIT))
            .transpose()?;
        let blocks = (0..count).map(|i| Block::new(config, activation, layers.pp(i)));
        Ok(Self {
            config: config.clone(),
            activation,
            cls: embeddings.get_with_hints((1, 1, d), "cls_token", WEIGHT_INIT)?,
            registers,
            patch: Linear::from_tensors(weight.reshape((d, 3 * ph * pw))?, Some(bias)),
            blocks: blocks.collect::<Result<_>>()?,
            norm: LayerNorm::new(vb.pp("norm"), d, config.layer_norm_eps)?,
        })
    }

    /// Width of the features.
    pub fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    /// `pixels` `[batch, 3, height, width]`, prepared as the model's preprocessor says; at least
    /// one patch each way. What does not fill a patch at the right and bottom is ignored.
    ///
    /// The tap sees `rope.cos`, `rope.sin` `[patches, head size]`, `embeddings.out`,
    /// `layer.{i}.{attention.out, mlp.out, out}`, `last_hidden_state` `[batch, tokens, hidden]`
    /// and `pooler_output` `[batch, hidden]`.
    pub fn forward(&self, pixels: &Tensor, mut tap: Tap<'_>) -> Result<Features> {
        let (b, channels, height, width) = pixels.dims4()?;
        let (ph, pw) = self.config.patch_size.sides();
        let grid = (height / ph, width / pw);
        if channels != 3 || grid.0 == 0 || grid.1 == 0 {
            candle_core::bail!(
                "dinov3_vit: expected pixels [batch, 3, height >= {ph}, width >= {pw}], found {:?}",
                pixels.dims()
            );
        }
        let rope = Rope::new(&self.config, grid, pixels)?;
        tap.see(|| "rope.cos".into(), &rope.cos);
        tap.see(|| "rope.sin".into(), &rope.sin);

        let d = self.config.hidden_size;
        let patches = self.patch.forward(&patchify(pixels, (ph, pw))?)?;
        let mut parts = vec![self.cls.broadcast_as((b, 1, d))?];
        if let Some(registers) = &self.registers {
            parts.push(registers.broadcast_as((b, registers.dim(1)?, d))?);
        }
        parts.push(patches);
        let mut x = Tensor::cat(&parts, 1)?;
        tap.see(|| "embeddings.out".into(), &x);

        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(
                &x,
                &rope,
                self.activation,
                &mut tap.below(|| format!("layer.{i}")),
            )?;
        }
        let x = self.norm.forward(&x)?;
        tap.see(|| "last_hidden_state".into(), &x);
        let prefix = x.dim(1)? - grid.0 * grid.1;
        let cls = x.narrow(1, 0, 1)?.squeeze(1)?;
        tap.see(|| "pooler_output".into(), &cls);
        Ok(Features { cls, patches: x.narrow(1, prefix, grid.0 * grid.1)? })
    }
}

/// The angles of the rotation, `[patches, head size]` flat: frequencies `theta^(-4 j / head size)`,
/// angles 2 pi coordinate times frequency, the rows' first, then the columns', and that twice.
/// Coordinates are patch centres in -1..1.
pub(crate) fn angles(config: &Config, (rows, columns): (usize, usize)) -> Vec<f32> {
    let d = config.head_dim();
    let frequencies: Vec<f32> = (0..d / 4)
        .map(|j| 1.0 / config.rope_theta.powf((j as f64 * (4.0 / d as f64)) as f32))
        .collect();
    let along = |i: usize, count: usize| {
        let coordinate = 2.0 * ((i as f32 + 0.5) / count as f32) - 1.0;
        frequencies.iter().map(move |frequency| 2.0 * PI * coordinate * frequency)
    };
    let mut all = Vec::with_capacity(rows * columns * d);
    for y in 0..rows {
        for x in 0..columns {
            for _ in 0..2 {
                all.extend(along(y, rows).chain(along(x, columns)));
            }
        }
    }
    all
}

/// The rotation of every patch: `[patches, head size]` each, f32, and both stacked.
struct Rope {
    cos: Tensor,
    sin: Tensor,
    both: Tensor,
}

impl Rope {
    fn new(config: &Config, grid: (usize, usize), like: &Tensor) -> Result<Self> {
        let (all, patches) = (angles(config, grid), grid.0 * grid.1);
        let table = |f: fn(f32) -> f32| {
            let values = all.iter().map(|angle| f(*angle)).collect::<Vec<_>>();
            Tensor::from_vec(values, (patches, config.head_dim()), like.device())
        };
        let (cos, sin) = (table(f32::cos)?, table(f32::sin)?);
        Ok(Self { both: Tensor::stack(&[&cos, &sin], 0)?, cos, sin })
    }

    /// Turns the last tokens of `x` `[batch, heads, tokens, head size]`. Differentiable.
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (tokens, d) = (x.dim(2)?, x.dim(3)?);
        let patches = self.cos.dim(0)?;
        let turned = x.narrow(2, tokens - patches, patches)?;
        let (low, high) = (turned.narrow(3, 0, d / 2)?, turned.narrow(3, d / 2, d / 2)?);
        let crossed = Tensor::cat(&[&high.neg()?, &low], 3)?;
        let turned = (turned.broadcast_mul(&self.cos)? + crossed.broadcast_mul(&self.sin)?)?;
        if tokens == patches {
            return Ok(turned);
        }
        Tensor::cat(&[&x.narrow(2, 0, tokens - patches)?, &turned], 2)
    }
}

#[derive(Clone, Debug)]
struct Block {
    norm1: LayerNorm,
    attention: Attention,
    scale1: ScaledResidual,
    norm2: LayerNorm,
    mlp: Mlp,
    scale2: ScaledResidual,
}

impl Block {
    fn new(config: &Config, activation: Activation, vb: VarBuilder<'_>) -> Result<Self> {
        let (d, eps) = (config.hidden_size, config.layer_norm_eps);
        let attention = Attention::new(config, vb.pp("attention"))?;
        let mlp = Mlp::new(config, activation, vb.pp("mlp"))?;
        let scale = |name: &str| {
            vb.pp(name).get_with_hints(d, "lambda1", Init::Const(config.layerscale_value))
        };
        Ok(Self {
            norm1: LayerNorm::new(vb.pp("norm1"), d, eps)?,
            scale1: ScaledResidual::new(scale("layer_scale1")?, &attention.out)?,
            attention,
            norm2: LayerNorm::new(vb.pp("norm2"), d, eps)?,
            scale2: ScaledResidual::new(scale("layer_scale2")?, &mlp.down)?,
            mlp,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        rope: &Rope,
        activation: Activation,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor> {
        let mixed = self.attention.mix(&self.norm1.forward(x)?, rope)?;
        let out = &self.attention.out;
        let x = if tap.is_on() {
            let y = out.forward(&mixed)?;
            tap.see(|| "attention.out".into(), &y);
            self.scale1.add(&y, x)?
        } else {
            self.scale1.forward(out, &mixed, x)?
        };
        let wide = self.mlp.widen(&self.norm2.forward(&x)?, activation)?;
        let down = &self.mlp.down;
        if !tap.is_on() {
            return self.scale2.forward(down, &wide, &x);
        }
        let y = down.forward(&wide)?;
        tap.see(|| "mlp.out".into(), &y);
        let x = self.scale2.add(&y, &x)?;
        tap.see(|| "out".into(), &x);
        Ok(x)
    }
}

#[derive(Clone, Debug)]
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    /// q, k and v as one layer; then the three above are views of it.
    qkv: Option<Linear>,
    heads: usize,
}

impl Attention {
    fn new(config: &Config, vb: VarBuilder<'_>) -> Result<Self> {
        let d = config.hidden_size;
        let linear = |name: &str, bias| Linear::new(vb.pp(name), d, d, bias);
        let mut q = linear("q_proj", config.query_bias)?;
        let mut k = linear("k_proj", config.key_bias)?;
        let mut v = linear("v_proj", config.value_bias)?;
        let qkv = stacked(&[&q, &k, &v])?;
        if let Some(all) = &qkv {
            [q, k, v] = [part(all, 0, d)?, part(all, d, d)?, part(all, 2 * d, d)?];
        }
        let out = linear("o_proj", config.proj_bias)?;
        Ok(Self { q, k, v, out, qkv, heads: config.num_attention_heads })
    }

    /// `[batch, tokens, hidden]` to the same shape, before the output projection.
    fn mix(&self, x: &Tensor, rope: &Rope) -> Result<Tensor> {
        let (b, n, hidden) = x.dims3()?;
        let (heads, d) = (self.heads, hidden / self.heads);
        let (q, k, v) = match &self.qkv {
            Some(qkv) if !differentiable(&[x]) => {
                let bias = qkv.bias_or_zeros()?;
                let split = fused::split_heads(&qkv.product(x)?, &bias, &rope.both, heads)?;
                (split.get(0)?, split.get(1)?, split.get(2)?)
            }
            _ => {
                let split = |layer: &Linear| {
                    layer.forward(x)?.reshape((b, n, heads, d))?.transpose(1, 2)?.contiguous()
                };
                let flat = |x: Tensor| x.reshape((b * heads, n, d));
                let (q, k) = (rope.apply(&split(&self.q)?)?, rope.apply(&split(&self.k)?)?);
                (flat(q)?, flat(k)?, flat(split(&self.v)?)?)
            }
        };
        let scores = q.matmul(&k.t()?)?;
        let weights = softmax(scores, (d as f64).powf(-0.5))?;
        weights.matmul(&v)?.reshape((b, heads, n, d))?.transpose(1, 2)?.reshape((b, n, hidden))
    }
}

#[derive(Clone, Debug)]
struct Mlp {
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    /// gate and up as one layer; then they are views of it.
    gate_up: Option<Linear>,
}

impl Mlp {
    fn new(config: &Config, activation: Activation, vb: VarBuilder<'_>) -> Result<Self> {
        let (d, wide, bias) = (config.hidden_size, config.intermediate_size, config.mlp_bias);
        let mut up = Linear::new(vb.pp("up_proj"), d, wide, bias)?;
        let down = Linear::new(vb.pp("down_proj"), wide, d, bias)?;
        if !config.use_gated_mlp {
            return Ok(Self { gate: None, up, down, gate_up: None });
        }
        let mut gate = Linear::new(vb.pp("gate_proj"), d, wide, bias)?;
        let gate_up = match activation.fused() {
            Some(_) => stacked(&[&gate, &up])?,
            None => None,
        };
        if let Some(all) = &gate_up {
            [gate, up] = [part(all, 0, wide)?, part(all, wide, wide)?];
        }
        Ok(Self { gate: Some(gate), up, down, gate_up })
    }

    /// Everything before `down`.
    fn widen(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        match (&self.gate_up, &self.gate, activation.fused()) {
            (Some(gate_up), _, Some(act)) if !differentiable(&[x]) => {
                fused::gated(&gate_up.product(x)?, &gate_up.bias_or_zeros()?, act)
            }
            (_, Some(gate), _) => gate.forward_act(x, activation)? * self.up.forward(x)?,
            (_, None, _) => self.up.forward_act(x, activation),
        }
    }
}

/// Layers over the same input as one, if no gradient is to reach them.
fn stacked(layers: &[&Linear]) -> Result<Option<Linear>> {
    let weights: Vec<&Tensor> = layers.iter().map(|layer| layer.weight()).collect();
    if differentiable(&weights) {
        return Ok(None);
    }
    let biases = layers.iter().map(|layer| layer.bias_or_zeros()).collect::<Result<Vec<_>>>()?;
    let (weight, bias) = (Tensor::cat(&weights, 0)?, Tensor::cat(&biases, 0)?);
    Ok(Some(Linear::from_tensors(weight, Some(bias))))
}

/// A view of `count` outputs of a layer, so that the weights are held once.
fn part(layer: &Linear, start: usize, count: usize) -> Result<Linear> {
    let weight = layer.weight().narrow(0, start, count)?;
    let bias = layer.bias().map(|bias| bias.narrow(0, start, count)).transpose()?;
    Ok(Linear::from_tensors(weight, bias))
}
