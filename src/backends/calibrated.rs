//! A backend whose scores are calibrated: wraps whatever a factory makes.

use std::sync::Arc;

use super::{Backend, BackendError, Factory, Input};
use crate::calibration::Remap;
use crate::prediction::Prediction;

/// A backend behind a remap of its probabilities. Abstentions and evidence pass through.
struct Calibrated {
    inner: Box<dyn Backend>,
    remap: Remap,
}

/// A factory of the same backends with calibrated scores.
pub fn calibrated(factory: Factory, remap: Remap) -> Factory {
    if remap.is_identity() {
        return factory;
    }
    Arc::new(move |ctx| {
        let inner = factory(ctx)?;
        Ok(Box::new(Calibrated { inner, remap: remap.clone() }))
    })
}

impl Backend for Calibrated {
    fn infer(&mut self, inputs: &[Input]) -> Result<Vec<Prediction>, BackendError> {
        let predictions = self.inner.infer(inputs)?;
        Ok(predictions.into_iter().map(|said| remapped(said, &self.remap)).collect())
    }

    fn warm_up(&mut self) -> Result<(), BackendError> {
        self.inner.warm_up()
    }

    /// That of the backend: the remap is a setting.
    fn version(&self) -> String {
        self.inner.version()
    }
}

fn remapped(said: Prediction, remap: &Remap) -> Prediction {
    let Prediction::Score { probability, evidence } = said else { return said };
    match Prediction::from_raw(remap.apply(probability.get())) {
        Prediction::Score { probability, .. } => Prediction::Score { probability, evidence },
        abstention => abstention,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::BackendContext;
    use crate::calibration::{CalibrationSpec, Method};
    use crate::image::Image;
    use crate::prediction::Probability;

    /// Says what it is told to, and that it is version 7.
    struct Fixed(Vec<Prediction>);

    impl Backend for Fixed {
        fn infer(&mut self, _: &[Input]) -> Result<Vec<Prediction>, BackendError> {
            Ok(self.0.clone())
        }

        fn version(&self) -> String {
            "7".into()
        }
    }

    #[test]
    fn scores_are_remapped_and_all_else_passes() {
        let evidence = Some("a sign".to_owned());
        let score = |p: f32| Prediction::Score {
            probability: Probability::new(p).unwrap(),
            evidence: evidence.clone(),
        };
        let silent = Prediction::Abstention { reason: "dark".into() };
        let said = vec![score(0.8), silent.clone()];
        let factory: Factory = Arc::new(move |_| Ok(Box::new(Fixed(said.clone()))));
        let spec = CalibrationSpec {
            method: Method::Platt,
            scale: 0.5,
            center: 1.0 / 3.0,
            ..CalibrationSpec::default()
        };
        let ctx = BackendContext { stage: "s".into(), max_batch: 1, ..BackendContext::default() };
        let remap = Remap::new(&spec).unwrap();
        let mut backend = calibrated(factory, remap)(&ctx).unwrap();
        let image = Input::Image(Arc::new(Image::from_rgb(1, 1, vec![0; 3]).unwrap()));
        let said = backend.infer(&[image.clone(), image]).unwrap();
        // Odds 4, their root 2, over the odds one half of the center: 4.
        let Prediction::Score { probability, evidence: kept } = &said[0] else { panic!() };
        assert!((probability.get() - 0.8).abs() < 1e-6);
        assert_eq!((kept, &said[1]), (&evidence, &silent));
        assert_eq!(backend.version(), "7");
    }
}
