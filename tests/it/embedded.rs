//! The embedded models say what transformers says of the same files.
//!
//! The logits beside the images were computed by transformers 5.23 in f32 (`tools/train_default.py
//! evaluate --golden`); heads are stored in f16 since, and JPEG decoders differ by a level or two.

use std::sync::Arc;

use roadcrew::backends::{BackendContext, Input, Registry};
use roadcrew::calibration::Calibration;
use roadcrew::image::{Image, ImageLimits};
use serde::Deserialize;

const TOLERANCE: f32 = 0.02;

#[derive(Deserialize)]
struct Golden {
    images: Vec<Score>,
}

#[derive(Deserialize)]
struct Score {
    file: String,
    logit: f32,
}

/// The calibration beside the weights, or the identity.
fn calibration(model: &str) -> Calibration {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/models/default");
    let file = format!("{folder}/{model}/calibration.json");
    fs_err::read(file)
        .map_or_else(|_| Calibration::default(), |b| serde_json::from_slice(&b).unwrap())
}

#[test]
fn embedded_models_score_as_transformers_does() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/embedded");
    for model in ["screen", "confirm"] {
        let text = fs_err::read_to_string(folder.join(format!("{model}.json"))).unwrap();
        let golden: Golden = serde_json::from_str(&text).unwrap();
        let inputs: Vec<Input> = golden
            .images
            .iter()
            .map(|score| {
                let name = score.file.rsplit('/').next().unwrap();
                let bytes = fs_err::read(folder.join(name)).unwrap();
                Input::Image(Arc::new(Image::decode(&bytes, &ImageLimits::default()).unwrap()))
            })
            .collect();
        assert_eq!(inputs.len(), 8);
        let context = BackendContext {
            stage: model.into(),
            max_batch: 8,
            settings: format!("model = \"embedded:{model}\"").parse().unwrap(),
            ..BackendContext::default()
        };
        let mut backend = Registry::default().get("classifier").unwrap()(&context).unwrap();
        for (said, score) in backend.infer(&inputs).unwrap().iter().zip(&golden.images) {
            let p = said.probability().unwrap().get();
            let expected = calibration(model).apply(score.logit);
            let off = (p - expected).abs();
            assert!(off < TOLERANCE, "{model} {}: {p} against {expected}", score.file);
        }
    }
}
