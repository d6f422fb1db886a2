//! ONNX Runtime itself, against candle and against graphs made by hand. Without the library these
//! tests skip, and say so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backends::{Backend, BackendContext, Fault, Input, Registry};
use crate::image::Image;
use crate::models::ModelFiles;
use crate::onnx::Library;
use crate::onnx::graph::{self, Dtype};
use crate::onnx::testing::{self, floats, integers, node, port};
use crate::prediction::Prediction;
use crate::video::{Clip, ClipLimits};

const FLOAT: i32 = 1;

/// Pictures that differ, of several sizes.
fn pictures(count: u32) -> Vec<Input> {
    let picture = |seed: u32| {
        let (width, height) = (40 + 13 * seed, 90 - 7 * seed);
        let mut state = seed + 1;
        let pixels = (0..width * height * 3).map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 26) + i / width % 192) as u8
        });
        Input::Image(Arc::new(Image::from_rgb(width, height, pixels.collect()).unwrap()))
    };
    (0..count).map(picture).collect()
}

/// A picture of one brightness.
fn grey(value: u8) -> Input {
    Input::Image(Arc::new(Image::from_rgb(8, 8, vec![value; 192]).unwrap()))
}

fn context(library: &Library, settings: &str) -> BackendContext {
    BackendContext {
        stage: "s".into(),
        max_batch: 4,
        instances: 1,
        onnx: testing::spec(library),
        settings: settings.parse().unwrap(),
    }
}

fn build(name: &str, context: &BackendContext) -> anyhow::Result<Box<dyn Backend>> {
    let mut backend = Registry::default().get(name).unwrap()(context)?;
    backend.warm_up().map_err(anyhow::Error::from)?;
    Ok(backend)
}

/// The models that are compiled in, and every fixture.
fn models() -> Vec<String> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let mut models = vec!["embedded:screen".to_owned(), "embedded:confirm".to_owned()];
    for entry in fs_err::read_dir(fixtures).unwrap() {
        models.push(entry.unwrap().path().display().to_string());
    }
    assert!(models.len() >= 9, "{models:?}");
    models
}

/// What `roadcrew export` writes.
fn exported(model: &str, path: &Path) {
    let files = ModelFiles::named(model).unwrap();
    let source = graph::Source::load(&files).unwrap();
    let metadata = source.metadata(Dtype::F32, source.calibration()).unwrap();
    let model = source.model(Dtype::F32, source.calibration(), &metadata).unwrap();
    model.write(&mut fs_err::File::create(path).unwrap()).unwrap();
}

fn scores(said: &[Prediction]) -> Vec<f32> {
    said.iter().map(|prediction| prediction.probability().unwrap().get()).collect()
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-4, "{what}: {found} against {expected}");
    }
}

#[test]
fn an_exported_classifier_says_what_candle_says() {
    let Some(library) = testing::library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    let mut inputs = pictures(5);
    let frames = pictures(3).iter().map(|input| input.frames()[0].clone()).collect();
    let same_size = |frames: Vec<Arc<Image>>| vec![frames[0].clone(), frames[0].clone()];
    let clip = Clip::new(same_size(frames), 1.0, &ClipLimits { max_frames: 3 }).unwrap();
    inputs.push(Input::Clip(Arc::new(clip)));
    for model in models() {
        let candle = format!("model = \"{model}\"\nruntime = \"candle\"");
        let mut candle = build("classifier", &context(&library, &candle)).unwrap();
        let expected = scores(&candle.infer(&inputs).unwrap());
        exported(&model, &path);
        // Nothing but the file: all else stands in its metadata.
        let plain = format!("model = \"{}\"", path.display());
        for settings in [plain.clone(), format!("{plain}\noutput = \"probability\"")] {
            for share in ["", "\nshare_weights = true"] {
                let context = context(&library, &format!("{settings}{share}"));
                let opened = build("onnx", &context);
                let mut onnx =
                    opened.unwrap_or_else(|e| panic!("{model} {settings}{share}: {e:#}"));
                let found = scores(&onnx.infer(&inputs).unwrap());
                assert_close(&found, &expected, &format!("{model} {settings}{share}"));
            }
        }
    }
}
