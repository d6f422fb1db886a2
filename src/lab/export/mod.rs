//! A classifier as one ONNX file: encoder, head and calibration, for runtimes other than ours.
//!
//! The graph is built from the configuration and the names and shapes in the checkpoint; weights are
//! read while they are written. The same model gives the same bytes.

mod check;
mod convnext;
mod features;
mod file;
mod graph;
mod head;
mod initializer;
mod layers;
mod model;
mod proto;
#[cfg(test)]
mod tests;
mod vit;
mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use crate::calibration::Calibration;
use crate::kernels::preprocess::{Filter, Plan};
use crate::models::{EncoderConfig, ModelFiles, Preprocessor};
use features::Features;
use graph::{Graph, Value};
use initializer::Kind;
use model::{IR_VERSION, Model, OPSET};
use proto::Extent;
use weights::Weights;

/// The type that the encoder computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32 bits: the numbers of our own stages.
    F32,
    /// 16 bits: half the file; layer norms' statistics, softmax and the head stay in f32.
    F16,
}

/// What to export, and where to.
#[derive(Clone, Debug)]
pub struct ExportSpec {
    /// `embedded:NAME`, or the path of a model folder.
    pub model: String,
    /// The file to write.
    pub onnx: PathBuf,
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
    let same = spec.check.as_deref().is_some_and(|check| place(check) == place(&spec.onnx));
    anyhow::ensure!(!same, "both files have the name {}", spec.onnx.display());
    let files = ModelFiles::named(&spec.model)?;
    let source = Source::load(&files).with_context(|| format!("model {}", spec.model))?;
    let applied = source.calibration.filter(|_| spec.with_calibration);
    let metadata = source.metadata(spec.dtype, applied)?;
    let model = source.model(spec.dtype, applied, &metadata)?;
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
        outputs: [LOGITS, PROBABILITY].map(|name| port(name, &[batch()])).into(),
        nodes: model.nodes,
        initializers: model.initializers.len(),
        metadata,
        calibration_left_out: source.calibration.is_some() && applied.is_none(),
        check: spec.check.clone(),
    })
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

const PIXELS: &str = "pixel_values";
const LOGITS: &str = "logits";
const PROBABILITY: &str = "probability";

/// The dimension that is as long as the caller likes.
fn batch() -> Extent {
    Extent::Param("batch".into())
}

fn port(name: &'static str, shape: &[Extent]) -> Port {
    let text = |extent: &Extent| match extent {
        Extent::Value(length) => length.to_string(),
        Extent::Param(name) => name.clone(),
    };
    Port { name, dtype: Dtype::F32, shape: shape.iter().map(text).collect() }
}

/// What is known of a model before its weights are read.
struct Source<'a> {
    files: &'a ModelFiles,
    config: EncoderConfig,
    plan: Plan,
    calibration: Option<Calibration>,
}

impl<'a> Source<'a> {
    fn load(files: &'a ModelFiles) -> anyhow::Result<Self> {
        let preprocessor = Preprocessor::load(files)?;
        anyhow::ensure!(
            preprocessor.size().is_some(),
            "{}: do_resize is false, so pictures have no fixed size, which the export needs; set \
             do_resize and size",
            files.label("preprocessor_config.json")
        );
        let calibration =
            files.contains(CALIBRATION).then(|| files.json(CALIBRATION)).transpose()?;
        let (config, plan) = (EncoderConfig::load(files)?, preprocessor.plan(&[])?);
        Ok(Self { files, config, plan, calibration })
    }

    fn input_shape(&self) -> [Extent; 4] {
        let side = |length: usize| Extent::Value(length as i64);
        [batch(), side(3), side(self.plan.height), side(self.plan.width)]
    }

    fn model(
        &self,
        dtype: Dtype,
        calibration: Option<Calibration>,
        metadata: &BTreeMap<&'static str, String>,
    ) -> anyhow::Result<Model> {
        let mut graph = Graph::default();
        let pixels = graph.input(PIXELS, &self.input_shape());
        let features = graph.within("encoder", |graph| self.encoder(graph, dtype, &pixels))?;
        let weights = Weights::new(self.files.checkpoint("head")?, "head");
        let (logits, probability) = graph.within("head", |graph| {
            let logits = head::logits(graph, &features, &weights)
                .with_context(|| self.files.label("head.safetensors"))?;
            let probability = head::probability(graph, &logits, calibration)?;
            anyhow::Ok((logits, probability))
        })?;
        graph.output(&logits, LOGITS, &[batch()]);
        graph.output(&probability, PROBABILITY, &[batch()]);
        Ok(Model::new("roadcrew", graph, metadata))
    }

    fn encoder(&self, graph: &mut Graph, dtype: Dtype, pixels: &Value) -> anyhow::Result<Features> {
        let weights = Weights::new(self.files.checkpoint("model")?, "encoder");
        let kind = match dtype {
            Dtype::F32 => Kind::F32,
            Dtype::F16 => Kind::F16,
        };
        let pixels = graph.cast(pixels, kind);
        let input = (&pixels, (self.plan.height, self.plan.width));
        match &self.config {
            EncoderConfig::Dinov3Vit(config) => vit::vit(graph, config, &weights, input),
            EncoderConfig::Dinov3ConvNext(config) => {
                convnext::convnext(graph, config, &weights, input)
            }
        }
    }

    /// What the model says of itself.
    fn metadata(
        &self,
        dtype: Dtype,
        calibration: Option<Calibration>,
    ) -> anyhow::Result<BTreeMap<&'static str, String>> {
        let model_type = match self.config {
            EncoderConfig::Dinov3Vit(_) => "dinov3_vit",
            EncoderConfig::Dinov3ConvNext(_) => "dinov3_convnext",
        };
        let applied = calibration.map_or(Ok("none".into()), |it| serde_json::to_string(&it))?;
        Ok(BTreeMap::from([
            ("model_type", model_type.into()),
            ("model_digest", self.files.digest()?),
            ("preprocessing", serde_json::to_string(&Preparation::of(&self.plan))?),
            ("calibration", applied),
            ("dtype", if dtype == Dtype::F16 { "f16" } else { "f32" }.into()),
            ("roadcrew_version", env!("CARGO_PKG_VERSION").into()),
        ]))
    }
}

const CALIBRATION: &str = "calibration.json";

/// How a picture becomes `pixel_values`: antialiased resize, then
/// `(value * rescale_factor - mean) / std` per channel, RGB.
#[derive(Serialize)]
struct Preparation {
    height: usize,
    width: usize,
    resample: &'static str,
    rescale_factor: f32,
    mean: [f32; 3],
    std: [f32; 3],
}

impl Preparation {
    fn of(plan: &Plan) -> Self {
        let resample = match plan.filter {
            Filter::Bilinear => "bilinear",
            Filter::Bicubic => "bicubic",
        };
        let Plan { height, width, rescale: rescale_factor, mean, std, .. } = *plan;
        Self { height, width, resample, rescale_factor, mean, std }
    }
}
