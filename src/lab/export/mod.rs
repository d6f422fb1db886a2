//! A classifier as one ONNX file, and what to compare another runtime's answers with.

mod check;
mod file;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use crate::calibration::Calibration;
use crate::models::ModelFiles;
use crate::onnx::graph::{
    Dtype, Encoder, IR_VERSION, LOGITS, Model, OPSET, PIXELS, POOLED, PROBABILITY, Source, TOKENS,
    batch, proto::Extent,
};

/// What to export, and where to.
#[derive(Clone, Debug)]
pub struct ExportSpec {
    /// `embedded:NAME`, or the path of a model folder.
    pub model: String,
    /// The file to write.
    pub onnx: PathBuf,
    /// Whether the encoder is written alone, without the head.
    pub encoder_only: bool,
    /// The type that the encoder computes in.
    pub dtype: Dtype,
    /// Whether `probability` follows the model's `calibration.json`, or is the plain sigmoid.
    pub with_calibration: bool,
    /// Where pictures and our own logits go, to compare another runtime with.
    pub check: Option<PathBuf>,
    /// Whether files that exist are replaced.
    pub force: bool,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The file.
    pub onnx: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in lower-case hex.
    pub sha256: String,
    /// The version of the operators.
    pub opset: i64,
    /// The version of the file format.
    pub ir_version: i64,
    /// The type that the encoder computes in.
    pub dtype: Dtype,
    /// The model's inputs.
    pub inputs: Vec<Port>,
    /// The model's outputs.
    pub outputs: Vec<Port>,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of initializers.
    pub initializers: usize,
    /// What the model says of itself, as in its `metadata_props`.
    pub metadata: BTreeMap<&'static str, String>,
    /// True if the model has a `calibration.json` that was left out.
    pub calibration_left_out: bool,
    /// The file to compare another runtime with.
    pub check: Option<PathBuf>,
}

/// An input or output of the model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Port {
    /// Its name.
    pub name: &'static str,
    /// The type of its values.
    pub dtype: Dtype,
    /// Its dimensions; the first is as long as the caller likes.
    pub shape: Vec<String>,
}

/// Writes the ONNX file and, if asked to, the file to compare with.
///
/// # Errors
/// If a file is there already, the model cannot be read or expressed, or the disk refuses. No file
/// is ever half written, and there are both or, of what was not there before, none.
pub fn export(spec: &ExportSpec) -> anyhow::Result<Summary> {
    for path in [Some(&spec.onnx), spec.check.as_ref()].into_iter().flatten() {
        let free = spec.force || !path.exists();
        anyhow::ensure!(free, "{} exists; --force replaces it", path.display());
    }
    anyhow::ensure!(
        !spec.encoder_only || spec.check.is_none(),
        "a check is of a classifier's answers, and an encoder alone has none; leave one of them out"
    );
    let same = spec.check.as_deref().is_some_and(|check| place(check) == place(&spec.onnx));
    anyhow::ensure!(!same, "both files have the name {}", spec.onnx.display());
    let files = ModelFiles::named(&spec.model)?;
    let source = Source::load(&files).with_context(|| format!("model {}", spec.model))?;
    let applied = source.calibration().filter(|_| spec.with_calibration && !spec.encoder_only);
    let Written { model, metadata, outputs } = written(&source, spec, applied)?;
    if let Some(path) = &spec.check {
        let written = check::write(&files, applied, path);
        written.with_context(|| format!("writing {}", path.display()))?;
    }
    let written = file::write(&model, &spec.onnx);
    if let (Err(_), Some(path)) = (&written, &spec.check) {
        // It would be compared with some other model.
        let _ = fs_err::remove_file(path);
    }
    let sha256 = written.with_context(|| format!("writing {}", spec.onnx.display()))?;
    Ok(Summary {
        onnx: spec.onnx.clone(),
        bytes: model.length(),
        sha256,
        opset: OPSET,
        ir_version: IR_VERSION,
        dtype: spec.dtype,
        inputs: vec![port(PIXELS, &source.input_shape())],
        outputs,
        nodes: model.nodes(),
        initializers: model.initializers(),
        metadata,
        calibration_left_out: source.calibration().is_some()
            && applied.is_none()
            && !spec.encoder_only,
        check: spec.check.clone(),
    })
}

/// A graph, and what is told of it.
struct Written {
    model: Model,
    metadata: BTreeMap<&'static str, String>,
    outputs: Vec<Port>,
}

fn written(
    source: &Source<'_>,
    spec: &ExportSpec,
    calibration: Option<Calibration>,
) -> anyhow::Result<Written> {
    if spec.encoder_only {
        let Encoder { model, metadata, hidden_size } = source.encoder_model(spec.dtype)?;
        let (tokens, hidden) = (Extent::Param("tokens".into()), Extent::Value(hidden_size as i64));
        let outputs = vec![
            port(TOKENS, &[batch(), tokens, hidden.clone()]),
            port(POOLED, &[batch(), hidden]),
        ];
        return Ok(Written { model, metadata, outputs });
    }
    let metadata = source.metadata(spec.dtype, calibration)?;
    let model = source.model(spec.dtype, calibration, &metadata)?;
    let outputs = [LOGITS, PROBABILITY].map(|name| port(name, &[batch()])).into();
    Ok(Written { model, metadata, outputs })
}

/// A file's one name, whether it exists or not.
fn place(path: &Path) -> PathBuf {
    fs_err::canonicalize(path).unwrap_or_else(|_| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let folder = fs_err::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        folder.join(path.file_name().unwrap_or_default())
    })
}

fn port(name: &'static str, shape: &[Extent]) -> Port {
    let text = |extent: &Extent| match extent {
        Extent::Value(length) => length.to_string(),
        Extent::Param(name) => name.clone(),
    };
    Port { name, dtype: Dtype::F32, shape: shape.iter().map(text).collect() }
}
