//! From a stage's probability to the one that counts: Platt scaling or isotonic regression, then a
//! shift that puts the best decision threshold at one half. Pure.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A probability is kept this far from 0 and 1 before its logit is taken.
const MARGIN: f64 = 1e-7;

/// How a stage's probability is calibrated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// It is taken as it is.
    #[default]
    None,
    /// `sigmoid(scale * logit(p) + shift)`; a temperature where the shift is 0.
    Platt,
    /// A line through points, level before the first and after the last.
    Isotonic,
}

/// Calibration of a stage: `[stages.NAME.calibration]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CalibrationSpec {
    /// How.
    pub method: Method,
    /// Factor on the logit, above 0: the inverse of a temperature. Of `platt`.
    pub scale: f64,
    /// Offset of the logit. Of `platt`.
    pub shift: f64,
    /// Pairs of a probability and its calibrated one, the first strictly rising, the second never
    /// falling. Of `isotonic`.
    pub points: Vec<[f64; 2]>,
    /// The calibrated probability that becomes exactly one half.
    pub center: f64,
}

impl Default for CalibrationSpec {
    fn default() -> Self {
        Self { method: Method::None, scale: 1.0, shift: 0.0, points: Vec::new(), center: 0.5 }
    }
}

/// What is wrong with a calibration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{key} {message}")]
pub struct WrongCalibration {
    /// The field it is about.
    pub key: &'static str,
    /// What it should be.
    pub message: String,
}

impl CalibrationSpec {
    /// What is wrong with the values, each on its own and together: nothing, if it is empty.
    pub fn problems(&self) -> Vec<WrongCalibration> {
        let wrong = |key, message: &str| WrongCalibration { key, message: message.to_owned() };
        let mut problems = Vec::new();
        if !(self.scale.is_finite() && self.scale > 0.0) {
            problems.push(wrong("scale", "must be a finite number above 0"));
        }
        if !self.shift.is_finite() {
            problems.push(wrong("shift", "must be a finite number"));
        }
        if !(self.center > 0.0 && self.center < 1.0) {
            problems.push(wrong("center", "must be above 0 and below 1"));
        }
        if self.method == Method::Isotonic || !self.points.is_empty() {
            problems.extend(self.wrong_points().map(|text| wrong("points", &text)));
        }
        problems
    }

    fn wrong_points(&self) -> Option<String> {
        if self.points.len() < 2 {
            return Some("must be two or more pairs [probability, calibrated]".to_owned());
        }
        let is_share = |value: &f64| (0.0..=1.0).contains(value);
        if let Some(at) = self.points.iter().position(|pair| !pair.iter().all(is_share)) {
            return Some(format!("must lie within 0 to 1; pair {} does not", at + 1));
        }
        let is_off = |pair: &[[f64; 2]]| pair[1][0] <= pair[0][0] || pair[1][1] < pair[0][1];
        let at = self.points.windows(2).position(is_off)?;
        Some(format!(
            "must have first numbers that rise and second numbers that never fall; pair {} does not \
             follow pair {}",
            at + 2,
            at + 1
        ))
    }
}

/// A calibration that may be used: monotone, within 0 and 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Remap(CalibrationSpec);

impl Remap {
    /// Takes settings that have been looked through.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub fn new(spec: &CalibrationSpec) -> Result<Self, WrongCalibration> {
        match spec.problems().into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(Self(spec.clone())),
        }
    }

    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        self.0.method == Method::None && self.0.center == CalibrationSpec::default().center
    }

    /// The probability that counts; NaN stays NaN. Larger in means no smaller out.
    pub fn apply(&self, probability: f32) -> f32 {
        let calibrated = self.calibrated(f64::from(probability));
        centred(calibrated, self.0.center) as f32
    }

    /// The calibrated probability, before the shift that makes the center one half.
    pub fn calibrated(&self, probability: f64) -> f64 {
        let CalibrationSpec { method, scale, shift, points, .. } = &self.0;
        match method {
            Method::None => probability,
            Method::Platt => sigmoid(scale * logit(probability) + shift),
            Method::Isotonic => interpolated(points, probability),
        }
    }
}

/// The logit of a probability that is kept off 0 and 1, so that it is finite; NaN stays NaN.
pub fn logit(probability: f64) -> f64 {
    let kept = probability.clamp(MARGIN, 1.0 - MARGIN);
    (kept / (1.0 - kept)).ln()
}

/// What turns `center` into exactly one half.
fn centred(probability: f64, center: f64) -> f64 {
    if center == 0.5 {
        return probability;
    }
    let odds = (center / (1.0 - center)).ln();
    sigmoid(if probability == center { 0.0 } else { logit(probability) - odds })
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The line through the points at `x`.
fn interpolated(points: &[[f64; 2]], x: f64) -> f64 {
    let after = points.partition_point(|point| point[0] <= x);
    match (after.checked_sub(1).and_then(|i| points.get(i)), points.get(after)) {
        (Some(from), Some(to)) => {
            let share = (x - from[0]) / (to[0] - from[0]);
            // Rounding must not lead beyond the next point.
            (from[1] + share * (to[1] - from[1])).min(to[1])
        }
        // A NaN is at or above no point: not the first one's value, but nobody's.
        (None, _) if x.is_nan() => x,
        (Some(only), None) | (None, Some(only)) => only[1],
        (None, None) => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn platt(scale: f64, shift: f64, center: f64) -> CalibrationSpec {
        let spec = CalibrationSpec::default();
        CalibrationSpec { method: Method::Platt, scale, shift, center, ..spec }
    }

    fn isotonic(points: &[[f64; 2]]) -> CalibrationSpec {
        let method = Method::Isotonic;
        CalibrationSpec { method, points: points.to_vec(), ..CalibrationSpec::default() }
    }

    fn remap(spec: &CalibrationSpec) -> Remap {
        Remap::new(spec).unwrap()
    }

    #[test]
    fn the_default_changes_nothing() {
        let none = remap(&CalibrationSpec::default());
        assert!(none.is_identity());
        for p in [0.0, f32::MIN_POSITIVE, 0.3, 1.0 - f32::EPSILON, 1.0] {
            assert_eq!(none.apply(p), p);
        }
        assert!(none.apply(f32::NAN).is_nan());
        assert!(!remap(&platt(1.0, 0.0, 0.5)).is_identity());
    }

    #[test]
    fn platt_scales_and_shifts_the_logit() {
        // logit(0.8) = ln 4; twice that plus ln 2 is ln 32.
        let p = remap(&platt(2.0, 2.0_f64.ln(), 0.5)).apply(0.8);
        assert!((p - 32.0 / 33.0).abs() < 1e-6, "{p}");
    }

    #[test]
    fn isotonic_is_a_line_that_is_level_at_its_ends() {
        let map = remap(&isotonic(&[[0.2, 0.1], [0.4, 0.1], [0.8, 0.9]]));
        for (x, y) in [(0.0, 0.1), (0.2, 0.1), (0.3, 0.1), (0.6, 0.5), (0.8, 0.9), (1.0, 0.9)] {
            assert!((map.apply(x) - y).abs() < 1e-6, "{x}: {}", map.apply(x));
        }
        assert!(map.apply(f32::NAN).is_nan());
    }

    #[test]
    fn the_center_becomes_exactly_one_half() {
        let map = remap(&CalibrationSpec { center: 0.25, ..CalibrationSpec::default() });
        assert_eq!(map.apply(0.25), 0.5);
        assert!(map.apply(0.250_001) > 0.5 && map.apply(0.249_999) < 0.5);
        // logit(0.75) - logit(0.25) = ln 9.
        assert!((map.apply(0.75) - 0.9).abs() < 1e-6);
        assert!(map.apply(0.0) > 0.0 && map.apply(1.0) < 1.0);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let told = |spec: CalibrationSpec| {
            spec.problems().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert!(told(platt(0.0, 0.0, 0.5)).starts_with("scale must"));
        assert!(told(platt(f64::NAN, 0.0, 0.5)).starts_with("scale must"));
        assert!(told(platt(1.0, f64::INFINITY, 0.5)).starts_with("shift must"));
        for center in [0.0, 1.0, f64::NAN] {
            assert!(told(platt(1.0, 0.0, center)).starts_with("center must"), "{center}");
        }
        assert!(told(isotonic(&[[0.5, 0.5]])).contains("two or more"));
        assert!(told(isotonic(&[])).contains("two or more"));
        assert!(told(isotonic(&[[0.1, 0.5], [1.1, 0.6]])).contains("pair 2"));
        assert!(told(isotonic(&[[0.1, f64::NAN], [0.5, 0.6]])).contains("pair 1"));
        assert!(told(isotonic(&[[0.1, 0.5], [0.1, 0.6]])).contains("pair 2 does not follow"));
        assert!(told(isotonic(&[[0.1, 0.5], [0.2, 0.4]])).contains("pair 2 does not follow"));
        assert_eq!(told(isotonic(&[[0.1, 0.5], [0.2, 0.5]])), "");
    }

    fn specs() -> impl Strategy<Value = CalibrationSpec> {
        let points = prop::collection::vec((0.0..=1.0, 0.0..=1.0), 2..20).prop_map(|pairs| {
            let (mut xs, mut ys): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            xs.sort_by(f64::total_cmp);
            ys.sort_by(f64::total_cmp);
            let mut points: Vec<_> = xs.into_iter().zip(ys).map(|(x, y)| [x, y]).collect();
            points.dedup_by_key(|point| point[0]);
            points
        });
        let method = prop_oneof![Just(Method::None), Just(Method::Platt), Just(Method::Isotonic)];
        (method, 1e-3..1e3, -50.0..50.0, points, 1e-6..0.999_999).prop_map(
            |(method, scale, shift, points, center)| CalibrationSpec {
                method,
                scale,
                shift,
                points,
                center,
            },
        )
    }

    proptest! {
        /// Whatever the settings: in order, within 0 and 1, and a number stays a number.
        #[test]
        fn a_remap_is_monotone_and_finite(spec in specs(), a in 0.0f32..=1.0, b in 0.0f32..=1.0) {
            prop_assume!(spec.problems().is_empty());
            let map = remap(&spec);
            let (low, high) = (map.apply(a.min(b)), map.apply(a.max(b)));
            prop_assert!((0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high));
            prop_assert!(low <= high, "{low} {high}");
        }

        /// Above the center is roadwork, below it is not.
        #[test]
        fn the_label_changes_at_the_center(p in 0.0f32..=1.0, center in 0.01f64..0.99) {
            prop_assume!((f64::from(p) - center).abs() > 1e-6);
            let spec = CalibrationSpec { center, ..CalibrationSpec::default() };
            prop_assert_eq!(remap(&spec).apply(p) > 0.5, f64::from(p) > center);
        }

        #[test]
        fn settings_survive_toml(spec in specs()) {
            let text = toml::to_string(&spec).unwrap();
            prop_assert_eq!(toml::from_str::<CalibrationSpec>(&text).unwrap(), spec);
        }
    }
}
