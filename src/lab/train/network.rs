//! The network under training: encoder and head over variables.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;

use super::recipe::{HeadStart, Recipe, Scope};
use crate::lab::files::{partial, write_whole};
use crate::models::{Encoder, EncoderConfig, Head, ModelFiles, Pooling, Preprocessor};

/// The files of a trained model.
pub(super) const FILES: &[&str] =
    &["config.json", "preprocessor_config.json", "model.safetensors", "head.safetensors"];

/// Encoder, head, and the variables beneath them.
pub(super) struct Network {
    pub(super) preprocessor: Preprocessor,
    encoder: Encoder,
    head: Head,
    scope: Scope,
    encoder_vars: BTreeMap<String, Var>,
    head_vars: BTreeMap<String, Var>,
    source: ModelFiles,
}

impl Network {
    /// The network of a model folder, ready to be trained; what is drawn at random follows from
    /// `seed`.
    pub(super) fn new(model: &Path, recipe: &Recipe, seed: u64) -> anyhow::Result<Self> {
        let source = ModelFiles::named(&model.to_string_lossy())?;
        let preprocessor = Preprocessor::load(&source)?;
        let config = EncoderConfig::load(&source)?;
        let has_weights =
            source.contains("model.safetensors") || source.contains("model.safetensors.index.json");
        anyhow::ensure!(
            has_weights || recipe.scope == Scope::All,
            "{} has no weights; a head needs a trained backbone (train the whole network instead)",
            model.display()
        );
        let (encoder, encoder_vars) = match recipe.scope {
            Scope::Head => (Encoder::load(&source)?, BTreeMap::new()),
            Scope::All => {
                let map = VarMap::new();
                let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
                let encoder = Encoder::new(&config, builder)?;
                let vars = variables(&map)?;
                if has_weights {
                    load_into(&vars, &source, "model")?;
                } else {
                    draw_matrices(&vars, seed, |_| 0.02)?;
                }
                (encoder, vars)
            }
        };
        let (head, head_vars) = head(&source, encoder.hidden_size(), recipe, seed)?;
        let scope = recipe.scope;
        Ok(Self { preprocessor, encoder, head, scope, encoder_vars, head_vars, source })
    }

    /// Every trained tensor, by name.
    pub(super) fn trained(&self) -> Vec<(String, Var)> {
        let named = |prefix: &'static str, vars: &BTreeMap<String, Var>| {
            let entries: Vec<_> =
                vars.iter().map(|(name, var)| (format!("{prefix}{name}"), var.clone())).collect();
            entries
        };
        let mut all = named("encoder.", &self.encoder_vars);
        all.extend(named("head.", &self.head_vars));
        all
    }

    /// Whether the encoder stays as it is, so that features may be computed once.
    pub(super) fn is_frozen(&self) -> bool {
        self.scope == Scope::Head
    }

    /// What the head looks at.
    pub(super) fn pooling(&self) -> Pooling {
        self.head.pooling()
    }

    /// What the head sees of these pixels, `[n, width]`.
    fn features(&self, pixels: &Tensor) -> anyhow::Result<Tensor> {
        Ok(self.head.pooling().pool(&self.encoder.forward(pixels)?)?)
    }

    /// Logits `[n]` of pixels `[n, 3, h, w]`, or of features `[n, width]` if the encoder is frozen.
    pub(super) fn logits(
        &self,
        inputs: &Tensor,
        dropout: Option<(f32, &mut ChaCha8Rng)>,
    ) -> anyhow::Result<Tensor> {
        let pooled = if self.is_frozen() { inputs.clone() } else { self.features(inputs)? };
        Ok(self.head.forward_with(&pooled, |hidden| match dropout {
            Some((share, rng)) if share > 0.0 => drop_out(&hidden, share, rng),
            _ => Ok(hidden),
        })?)
    }

    /// Writes the Hugging Face layout: configs as they were, the head in f32, and the backbone as it was
    /// if it is frozen, else in f16.
    pub(super) fn export(&self, out: &Path) -> anyhow::Result<()> {
        for name in self.kept()? {
            let copy = out.join(&name);
            if !copy.exists() || !name.starts_with("model") {
                write_whole(&copy, &self.source.read(&name)?)?;
            }
        }
        if !self.is_frozen() {
            save(&out.join("model.safetensors"), detached(&self.encoder_vars), DType::F16)?;
        }
        save(&out.join("head.safetensors"), detached(&self.head_vars), DType::F32)
    }

    /// The files that are taken over as they are.
    fn kept(&self) -> anyhow::Result<Vec<String>> {
        let mut names = vec!["config.json".to_owned(), "preprocessor_config.json".to_owned()];
        if self.is_frozen() {
            names.extend(self.source.checkpoint_files("model")?);
        }
        Ok(names)
    }
}

/// The head that a run begins with, over variables.
fn head(
    source: &ModelFiles,
    hidden_size: usize,
    recipe: &Recipe,
    seed: u64,
) -> anyhow::Result<(Head, BTreeMap<String, Var>)> {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let kept = match recipe.head {
        HeadStart::Keep => Some(Head::load(source, hidden_size)?),
        HeadStart::New => None,
    };
    let pooling = kept.as_ref().map_or(recipe.pooling.into(), Head::pooling);
    let width = kept.as_ref().map_or(recipe.hidden, Head::width);
    let head = Head::new(pooling, hidden_size, width, builder)?;
    let vars = variables(&map)?;
    match recipe.head {
        HeadStart::Keep => load_into(&vars, source, "head")?,
        HeadStart::New => draw_matrices(&vars, seed ^ 1, |inputs| 1.0 / (inputs as f64).sqrt())?,
    }
    Ok((head, vars))
}

fn detached(vars: &BTreeMap<String, Var>) -> BTreeMap<String, Tensor> {
    vars.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect()
}

fn save(path: &Path, tensors: BTreeMap<String, Tensor>, dtype: DType) -> anyhow::Result<()> {
    let mut typed = std::collections::HashMap::new();
    for (name, tensor) in tensors {
        typed.insert(name, tensor.to_dtype(dtype)?);
    }
    let partial = partial(path);
    candle_core::safetensors::save(&typed, &partial)?;
    fs_err::rename(partial, path)?;
    Ok(())
}

fn variables(map: &VarMap) -> anyhow::Result<BTreeMap<String, Var>> {
    let data = map.data().lock().map_err(|_| anyhow::anyhow!("the variables' lock is poisoned"))?;
    Ok(data.iter().map(|(name, var)| (name.clone(), var.clone())).collect())
}

/// Sets variables to the weights of a file, which may say `model.` before their names or not.
fn load_into(vars: &BTreeMap<String, Var>, source: &ModelFiles, stem: &str) -> anyhow::Result<()> {
    let checkpoint = source.checkpoint(stem)?;
    for (name, var) in vars {
        let bare = name.strip_prefix("model.").unwrap_or(name);
        let names = [name.clone(), bare.to_owned(), format!("model.{bare}")];
        let found = names.iter().find(|name| checkpoint.shape(name).is_some()).unwrap_or(name);
        let shape: Vec<usize> = var.dims().to_vec();
        var.set(&checkpoint.tensor(found, Some(&shape), &Device::Cpu)?)?;
    }
    Ok(())
}

/// Draws matrices and filters from a normal distribution; `deviation` is given the number of
/// inputs. Vectors keep the values that their layers gave them. candle's own random numbers on the
/// CPU cannot be seeded, hence this.
fn draw_matrices(
    vars: &BTreeMap<String, Var>,
    seed: u64,
    deviation: impl Fn(usize) -> f64,
) -> anyhow::Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for var in vars.values().filter(|var| var.rank() > 1) {
        let inputs: usize = var.dims().iter().skip(1).product();
        let deviation = deviation(inputs);
        let values: Vec<f32> =
            (0..var.elem_count()).map(|_| (normal(&mut rng) * deviation) as f32).collect();
        var.set(&Tensor::from_vec(values, var.dims(), &Device::Cpu)?)?;
    }
    Ok(())
}

/// A standard normal number (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Drops a share of the values and scales up the rest.
fn drop_out(hidden: &Tensor, share: f32, rng: &mut ChaCha8Rng) -> candle_core::Result<Tensor> {
    let keep = 1.0 - share;
    let mask: Vec<f32> = (0..hidden.elem_count())
        .map(|_| if rng.random::<f32>() < keep { 1.0 / keep } else { 0.0 })
        .collect();
    hidden.mul(&Tensor::from_vec(mask, hidden.dims(), &Device::Cpu)?)
}

/// The tensors of a file, by name. Used by checkpoints.
pub(super) fn read_tensors(path: &Path) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let bytes = fs_err::read(path)?;
    SafeTensors::deserialize(&bytes)
        .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
    Ok(tensors.into_iter().collect())
}
