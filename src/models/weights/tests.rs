use super::*;
use crate::models::ModelError;

/// A safetensors file by hand: header text, then data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn embedded(bytes: Vec<u8>) -> ModelFiles {
    let files: &'static [EmbeddedFile] = Vec::leak(vec![("model.safetensors", &*Vec::leak(bytes))]);
    ModelFiles::embedded("tiny", files)
}

fn checkpoint(header: &str, data: &[u8]) -> Checkpoint {
    embedded(file(header, data)).checkpoint("model").unwrap()
}

#[test]
fn every_float_type_becomes_f32() {
    let header = r#"{"__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b": {"dtype": "F16", "shape": [1, 2], "data_offsets": [8, 12]},
        "c": {"dtype": "BF16", "shape": [2], "data_offsets": [12, 16]},
        "d": {"dtype": "F64", "shape": [], "data_offsets": [16, 24]},
        "e": {"dtype": "I64", "shape": [1], "data_offsets": [24, 32]},
        "f": {"dtype": "F32", "shape": [1, 0, 4], "data_offsets": [32, 32]}}"#;
    let mut data = Vec::new();
    data.extend([1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()));
    data.extend([0x3E00u16, 0xC000].iter().flat_map(|v| v.to_le_bytes()));
    data.extend([0x3FC0u16, 0xC000].iter().flat_map(|v| v.to_le_bytes()));
    data.extend(0.25f64.to_le_bytes());
    data.extend(7i64.to_le_bytes());
    let checkpoint = checkpoint(header, &data);
    let values = |name: &str| -> Vec<f32> {
        let tensor = checkpoint.tensor(name, None, &Device::Cpu).unwrap();
        assert_eq!(tensor.dtype(), DType::F32);
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    };
    for name in ["a", "b", "c"] {
        assert_eq!(values(name), [1.5, -2.0], "{name}");
    }
    assert_eq!(values("d"), [0.25]);
    assert!(values("f").is_empty());
    assert_eq!(checkpoint.names(), ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(checkpoint.shape("b"), Some(&[1, 2][..]));
    let error = checkpoint.tensor("e", None, &Device::Cpu).unwrap_err();
    assert_eq!(
        error.to_string(),
        "model.safetensors of the built-in model `tiny`: tensor `e` is I64; read are F16, BF16, \
         F32 and F64"
    );
}

#[test]
fn errors_name_the_file_and_the_tensor() {
    let header = r#"{"x.weight": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}}"#;
    let checkpoint = checkpoint(header, &[0; 8]);
    let vb = checkpoint.var_builder(&Device::Cpu);
    let text =
        |result: candle_core::Result<Tensor>| ModelError::from(result.unwrap_err()).to_string();
    let place = "model.safetensors of the built-in model `tiny`";
    assert_eq!(
        text(vb.pp("y").get((3, 4), "bias")),
        format!("{place} has no tensor `y.bias` (expected with shape [3, 4])")
    );
    assert_eq!(
        text(vb.pp("x").get((1, 2), "weight")),
        format!("{place}: tensor `x.weight` has shape [2, 1], the configuration says [1, 2]")
    );
    assert!(vb.contains_tensor("x.weight") && !vb.contains_tensor("x"));
    let files = embedded(Vec::new());
    assert_eq!(
        files.checkpoint("head").map(drop).unwrap_err().to_string(),
        "the built-in model `tiny` has no head.safetensors (nor head.safetensors.index.json)"
    );
    assert!(files.json::<u32>("config.json").unwrap_err().to_string().contains("no config.json"));
    let error = ModelFiles::folder("/no/such/folder").unwrap_err().to_string();
    assert_eq!(error, "the model folder /no/such/folder does not exist (or is not a folder)");
}

#[test]
fn broken_files_are_errors() {
    let one = |offsets: &str| {
        format!(r#"{{"a": {{"dtype": "F32", "shape": [2], "data_offsets": {offsets}}}}}"#)
    };
    for (bytes, part) in [
        (vec![], "shorter than 8 bytes"),
        (vec![1; 7], "shorter than 8 bytes"),
        (u64::MAX.to_le_bytes().to_vec(), "its header claims"),
        (9u64.to_le_bytes().to_vec(), "its header claims"),
        (file("{", &[]), "EOF"),
        (file(&one("[0, 8]"), &[0; 7]), "its tensors take 8 bytes, but it holds 7"),
        (file(&one("[0, 8]"), &[0; 9]), "its tensors take 8 bytes, but it holds 9"),
        (file(&one("[8, 16]"), &[0; 8]), "offset"),
        (file(&one("[0, 4]"), &[0; 8]), "offset"),
        (file(&one("[8, 0]"), &[0; 8]), "offset"),
    ] {
        let length = bytes.len();
        let error = embedded(bytes).checkpoint("model").map(drop).unwrap_err().to_string();
        assert!(error.contains(part), "{length} bytes: {error}");
        assert!(error.contains("model.safetensors"), "{error}");
    }
}

#[test]
fn folders_and_embedded_files_read_alike() {
    let header = r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}"#;
    let bytes = file(header, &2.5f32.to_le_bytes());
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("model.safetensors"), &bytes).unwrap();
    fs_err::write(folder.path().join("config.json"), "3").unwrap();
    let on_disk = ModelFiles::folder(folder.path()).unwrap();
    assert_eq!(on_disk.json::<u32>("config.json").unwrap(), 3);
    assert!(on_disk.contains("config.json") && !on_disk.contains("other.json"));
    for files in [on_disk, embedded(bytes)] {
        let tensor = files.checkpoint("model").unwrap().tensor("a", None, &Device::Cpu).unwrap();
        assert_eq!(tensor.to_vec1::<f32>().unwrap(), [2.5]);
    }
}

#[test]
fn the_digest_covers_what_a_model_is_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
    let digest = || ModelFiles::folder(folder.path()).unwrap().digest().unwrap();
    write("config.json", "{}");
    write("model.safetensors", "weights");
    let first = digest();
    assert_eq!((first.len(), digest()), (64, first.clone()));
    write("README.md", "words");
    fs_err::create_dir(folder.path().join("old.json")).unwrap();
    assert_eq!(digest(), first, "neither words nor folders count");
    write("model.safetensors", "weighty");
    let second = digest();
    assert_ne!(second, first);
    let encoder = || ModelFiles::folder(folder.path()).unwrap().encoder_digest().unwrap();
    let features = encoder();
    write("calibration.json", "");
    assert_ne!(digest(), second);
    write("head.safetensors", "");
    assert_eq!(encoder(), features, "features do not depend on the head");
    write("preprocessor_config.json", "");
    assert_ne!(encoder(), features);
    for name in ["calibration.json", "head.safetensors", "preprocessor_config.json"] {
        fs_err::remove_file(folder.path().join(name)).unwrap();
    }
    let twin: &'static [EmbeddedFile] =
        &[("model.safetensors", b"weights"), ("config.json", b"{}"), ("README.md", b"")];
    assert_eq!(ModelFiles::embedded("twin", twin).digest().unwrap(), first);
}

#[test]
fn features_depend_on_every_shard_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
    let encoder = || ModelFiles::folder(folder.path()).unwrap().encoder_digest();
    let index = r#"{"weight_map": {"a": "first.safetensors", "b": "second.weights"}}"#;
    write("model.safetensors.index.json", index);
    write("first.safetensors", "1");
    assert!(encoder().unwrap_err().to_string().contains("second.weights"));
    write("second.weights", "2");
    let before = encoder().unwrap();
    write("third.safetensors", "3");
    assert_eq!(encoder().unwrap(), before, "the index does not name it");
    for name in ["first.safetensors", "second.weights"] {
        write(name, "other");
        assert_ne!(encoder().unwrap(), before, "{name}");
        write(name, if name.starts_with("first") { "1" } else { "2" });
        assert_eq!(encoder().unwrap(), before);
    }
    write("model.safetensors.index.json", r#"{"weight_map": {"a": "../x"}}"#);
    assert!(encoder().unwrap_err().to_string().contains("not the name of a file beside it"));
}
