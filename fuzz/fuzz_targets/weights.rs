//! Any bytes as one file of a model's folder: it loads, or an error names the file.
//!
//! The first byte says which file the rest is; the others are those of a tiny model.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use roadcrew::backends::{BackendContext, classifier::Classifier};
use tempfile::TempDir;

/// By the first byte, counted from `a`.
const FILES: [(&str, &[u8]); 5] = [
    ("config.json", include_bytes!("../model/config.json")),
    ("model.safetensors", include_bytes!("../model/model.safetensors")),
    ("head.safetensors", include_bytes!("../model/head.safetensors")),
    ("preprocessor_config.json", include_bytes!("../model/preprocessor_config.json")),
    ("calibration.json", include_bytes!("../model/calibration.json")),
];

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, bytes) in FILES {
        write(folder.path(), name, bytes);
    }
    load(folder.path()).expect("the tiny model loads");
    folder
});

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(folder.join(name), bytes).expect("the temporary folder takes files");
}

fn load(folder: &Path) -> anyhow::Result<Classifier> {
    let model = folder.display().to_string();
    let settings = toml::Table::from_iter([("model".to_owned(), model.into())]);
    Classifier::new(&BackendContext { stage: "fuzz".into(), max_batch: 1, settings, ..BackendContext::default() })
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some((which, content)) = bytes.split_first() else { return Corpus::Reject };
    let Some((name, own)) = FILES.get(usize::from(which.wrapping_sub(b'a'))) else {
        return Corpus::Reject;
    };
    let folder = FOLDER.path();
    write(folder, name, content);
    if let Err(error) = load(folder) {
        assert!(format!("{error:#}").contains(&folder.display().to_string()), "{error:#}");
    }
    write(folder, name, own);
    Corpus::Keep
});
