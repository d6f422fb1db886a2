//! From a model's logit to a probability, and from a stage's probability to a calibrated one. Pure.

mod remap;

use serde::{Deserialize, Serialize};

pub use remap::{CalibrationSpec, Method, Remap, WrongCalibration, logit};

/// `p = sigmoid(scale * logit + shift)`; the identity by default. A model folder may bring its own
/// in `calibration.json`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Factor on the logit: the inverse of a temperature.
    pub scale: f32,
    /// Offset of the logit.
    pub shift: f32,
}

impl Default for Calibration {
    fn default() -> Self {
        Self { scale: 1.0, shift: 0.0 }
    }
}

impl Calibration {
    /// The probability for a logit; NaN stays NaN, and becomes that image's abstention later.
    pub fn apply(&self, logit: f32) -> f32 {
        sigmoid(self.scale * logit + self.shift)
    }
}

/// `1 / (1 + e^-x)`, exact at both infinities.
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_plain_sigmoid() {
        let plain = Calibration::default();
        assert_eq!(plain.apply(0.0), 0.5);
        assert_eq!(plain.apply(f32::INFINITY), 1.0);
        assert_eq!(plain.apply(f32::NEG_INFINITY), 0.0);
        assert!(plain.apply(f32::NAN).is_nan());
    }

    #[test]
    fn scale_and_shift_move_the_logit() {
        let calibration = Calibration { scale: 0.5, shift: 1.0 };
        assert_eq!(calibration.apply(-2.0), 0.5);
    }
}
