//! DINOv3 ConvNeXt (`model_type` `dinov3_convnext`).
//!
//! Follows `DINOv3ConvNextModel` of transformers 5.23, inference only where the two differ (no
//! drop path). Everything here is channels-last, `[batch, height, width, channels]`: convolutions
//! that do not overlap and convolutions of one pixel are matrix products, and the depthwise one is
//! [`crate::kernels::depthwise`].
//!
//! Must not know: how pixels were prepared, or what the features are for.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use serde::Deserialize;

use super::ModelError;
use super::encoder::{Features, Tap, rooted};
use super::layers::{
    Activation, LayerNorm, Linear, ScaledResidual, WEIGHT_INIT, differentiable, patchify,
};
use crate::kernels::depthwise::{depthwise_conv, filter_from_conv2d};
use crate::kernels::fused::{self, Act};

/// The fields of `config.json` that matter here; the defaults are `DINOv3ConvNextConfig`'s.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels of the input; must be 3.
    pub num_channels: usize,
    /// Channels of each stage.
    pub hidden_sizes: Vec<usize>,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// Activation between the pointwise layers.
    pub hidden_act: String,
    /// Epsilon of every layer norm.
    pub layer_norm_eps: f64,
    /// What layer scales start from when training from nothing.
    pub layer_scale_init_value: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            num_channels: 3,
            hidden_sizes: vec![96, 192, 384, 768],
            depths: vec![3, 3, 9, 3],
            hidden_act: "gelu".into(),
            layer_norm_eps: 1e-6,
            layer_scale_init_value: 1e-6,
        }
    }
}

/// Side of the stem's tiles, in pixels.
pub(crate) const STEM: usize = 4;
/// Side of the tiles between stages.
pub(crate) const DOWN: usize = 2;
/// Side of the depthwise filters.
pub(crate) const FILTER: usize = 7;

impl Config {
    fn check(&self) -> std::result::Result<(), ModelError> {
        let (sizes, depths) = (&self.hidden_sizes, &self.depths);
        let wrong = if sizes.is_empty() || sizes.contains(&0) || sizes.len() != depths.len() {
            format!("hidden_sizes {sizes:?} and depths {depths:?} do not make stages")
        } else if sizes.len() > 8 {
            format!("{} stages are more than the 8 that are supported", sizes.len())
        } else if self.num_channels != 3 {
            format!("num_channels {} is not supported, only 3 (RGB)", self.num_channels)
        } else {
            return Ok(());
        };
        Err(ModelError::config(format!("dinov3_convnext: {wrong}")))
    }

    /// The smallest side of an image that leaves at least one place.
    pub(crate) fn side_min(&self) -> usize {
        STEM * DOWN.pow(self.hidden_sizes.len() as u32 - 1)
    }
}

/// Where the weights are in `vb`: the stages, and the final norm. Checks the configuration.
pub(crate) fn roots<'a>(
    config: &Config,
    vb: VarBuilder<'a>,
) -> std::result::Result<(VarBuilder<'a>, VarBuilder<'a>), ModelError> {
    config.check()?;
    let norm = rooted(vb.clone(), "layer_norm.weight").pp("layer_norm");
    let below = vb.pp("model");
    let probe = "stages.0.downsample_layers.0.weight";
    let stages = if vb.contains_tensor(probe) { vb } else { rooted(below, probe) }.pp("stages");
    let count = config.hidden_sizes.len();
    let surplus = |wrong| Err(ModelError::config(format!("dinov3_convnext: {wrong}")));
    if stages.contains_tensor(&format!("{count}.downsample_layers.0.weight")) {
        return surplus(format!(
            "hidden_sizes has {count} stages, but the weights have a stage {count}"
        ));
    }
    for (i, depth) in config.depths.iter().enumerate() {
        if stages.contains_tensor(&format!("{i}.layers.{depth}.gamma")) {
            return surplus(format!(
                "depths[{i}] is {depth}, but the weights have a layer {depth}"
            ));
        }
    }
    Ok((stages, norm))
}

/// The network. Cloning shares the weights.
#[derive(Clone, Debug)]
pub struct ConvNext {
    side_min: usize,
    hidden_size: usize,
    activation: Activation,
    stages: Vec<Stage>,
    norm: LayerNorm,
}

impl ConvNext {
    /// Takes the weights from `vb`: `model.stages.*` as transformers 5 writes it, or `stages.*`;
    /// the final `layer_norm` beside `model` or with the stages.
    pub fn new(config: &Config, vb: VarBuilder<'_>) -> std::result::Result<Self, ModelError> {
        let activation = Activation::from_name(&config.hidden_act)?;
        let (stages, norm) = roots(config, vb)?;
        let count = config.hidden_sizes.len();
        let hidden_size = config.hidden_sizes[count - 1];
        Ok(Self {
            side_min: config.side_min(),
            hidden_size,
            activation,
            stages: (0..count)
                .map(|i| Stage::new(config, i, stages.pp(i)))
                .collect::<std::result::Result<_, _>>()?,
            norm: LayerNorm::new(norm, hidden_size, config.layer_norm_eps)?,
        })
    }

    /// Width of the features: the channels of the last stage.
    pub fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    /// `pixels` `[batch, 3, height, width]`, prepared as the model's preprocessor says. What does
    /// not fill a tile at the right and bottom is ignored, at every stage.
    ///
    /// The tap sees `stage.{i}.{downsample.out, layer.{j}.out, out}` `[batch, c, h, w]`,
    /// `last_hidden_state` `[batch, 1 + places, hidden]` and `pooler_output` `[batch, hidden]`.
    pub fn forward(&self, pixels: &Tensor, mut tap: Tap<'_>) -> Result<Features> {
        let (_, channels, height, width) = pixels.dims4()?;
        let min = self.side_min;
        if channels != 3 || height < min || width < min {
            candle_core::bail!(
                "dinov3_convnext: expected pixels [batch, 3, height >= {min}, width >= {min}], \
                 found {:?}",
                pixels.dims()
            );
        }
        let mut x = pixels.clone();
        for (i, stage) in self.stages.iter().enumerate() {
            x = stage.forward(&x, self.activation, &mut tap.below(|| format!("stage.{i}")))?;
        }
        let x = x.flatten(1, 2)?;
        let cls = self.norm.forward(&x.mean(1)?)?;
        let patches = self.norm.forward(&x)?;
        if tap.is_on() {
            let all = Tensor::cat(&[&cls.unsqueeze(1)?, &patches], 1)?;
            tap.see(|| "last_hidden_state".into(), &all);
            tap.see(|| "pooler_output".into(), &cls);
        }
        Ok(Features { cls, patches })
    }
}

#[derive(Clone, Debug)]
struct Stage {
    down: Down,
    norm: LayerNorm,
    blocks: Vec<Block>,
}

/// How a stage makes its map from what comes before.
#[derive(Clone, Debug)]
enum Down {
    /// From pixels, channels first; the norm comes after.
    Stem(Linear),
    /// From the map before, channels last; the norm comes before. The weight is the file's
    /// `[out, in, 2, 2]`.
    Tiles(OnceReady, Tensor),
}

/// A tensor derived from a weight: made once if the weight cannot change, else at every use.
#[derive(Clone, Debug)]
enum OnceReady {
    Ready(Tensor),
    Derived(Tensor, fn(&Tensor) -> Result<Tensor>),
}

impl OnceReady {
    fn new(weight: Tensor, derive: fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        if differentiable(&[&weight]) {
            Ok(Self::Derived(weight, derive))
        } else {
            derive(&weight).map(Self::Ready)
        }
    }

    fn get(&self) -> Result<Tensor> {
        match self {
            Self::Ready(tensor) => Ok(tensor.clone()),
            Self::Derived(weight, derive) => derive(weight),
        }
    }
}

/// `[out, in, k, k]` to `[out, k * k * in]`: the order in which a tile lies in a channels-last map.
fn channels_last(weight: &Tensor) -> Result<Tensor> {
    let out = weight.dim(0)?;
    weight.permute((0, 2, 3, 1))?.contiguous()?.reshape((out, ()))
}

impl Stage {
    fn new(
        config: &Config,
        index: usize,
        vb: VarBuilder<'_>,
    ) -> std::result::Result<Self, ModelError> {
        let (c, depth) = (config.hidden_sizes[index], config.depths[index]);
        let before = if index == 0 { 3 } else { config.hidden_sizes[index - 1] };
        let (conv, norm) = if index == 0 { (0, 1) } else { (1, 0) };
        let (normed, side) = if index == 0 { (c, STEM) } else { (before, DOWN) };
        let downsample = vb.pp("downsample_layers");
        let conv = downsample.pp(conv);
        let weight = conv.get_with_hints((c, before, side, side), "weight", WEIGHT_INIT)?;
        let bias = conv.get_with_hints(c, "bias", Init::Const(0.0))?;
        let down = if index == 0 {
            Down::Stem(Linear::from_tensors(weight.reshape((c, ()))?, Some(bias)))
        } else {
            Down::Tiles(OnceReady::new(weight, channels_last)?, bias)
        };
        let layers = vb.pp("layers");
        let blocks = (0..depth).map(|j| Block::new(config, c, layers.pp(j)));
        Ok(Self {
            down,
            norm: LayerNorm::new(downsample.pp(norm), normed, config.layer_norm_eps)?,
            blocks: blocks.collect::<Result<_>>()?,
        })
    }

    fn forward(&self, x: &Tensor, activation: Activation, tap: &mut Tap<'_>) -> Result<Tensor> {
        let mut x = match &self.down {
            Down::Stem(linear) => {
                let (b, _, h, w) = x.dims4()?;
                let x = linear.forward(&patchify(x, (STEM, STEM))?)?;
                self.norm.forward(&x.reshape((b, h / STEM, w / STEM, ()))?)?
            }
            Down::Tiles(weight, bias) => {
                let linear = Linear::from_tensors(weight.get()?, Some(bias.clone()));
                linear.forward(&tiles(&self.norm.forward(x)?)?)?
            }
        };
        show(tap, || "downsample.out".into(), &x)?;
        for (j, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, activation)?;
            show(tap, || format!("layer.{j}.out"), &x)?;
        }
        show(tap, || "out".into(), &x)?;
        Ok(x)
    }
}

/// `[b, h, w, c]` to `[b, h / 2, w / 2, 2 * 2 * c]`.
fn tiles(x: &Tensor) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    let (rows, columns) = (h / DOWN, w / DOWN);
    x.narrow(1, 0, rows * DOWN)?
        .narrow(2, 0, columns * DOWN)?
        .reshape(&[b, rows, DOWN, columns, DOWN, c])?
        .transpose(2, 3)?
        .reshape((b, rows, columns, DOWN * DOWN * c))
}

/// Shows a map channels first, as transformers has it.
fn show(tap: &mut Tap<'_>, name: impl FnOnce() -> String, x: &Tensor) -> Result<()> {
    if tap.is_on() {
        tap.see(name, &x.permute((0, 3, 1, 2))?.contiguous()?);
    }
    Ok(())
}

#[derive(Clone, Debug)]
struct Block {
    filter: OnceReady,
    filter_bias: Tensor,
    norm: LayerNorm,
    widen: Linear,
    narrow: Linear,
    scale: ScaledResidual,
}

impl Block {
    fn new(config: &Config, c: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let conv = vb.pp("depthwise_conv");
        let filter = conv.get_with_hints((c, 1, FILTER, FILTER), "weight", WEIGHT_INIT)?;
        let scale = Init::Const(config.layer_scale_init_value);
        let narrow = Linear::new(vb.pp("pointwise_conv2"), 4 * c, c, true)?;
        Ok(Self {
            filter: OnceReady::new(filter, filter_from_conv2d)?,
            filter_bias: conv.get_with_hints(c, "bias", Init::Const(0.0))?,
            norm: LayerNorm::new(vb.pp("layer_norm"), c, config.layer_norm_eps)?,
            widen: Linear::new(vb.pp("pointwise_conv1"), c, 4 * c, true)?,
            scale: ScaledResidual::new(vb.get_with_hints(c, "gamma", scale)?, &narrow)?,
            narrow,
        })
    }

    fn forward(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let y = depthwise_conv(x, &self.filter.get()?)?;
        let y = if differentiable(&[&y, &self.filter_bias]) {
            y.broadcast_add(&self.filter_bias)?
        } else {
            fused::bias_act_in_place(&y, &self.filter_bias, Act::Identity)?;
            y
        };
        let y = self.widen.forward_act(&self.norm.forward(&y)?, activation)?;
        self.scale.forward(&self.narrow, &y, x)
    }
}
