//! How much there is to learn from an image, by what the stages say of it. Pure.
//!
//! With the probabilities `p` of the stages, their mean `m`, and the entropy `H` in bits:
//!
//! - uncertainty: `H(m)`, 1 where the stages together cannot tell;
//! - margin: `1 - |2m - 1|`. With two classes it orders images exactly as uncertainty does, since both
//!   fall with the distance of `m` from one half; it is here because people ask for it by name;
//! - disagreement: the Jensen-Shannon divergence `H(m) - mean H(p)`, 0 where all say the same;
//! - mixed: uncertainty plus disagreement.

use serde::{Serialize, Serializer};

/// What makes an image informative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The entropy of the mean probability.
    Uncertainty,
    /// How near the mean probability is to one half.
    Margin,
    /// How much the stages contradict each other.
    Disagreement,
    /// Uncertainty plus disagreement.
    Mixed,
}

impl By {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uncertainty => "uncertainty",
            Self::Margin => "margin",
            Self::Disagreement => "disagreement",
            Self::Mixed => "mixed",
        }
    }
}

/// What the stages made of an image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Informative {
    /// The mean of the stages' probabilities.
    pub probability: f64,
    /// Each stage's probability.
    #[serde(serialize_with = "as_map")]
    pub stages: Vec<(String, f64)>,
    /// Entropy of the mean, in bits.
    pub uncertainty: f64,
    /// 1 at one half, 0 at 0 and 1.
    pub margin: f64,
    /// Jensen-Shannon divergence of the stages, in bits.
    pub disagreement: f64,
}

fn as_map<S: Serializer>(stages: &[(String, f64)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(stages.iter().map(|(name, p)| (name, p)))
}

impl Informative {
    /// From the probability that each stage gave; `None` if none did.
    pub fn new(stages: Vec<(String, f64)>) -> Option<Self> {
        let mean = |f: &dyn Fn(f64) -> f64| {
            stages.iter().map(|(_, p)| f(*p)).sum::<f64>() / stages.len() as f64
        };
        if stages.is_empty() {
            return None;
        }
        let probability = mean(&|p| p);
        let uncertainty = entropy(probability);
        // Rounding may take a divergence below zero.
        let disagreement = (uncertainty - mean(&entropy)).max(0.0);
        let margin = 1.0 - (2.0 * probability - 1.0).abs();
        Some(Self { probability, stages, uncertainty, margin, disagreement })
    }

    /// How informative it is.
    pub fn value(&self, by: By) -> f64 {
        match by {
            By::Uncertainty => self.uncertainty,
            By::Margin => self.margin,
            By::Disagreement => self.disagreement,
            By::Mixed => self.uncertainty + self.disagreement,
        }
    }
}

/// Entropy in bits of a coin with this probability.
fn entropy(p: f64) -> f64 {
    let part = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    part(p) + part(1.0 - p)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(probabilities: &[f64]) -> Informative {
        let stages = probabilities.iter().enumerate().map(|(i, p)| (i.to_string(), *p));
        Informative::new(stages.collect()).unwrap()
    }

    #[test]
    fn known_values() {
        let split = of(&[0.0, 1.0]);
        assert_eq!((split.uncertainty, split.disagreement, split.margin), (1.0, 1.0, 1.0));
        let unsure = of(&[0.5, 0.5]);
        assert_eq!((unsure.uncertainty, unsure.disagreement), (1.0, 0.0));
        assert_eq!(split.value(By::Mixed), 2.0);
        // H(0.11) is half a bit, nearly; scipy.stats.entropy([0.11, 0.89], base=2) = 0.499916.
        assert!((of(&[0.11]).uncertainty - 0.499_916).abs() < 1e-6);
        // scipy.spatial.distance.jensenshannon([0.2, 0.8], [0.6, 0.4], base=2) ** 2 = 0.124511.
        assert!((of(&[0.2, 0.6]).disagreement - 0.124_511).abs() < 1e-6);
        assert_eq!(of(&[1.0]).value(By::Mixed), 0.0);
        assert_eq!(Informative::new(Vec::new()), None);
    }

    proptest! {
        #[test]
        fn entropy_and_margin_order_alike(a in 0.0..=1.0_f64, b in 0.0..=1.0_f64) {
            let (a, b) = (of(&[a]), of(&[b]));
            if (a.margin - b.margin).abs() > 1e-9 {
                prop_assert_eq!(a.margin > b.margin, a.uncertainty > b.uncertainty);
            }
        }

        #[test]
        fn disagreement_is_between_nothing_and_the_uncertainty(
            probabilities in proptest::collection::vec(0.0..=1.0_f64, 1..6)
        ) {
            let found = of(&probabilities);
            prop_assert!(found.disagreement >= 0.0);
            prop_assert!(found.disagreement <= found.uncertainty + 1e-12);
        }
    }
}
