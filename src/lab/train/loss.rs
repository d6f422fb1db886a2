//! What training minimises. Every loss is finite for every finite logit.

use std::path::PathBuf;

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// Knowledge distillation (Hinton, Vinyals and Dean, 2015), for one probability instead of a softmax:
/// `alpha T^2 KL(teacher at T || student at T) + (1 - alpha) BCE`, where "at T" is
/// `sigmoid(logit / T)`. That is the softmax of the two logits `[z/2, -z/2]`; a softmax over a single
/// logit would be constant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distillation {
    /// What the teacher says of the training images, by `roadcrew evaluate --out`.
    #[serde(default)]
    pub teacher: PathBuf,
    /// How much the teacher's and the student's logits are softened.
    #[serde(default = "temperature")]
    pub temperature: f64,
    /// Share of the teacher in the loss.
    #[serde(default = "alpha")]
    pub alpha: f64,
}

fn temperature() -> f64 {
    4.0
}

fn alpha() -> f64 {
    0.7
}

impl Distillation {
    /// The usual settings (T = 4, alpha = 0.7) with this teacher.
    pub fn of(teacher: PathBuf) -> Self {
        Self { teacher, temperature: temperature(), alpha: alpha() }
    }

    /// What is wrong with the settings, if anything.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> anyhow::Result<()> {
        let Self { teacher, temperature, alpha } = self;
        let named = !teacher.as_os_str().is_empty();
        anyhow::ensure!(
            named,
            "distillation.teacher is empty; name a file, or use --teacher STAGE"
        );
        let fits = temperature.is_finite() && *temperature > 0.0;
        anyhow::ensure!(fits, "distillation.temperature is {temperature}; more than 0");
        let fits = (0.0..=1.0).contains(alpha);
        anyhow::ensure!(fits, "distillation.alpha is {alpha}; 0 to 1");
        Ok(())
    }

    /// A teacher's probability, softened.
    pub fn soften(&self, probability: f32) -> f32 {
        let p = f64::from(probability).clamp(1e-7, 1.0 - 1e-7);
        let logit = (p / (1.0 - p)).ln() / self.temperature;
        (1.0 / (1.0 + (-logit).exp())).clamp(1e-7, 1.0 - 1e-7) as f32
    }
}

/// What a batch should have said.
pub(super) struct Targets {
    /// Labels `[n]`, smoothed or not.
    pub(super) labels: Tensor,
    /// How much each image counts, `[n]`.
    pub(super) weights: Tensor,
    /// The teacher's softened probabilities `[n]`, with the settings.
    pub(super) teacher: Option<(Tensor, f64, f64)>,
}

/// The mean loss of logits `[n]`.
pub(super) fn loss(logits: &Tensor, targets: &Targets) -> Result<Tensor> {
    let own = bce_with_logits(logits, &targets.labels)?;
    let each = match &targets.teacher {
        None => own,
        Some((soft, temperature, alpha)) => {
            let softened = (logits / *temperature)?;
            let cross = bce_with_logits(&softened, soft)?;
            let divergence = (cross - entropy(soft)?)?;
            ((divergence * (alpha * temperature * temperature))? + (own * (1.0 - alpha))?)?
        }
    };
    each.mul(&targets.weights)?.mean_all()
}

/// Binary cross-entropy of each logit against each label, both `[n]`:
/// `relu(x) - x y + ln(1 + e^-|x|)`, which does not overflow.
pub(super) fn bce_with_logits(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let softplus = ((logits.abs()?.neg()?.exp()? + 1.0)?).log()?;
    (logits.relu()? - logits.mul(labels)?)? + softplus
}

/// `-p ln p - (1 - p) ln (1 - p)` of probabilities within 0 and 1, both exclusive.
fn entropy(p: &Tensor) -> Result<Tensor> {
    let rest = (1.0 - p)?;
    (p.mul(&p.log()?)? + rest.mul(&rest.log()?)?)?.neg()
}
