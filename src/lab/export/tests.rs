//! The structure of what is written. That it computes what candle computes is shown by
//! `scripts/check-onnx.sh`, with the real checker and runtime.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Device;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::calibration::Calibration;
use crate::lab::files::partial;
use crate::onnx::graph::proto;
use crate::onnx::testing::models;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models").join(name)
}

fn spec(model: &str, onnx: PathBuf) -> ExportSpec {
    ExportSpec {
        model: model.to_owned(),
        onnx,
        encoder_only: false,
        dtype: Dtype::F32,
        with_calibration: false,
        check: None,
        force: false,
    }
}

/// The summary and the decoded file.
fn exported(model: &str, dtype: Dtype) -> (Summary, proto::Model) {
    let dir = tempfile::tempdir().unwrap();
    let spec = ExportSpec { dtype, ..spec(model, dir.path().join("model.onnx")) };
    let summary = export(&spec).unwrap();
    let bytes = fs_err::read(&spec.onnx).unwrap();
    assert_eq!(bytes.len() as u64, summary.bytes);
    assert_eq!(format!("{:x}", Sha256::digest(&bytes)), summary.sha256);
    (summary, proto::Model::decode(&*bytes).unwrap())
}

/// A copy of a fixture that a test may spoil.
fn copy_of(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "preprocessor_config.json", "model.safetensors", "head.safetensors"]
    {
        fs_err::copy(fixture(name).join(file), dir.path().join(file)).unwrap();
    }
    dir
}

/// Exports a folder, which must fail and leave nothing behind; why.
fn refused(folder: &Path, dtype: Dtype) -> String {
    let out = tempfile::tempdir().unwrap();
    let model = folder.display().to_string();
    let spec = ExportSpec { dtype, ..spec(&model, out.path().join("model.onnx")) };
    let error = export(&spec).unwrap_err();
    assert_eq!(fs_err::read_dir(out.path()).unwrap().count(), 0);
    format!("{error:#}")
}

#[test]
fn every_value_is_made_once_before_it_is_taken_and_is_taken() {
    for model in models() {
        for dtype in [Dtype::F32, Dtype::F16] {
            let (summary, exported) = exported(&model, dtype);
            let graph = exported.graph.unwrap();
            assert_eq!(graph.node.len(), summary.nodes);
            let mut known = BTreeSet::new();
            let inputs = graph.input.iter().map(|input| input.name.clone().unwrap());
            let constants = graph.initializer.iter().map(|tensor| tensor.name.clone().unwrap());
            for name in inputs.chain(constants) {
                assert!(known.insert(name.clone()), "{model}: {name} twice");
            }
            let mut taken: BTreeSet<_> =
                graph.output.iter().map(|output| output.name.clone().unwrap()).collect();
            let mut names = BTreeSet::new();
            for node in &graph.node {
                let name = node.name.clone().unwrap();
                assert!(names.insert(name.clone()), "{model}: two nodes {name}");
                for input in &node.input {
                    assert!(known.contains(input), "{model}: {name} takes {input}");
                    taken.insert(input.clone());
                }
                for output in &node.output {
                    assert!(known.insert(output.clone()), "{model}: {output} twice");
                }
            }
            assert_eq!(known, taken, "{model}: made and taken differ");
        }
    }
}

#[test]
fn every_weight_is_written_as_it_is_or_transposed() {
    for model in models() {
        let (_, exported) = exported(&model, Dtype::F32);
        let tensors: BTreeMap<String, proto::Tensor> = exported
            .graph
            .unwrap()
            .initializer
            .into_iter()
            .map(|tensor| (tensor.name.clone().unwrap(), tensor))
            .collect();
        let files = ModelFiles::named(&model).unwrap();
        let mut found = 0;
        for (owner, stem) in [("encoder", "model"), ("head", "head")] {
            let checkpoint = files.checkpoint(stem).unwrap();
            for name in checkpoint.names() {
                // Registers of a model that has none are a tensor without values.
                let is_empty = checkpoint.shape(name).unwrap().contains(&0);
                if is_empty || name.ends_with("mask_token") {
                    continue;
                }
                let expected = checkpoint.tensor(name, None, &Device::Cpu).unwrap();
                let plain = format!("{owner}.{name}");
                let (tensor, expected) = match tensors.get(&plain) {
                    Some(tensor) => (tensor, expected),
                    None => (&tensors[&format!("{plain}.transposed")], expected.t().unwrap()),
                };
                let dims: Vec<i64> = expected.dims().iter().map(|d| *d as i64).collect();
                assert_eq!(tensor.dims, dims, "{model}: {name}");
                let values: Vec<f32> = expected.flatten_all().unwrap().to_vec1().unwrap();
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                assert!(tensor.raw_data.as_ref() == Some(&bytes), "{model}: values of {name}");
                found += 1;
            }
        }
        let weights = |name: &&String| name.starts_with("encoder.") || name.starts_with("head.");
        assert_eq!(tensors.keys().filter(weights).count(), found, "{model}");
    }
}

#[test]
fn half_the_bits_are_half_the_file_and_the_head_stays() {
    let (wide, _) = exported("embedded:confirm", Dtype::F32);
    let (half, model) = exported("embedded:confirm", Dtype::F16);
    assert!(half.bytes * 10 < wide.bytes * 6, "{} of {}", half.bytes, wide.bytes);
    for tensor in model.graph.unwrap().initializer {
        let (name, kind) = (tensor.name.unwrap(), tensor.data_type.unwrap());
        let is_encoder = name.starts_with("encoder.") && !name.contains("layer_norm.");
        assert!(!is_encoder || kind == proto::FLOAT16, "{name}");
        assert!(!name.starts_with("head.") || kind == proto::FLOAT, "{name}");
    }
}

#[test]
fn says_what_it_is() {
    let (summary, model) = exported("embedded:screen", Dtype::F32);
    assert_eq!((model.ir_version, model.opset_import[0].version), (Some(8), Some(17)));
    assert_eq!(model.producer_name.as_deref(), Some("roadcrew"));
    let metadata: BTreeMap<_, _> = model
        .metadata_props
        .iter()
        .map(|entry| (entry.key.as_deref().unwrap(), entry.value.clone().unwrap()))
        .collect();
    assert_eq!(metadata, summary.metadata);
    assert_eq!(metadata["model_type"], "dinov3_convnext");
    let digest = ModelFiles::named("embedded:screen").unwrap().digest().unwrap();
    assert_eq!(metadata["model_digest"], digest);
    let preparation: serde_json::Value = serde_json::from_str(&metadata["preprocessing"]).unwrap();
    assert_eq!((&preparation["height"], &preparation["width"]), (&96.into(), &160.into()));
    assert_eq!(preparation["resample"], "bilinear");
    let graph = model.graph.unwrap();
    let shape = |info: &proto::ValueInfo| {
        let tensor = info.r#type.clone().unwrap().tensor_type.unwrap();
        assert_eq!(tensor.elem_type, Some(proto::FLOAT));
        let dims = tensor.shape.unwrap().dim;
        (info.name.clone().unwrap(), dims.into_iter().map(|d| d.value.unwrap()).collect::<Vec<_>>())
    };
    let sides = [3, 96, 160].map(Extent::Value);
    let expected = [&[batch()][..], &sides].concat();
    assert_eq!(shape(&graph.input[0]), (PIXELS.to_owned(), expected));
    let outputs: Vec<_> = graph.output.iter().map(shape).collect();
    assert_eq!(outputs, [LOGITS, PROBABILITY].map(|name| (name.to_owned(), vec![batch()])));
}

#[test]
fn the_same_model_gives_the_same_bytes_and_a_calibration_others() {
    let (first, _) = exported("embedded:confirm", Dtype::F32);
    let (second, _) = exported("embedded:confirm", Dtype::F32);
    assert_eq!(first.sha256, second.sha256);
    assert!(first.calibration_left_out);
    let dir = tempfile::tempdir().unwrap();
    let plain = spec("embedded:confirm", dir.path().join("model.onnx"));
    let calibrated = export(&ExportSpec { with_calibration: true, ..plain }).unwrap();
    assert_eq!(calibrated.nodes, first.nodes + 2);
    assert!(!calibrated.calibration_left_out);
    assert_eq!(calibrated.metadata["calibration"], r#"{"scale":1.32,"shift":0.0}"#);
}

#[test]
fn the_check_file_holds_what_a_stage_would_say() {
    let dir = tempfile::tempdir().unwrap();
    let check = dir.path().join("check.safetensors");
    let spec = ExportSpec {
        check: Some(check.clone()),
        with_calibration: true,
        ..spec("embedded:confirm", dir.path().join("model.onnx"))
    };
    export(&spec).unwrap();
    let tensors = candle_core::safetensors::load(&check, &Device::Cpu).unwrap();
    assert_eq!(tensors["pixel_values"].dims(), [5, 3, 128, 224]);
    let values = |name: &str| tensors[name].to_vec1::<f32>().unwrap();
    let calibration = Calibration { scale: 1.32, shift: 0.0 };
    let expected: Vec<f32> = values("logits").iter().map(|l| calibration.apply(*l)).collect();
    assert_eq!(values("probability"), expected);
    // Scenes that differ are told apart.
    let logits = values("logits");
    let spread = logits.iter().fold(0.0_f32, |most, l| most.max((l - logits[0]).abs()));
    assert!(spread > 0.5, "{logits:?}");
}

#[test]
fn what_exists_is_replaced_only_by_force() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    fs_err::write(&path, "mine").unwrap();
    let plain = spec("embedded:screen", path.clone());
    let error = export(&plain).unwrap_err().to_string();
    assert!(error.contains("model.onnx exists") && error.contains("--force"), "{error}");
    assert_eq!(fs_err::read(&path).unwrap(), b"mine");
    export(&ExportSpec { force: true, ..plain.clone() }).unwrap();
    assert!(fs_err::metadata(&path).unwrap().len() > 1000);
    assert!(!partial(&path).exists());
    fs_err::create_dir(dir.path().join("below")).unwrap();
    for check in [path, dir.path().join("below/../model.onnx")] {
        let both = ExportSpec { check: Some(check), force: true, ..plain.clone() };
        assert!(export(&both).unwrap_err().to_string().contains("both files"));
    }
}

#[test]
fn a_check_file_does_not_stay_without_its_model() {
    let dir = tempfile::tempdir().unwrap();
    // A folder with something in it cannot be replaced by a file.
    let path = dir.path().join("model.onnx");
    fs_err::create_dir_all(path.join("full")).unwrap();
    let check = Some(dir.path().join("check.safetensors"));
    let spec = ExportSpec { check, force: true, ..spec("embedded:screen", path) };
    assert!(export(&spec).unwrap_err().to_string().contains("model.onnx"));
    assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn what_does_not_fit_f16_is_refused_and_leaves_nothing() {
    let dir = copy_of("dinov3-s11-v6");
    let path = dir.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let name = "norm1.weight";
    let name = tensors.keys().find(|key| key.ends_with(name)).unwrap().clone();
    let spoilt = (&tensors[&name] * 1e6).unwrap();
    tensors.insert(name.clone(), spoilt);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let error = refused(dir.path(), Dtype::F16);
    assert!(error.contains(&name) && error.contains("f16 ends at 65504"), "{error}");
    let nothing = (&tensors[&name] * f64::NAN).unwrap();
    tensors.insert(name.clone(), nothing);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let error = refused(dir.path(), Dtype::F32);
    assert!(error.contains(&name) && error.contains("not a finite number"), "{error}");
}

#[test]
fn models_that_cannot_be_exported_are_named() {
    let refuse = |name: &str, file: &str, content: Option<&str>| {
        let dir = copy_of(name);
        match content {
            Some(content) => fs_err::write(dir.path().join(file), content).unwrap(),
            None => fs_err::remove_file(dir.path().join(file)).unwrap(),
        }
        refused(dir.path(), Dtype::F32)
    };
    let (vit, conv) = ("dinov3-s0-v0", "dinov3_convnext-s0-v0");
    let error = refuse(vit, "preprocessor_config.json", Some(r#"{"do_resize": false}"#));
    assert!(error.contains("no fixed size"), "{error}");
    for (name, size, part) in [(vit, 8, "no patch of 16"), (conv, 31, "smaller than 32 by 32")] {
        let text = format!(r#"{{"size": {size}}}"#);
        let error = refuse(name, "preprocessor_config.json", Some(&text));
        assert!(error.contains(part), "{error}");
    }
    let error = refuse(conv, "head.safetensors", None);
    assert!(error.contains("no head.safetensors"), "{error}");
    let config = fs_err::read_to_string(fixture(vit).join("config.json")).unwrap();
    for (from, to, part) in [
        (r#""num_hidden_layers": 3"#, r#""num_hidden_layers": 2"#, "have a `layer.2`"),
        (r#""num_hidden_layers": 3"#, r#""num_hidden_layers": 4"#, "no tensor `layer.3.norm1"),
        (r#""intermediate_size": 192"#, r#""intermediate_size": 191"#, "[192, 48]"),
        (r#""hidden_act": "gelu""#, r#""hidden_act": "mish""#, "hidden_act `mish`"),
    ] {
        assert!(config.contains(from), "{from}");
        let error = refuse(vit, "config.json", Some(&config.replace(from, to)));
        assert!(error.contains(part), "{error}");
    }
}
