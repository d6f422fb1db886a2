//! Test-time augmentation: asks another backend about several variants of each picture and answers
//! the mean of their logits.
//!
//! Settings, `[stages.NAME.tta]`: `backend` is the one that is asked, its own settings are the table
//! `[stages.NAME.tta.BACKEND]`; `flip` adds the mirrored picture; each of `scales` adds the picture
//! made smaller (below 1: black around it) or larger (above 1: cut at the edges) about its centre.

mod variants;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Backend, BackendContext, BackendError, Fault, Input, Registry};
use crate::calibration::logit;
use crate::image::Image;
use crate::prediction::{Prediction, Probability};
use crate::video::{Clip, ClipLimits};
use variants::Variant;

/// The name under which it is registered.
pub const NAME: &str = "tta";

/// The keys of [`TtaSpec`]. Beside them stand the tables of other backends.
pub const KEYS: &[&str] = &["backend", "flip", "scales"];

/// Most scales; every one costs as much as the picture itself.
const MOST_SCALES: usize = 16;

/// The settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TtaSpec {
    /// The backend that is asked; any but this one.
    pub backend: String,
    /// Whether the mirrored picture is a variant.
    #[serde(default = "yes")]
    pub flip: bool,
    /// The scales that are variants, each 0.25 to 4; the picture as it is always is one.
    #[serde(default = "usual_scales")]
    pub scales: Vec<f64>,
}

fn yes() -> bool {
    true
}

fn usual_scales() -> Vec<f64> {
    vec![0.9, 1.1]
}

impl TtaSpec {
    fn check(&self) -> anyhow::Result<()> {
        let scales = &self.scales;
        let fits = scales.iter().all(|scale| (0.25..=4.0).contains(scale));
        anyhow::ensure!(fits, "tta.scales are 0.25 to 4, not {scales:?}");
        let count = scales.len();
        anyhow::ensure!(count <= MOST_SCALES, "tta.scales are at most {MOST_SCALES}, not {count}");
        Ok(())
    }

    fn variants(&self) -> Vec<Variant> {
        let flipped = self.flip.then_some(Variant::Mirrored);
        let scaled = self.scales.iter().map(|scale| Variant::Scaled(*scale));
        std::iter::once(Variant::Original).chain(flipped).chain(scaled).collect()
    }
}

/// The backend that is asked, and about what.
pub struct Tta {
    inner: Box<dyn Backend>,
    variants: Vec<Variant>,
    max_batch: usize,
    spec: TtaSpec,
}

impl Tta {
    /// Builds the backend that the settings name.
    ///
    /// # Errors
    /// If the settings are wrong, or that backend cannot be built.
    pub fn new(ctx: &BackendContext, registry: &Registry) -> anyhow::Result<Self> {
        let (own, others): (toml::Table, toml::Table) = ctx
            .settings
            .clone()
            .into_iter()
            .partition(|(key, _)| KEYS.contains(&key.as_str()) || registry.get(key).is_none());
        let outer = BackendContext { settings: own, ..ctx.clone() };
        let spec: TtaSpec = outer.settings()?;
        spec.check()?;
        anyhow::ensure!(spec.backend != NAME, "tta.backend must be another backend than tta");
        let factory = registry.get(&spec.backend).ok_or_else(|| {
            let known: Vec<_> = registry.names().filter(|name| *name != NAME).collect();
            anyhow::anyhow!("no backend {} for tta; known are {}", spec.backend, known.join(", "))
        })?;
        let settings = others.get(&spec.backend).and_then(toml::Value::as_table).cloned();
        let settings = settings.unwrap_or_default();
        let inner = factory(&BackendContext { settings, ..ctx.clone() })?;
        Ok(Self { inner, variants: spec.variants(), max_batch: ctx.max_batch.max(1), spec })
    }

    /// Asks about a batch, in halves where it is too big.
    fn ask_halving(
        &mut self,
        inputs: &[Input],
        said: &mut Vec<Prediction>,
    ) -> Result<(), BackendError> {
        match self.inner.infer(inputs) {
            Ok(predictions) if predictions.len() == inputs.len() => said.extend(predictions),
            Ok(predictions) => {
                let (found, wanted) = (predictions.len(), inputs.len());
                return Err(anyhow::anyhow!("{found} predictions for {wanted} variants").into());
            }
            Err(error) if error.fault == Fault::TooBig && inputs.len() > 1 => {
                let (first, second) = inputs.split_at(inputs.len() / 2);
                self.ask_halving(first, said)?;
                self.ask_halving(second, said)?;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Backend for Tta {
    fn infer(&mut self, inputs: &[Input]) -> Result<Vec<Prediction>, BackendError> {
        let of = |input| self.variants.iter().map(move |variant| (input, *variant));
        let pairs: Vec<(&Input, Variant)> = inputs.iter().flat_map(of).collect();
        let mut said = Vec::with_capacity(pairs.len());
        // One batch of variants is there at a time: they are whole pictures.
        for batch in pairs.chunks(self.max_batch) {
            let of = |(input, variant): &(&Input, Variant)| varied(input, *variant);
            let batch = batch.iter().map(of).collect::<anyhow::Result<Vec<Input>>>()?;
            self.ask_halving(&batch, &mut said)?;
        }
        Ok(said.chunks(self.variants.len()).map(merged).collect())
    }

    fn warm_up(&mut self) -> Result<(), BackendError> {
        self.inner.warm_up()
    }

    fn version(&self) -> String {
        format!("tta {:?} of {}", self.spec, self.inner.version())
    }
}

/// The input with every picture varied.
fn varied(input: &Input, variant: Variant) -> anyhow::Result<Input> {
    if variant == Variant::Original {
        return Ok(input.clone());
    }
    match input {
        Input::Image(image) => Ok(Input::Image(Arc::new(variant.of(image)?))),
        Input::File(file) => varied(&Input::Image(Arc::new(file.decode()?)), variant),
        Input::Clip(clip) => {
            let of = |frame: &Arc<Image>| Ok(Arc::new(variant.of(frame)?));
            let frames = clip.frames().iter().map(of).collect::<anyhow::Result<Vec<_>>>()?;
            let limits = ClipLimits { max_frames: frames.len() };
            Ok(Input::Clip(Arc::new(Clip::new(frames, clip.fps(), &limits)?)))
        }
    }
}

/// The mean of the logits of those variants that have a score, with the evidence of the first of
/// them. A single score stays as it is.
fn merged(said: &[Prediction]) -> Prediction {
    let scores: Vec<Probability> = said.iter().filter_map(Prediction::probability).collect();
    let probability = match scores[..] {
        [] => {
            let reason = said.iter().find_map(|said| match said {
                Prediction::Abstention { reason } => Some(reason.clone()),
                Prediction::Score { .. } => None,
            });
            let reason = reason.unwrap_or_else(|| "no variant was judged".into());
            return Prediction::Abstention { reason };
        }
        [only] => only.get(),
        _ => {
            let sum: f64 = scores.iter().map(|p| logit(f64::from(p.get()))).sum();
            (1.0 / (1.0 + (-sum / scores.len() as f64).exp())) as f32
        }
    };
    let evidence = said.iter().find_map(|said| match said {
        Prediction::Score { evidence, .. } => Some(evidence.clone()),
        Prediction::Abstention { .. } => None,
    });
    match Prediction::from_raw(probability) {
        Prediction::Score { probability, .. } => {
            Prediction::Score { probability, evidence: evidence.flatten() }
        }
        abstention => abstention,
    }
}

#[cfg(test)]
mod tests;
