//! From a graph's answer to a prediction. Pure.

use super::spec::{Activation, OnnxSpec};
use crate::backends::Input;
use crate::calibration::{Calibration, logit};
use crate::onnx::ports::floats;
use crate::onnx::{Port, Ports, View};
use crate::prediction::Prediction;

/// The outputs that are taken if none is named.
const KNOWN: [&str; 2] = ["logits", "probability"];

/// How the output is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Judge {
    activation: Activation,
    class: usize,
}

impl Judge {
    /// The judge of a graph with these outputs, and the one it reads.
    ///
    /// # Errors
    /// If the output is not as the settings say.
    pub(super) fn new<'a>(spec: &OnnxSpec, ports: &'a Ports) -> anyhow::Result<(Self, &'a Port)> {
        let port = ports.output(&spec.output, &KNOWN)?;
        let is_probability = port.name == "probability";
        let usual = if is_probability { Activation::None } else { Activation::Sigmoid };
        let activation = spec.activation.unwrap_or(usual);
        let judge = Self { activation, class: spec.class };
        let dims = floats(port, "output")?;
        anyhow::ensure!(
            (1..=2).contains(&dims.len()),
            "the output {port} has {} dimensions; an answer has [batch] or [batch, classes]",
            dims.len()
        );
        let classes = dims.get(1).map_or(Some(1), |dim| dim.length());
        if let Some(classes) = classes {
            judge.check(classes).map_err(|error| anyhow::anyhow!("the output {port}: {error}"))?;
        }
        Ok((judge, port))
    }

    fn check(&self, classes: usize) -> anyhow::Result<()> {
        let Self { activation, class } = *self;
        if activation == Activation::Softmax {
            anyhow::ensure!(
                classes > 1,
                "softmax wants one value per class, and there is one only; set activation = \
                 \"sigmoid\", or \"none\" for a probability"
            );
        }
        anyhow::ensure!(
            classes == 1 || class < classes,
            "class = {class}, and there are {classes} classes, 0 to {}",
            classes.saturating_sub(1)
        );
        Ok(())
    }

    /// One value per picture: a logit, or the probability that the graph gave.
    pub(super) fn read(&self, views: &[View<'_>]) -> anyhow::Result<Vec<f32>> {
        let [View { dims, values }] = views else { anyhow::bail!("one output was asked for") };
        let classes = match *dims {
            [_] => 1,
            [_, classes] => usize::try_from(*classes).unwrap_or(0),
            _ => anyhow::bail!("the answer has the dimensions {dims:?}"),
        };
        anyhow::ensure!(classes > 0, "the answer has the dimensions {dims:?}");
        self.check(classes)?;
        Ok(values.chunks_exact(classes).map(|row| self.one(row)).collect())
    }

    fn one(&self, row: &[f32]) -> f32 {
        let class = if row.len() == 1 { 0 } else { self.class };
        match self.activation {
            Activation::Sigmoid | Activation::None => row[class],
            Activation::Softmax => log_odds(row, class),
        }
    }

    /// From [`read`](Self::read) values of every frame to a prediction for every input. A graph that
    /// gives probabilities is taken at its word; a calibration is of logits.
    pub(super) fn predictions(
        &self,
        inputs: &[Input],
        said: &[f32],
        calibration: &Calibration,
    ) -> Vec<Prediction> {
        if self.activation != Activation::None {
            return of_logits(inputs, said, calibration);
        }
        if inputs.len() == said.len() {
            return said.iter().map(|value| of_probability(*value)).collect();
        }
        let logits: Vec<f32> = said.iter().map(|p| logit_of(*p)).collect();
        of_logits(inputs, &logits, &Calibration::default())
    }
}

/// What rounding may add to a probability.
const SLACK: f32 = 1e-3;

fn is_probability(value: f32) -> bool {
    (-SLACK..=1.0 + SLACK).contains(&value)
}

/// A prediction from what should be a probability. Far from one it is a logit, most likely, and the
/// activation is wrong.
fn of_probability(value: f32) -> Prediction {
    if value.is_nan() || is_probability(value) {
        return Prediction::from_raw(value);
    }
    let reason = format!("the graph gave {value}, which is no probability; check the activation");
    Prediction::Abstention { reason }
}

/// The logit of what should be a probability; NaN if it is none.
fn logit_of(value: f32) -> f32 {
    if is_probability(value) { logit(f64::from(value)) as f32 } else { f32::NAN }
}

/// The logarithm of a class's odds against all others together.
fn log_odds(row: &[f32], class: usize) -> f32 {
    let others = || row.iter().enumerate().filter(|(i, _)| *i != class).map(|(_, value)| *value);
    let most = others().fold(f32::NEG_INFINITY, f32::max);
    if most == f32::NEG_INFINITY {
        return if others().any(f32::is_nan) { f32::NAN } else { row[class] - most };
    }
    let sum: f32 = others().map(|value| (value - most).exp()).sum();
    row[class] - most - sum.ln()
}

/// A prediction for every input, by the mean of its frames' logits.
pub(in crate::backends) fn of_logits(
    inputs: &[Input],
    logits: &[f32],
    calibration: &Calibration,
) -> Vec<Prediction> {
    let mut logits = logits.iter();
    let predictions = inputs.iter().map(|input| {
        let count = input.frames().len();
        let sum: f32 = logits.by_ref().take(count).sum();
        Prediction::from_raw(calibration.apply(sum / count as f32))
    });
    predictions.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::calibration::sigmoid;
    use crate::image::Image;
    use crate::video::{Clip, ClipLimits};

    fn judge(activation: Activation, class: usize) -> Judge {
        Judge { activation, class }
    }

    fn picture() -> Arc<Image> {
        Arc::new(Image::from_rgb(1, 1, vec![0; 3]).unwrap())
    }

    fn clip(frames: usize) -> Input {
        let limits = ClipLimits { max_frames: frames };
        Input::Clip(Arc::new(Clip::new(vec![picture(); frames], 1.0, &limits).unwrap()))
    }

    fn score(prediction: &Prediction) -> f32 {
        prediction.probability().unwrap().get()
    }

    proptest! {
        #[test]
        fn log_odds_are_the_logit_of_the_softmax(
            row in prop::collection::vec(-20.0f32..20.0, 2..6), pick in any::<prop::sample::Index>(),
        ) {
            let class = pick.index(row.len());
            let sum: f64 = row.iter().map(|z| f64::from(*z).exp()).sum();
            let expected = f64::from(row[class]).exp() / sum;
            let found = f64::from(sigmoid(log_odds(&row, class)));
            prop_assert!((found - expected).abs() < 1e-5, "{found} against {expected}");
        }
    }

    #[test]
    fn large_logits_and_infinite_ones_stay_numbers_and_nan_stays_nan() {
        assert_eq!(log_odds(&[1000.0, 3000.0], 1), 2000.0);
        assert_eq!(sigmoid(log_odds(&[f32::NEG_INFINITY, 0.0], 1)), 1.0);
        assert!(log_odds(&[f32::NAN, 0.0], 1).is_nan());
        assert!(log_odds(&[0.0, f32::NAN], 1).is_nan());
        assert!(log_odds(&[0.0, f32::NAN, 1.0], 0).is_nan());
    }

    #[test]
    fn rows_are_read_by_their_class() {
        let (dims, values) = ([2, 3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let view = View { dims: &dims, values: &values };
        assert_eq!(judge(Activation::Sigmoid, 2).read(&[view]).unwrap(), [3.0, 6.0]);
        let error = judge(Activation::Sigmoid, 3).read(&[view]).unwrap_err().to_string();
        assert!(error.contains("class = 3, and there are 3 classes, 0 to 2"), "{error}");
        let single = View { dims: &[2, 1], values: &[7.0, 8.0] };
        assert_eq!(judge(Activation::None, 1).read(&[single]).unwrap(), [7.0, 8.0]);
        let flat = View { dims: &[2], values: &[7.0, 8.0] };
        assert_eq!(judge(Activation::Sigmoid, 1).read(&[flat]).unwrap(), [7.0, 8.0]);
        assert!(judge(Activation::Softmax, 1).read(&[flat]).is_err());
    }

    #[test]
    fn a_clip_is_the_mean_of_its_logits() {
        let inputs = [Input::Image(picture()), clip(2)];
        let calibration = Calibration { scale: 2.0, shift: 1.0 };
        let said = of_logits(&inputs, &[0.5, 1.0, -3.0], &calibration);
        assert_eq!(score(&said[0]), sigmoid(2.0));
        assert_eq!(score(&said[1]), sigmoid(-1.0));
        let plain = judge(Activation::None, 1);
        let said = plain.predictions(&inputs, &[0.25, 0.2, 0.8], &Calibration::default());
        assert!((score(&said[0]) - 0.25).abs() < 1e-6);
        assert!((score(&said[1]) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn what_is_no_probability_is_an_abstention_of_that_input_alone() {
        let inputs = [Input::Image(picture()), Input::Image(picture()), clip(2)];
        let calibration = Calibration { scale: 2.0, shift: 1.0 };
        for activation in [Activation::None, Activation::Sigmoid] {
            let judge = judge(activation, 1);
            let said = judge.predictions(&inputs, &[f32::NAN, 0.5, f32::NAN, 0.5], &calibration);
            assert!(said[0].probability().is_none());
            let expected = if activation == Activation::None { 0.5 } else { sigmoid(2.0) };
            assert_eq!(score(&said[1]), expected);
            assert!(said[2].probability().is_none());
        }
        let said = judge(Activation::None, 1).predictions(&inputs[..1], &[1.5], &calibration);
        assert!(said[0].probability().is_none());
    }
}
