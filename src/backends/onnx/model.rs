//! The files of an ONNX model: the graph, the tensors that it keeps beside it, a head, a calibration.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::spec::{GraphKind, OnnxSpec, usual_sharing};
use crate::calibration::Calibration;
use crate::models::ModelFiles;
use crate::onnx::providers::Shaped;
use crate::onnx::session::Graph;
use crate::onnx::{Library, Provider, SessionSpec, Source};

const CALIBRATION: &str = "calibration.json";

/// Where everything of a model is.
#[derive(Clone, Debug)]
pub(super) struct Model {
    graph: PathBuf,
    /// Other files that the answers depend on.
    others: Vec<PathBuf>,
    calibration: Option<PathBuf>,
    /// The folder of the head.
    head: Option<ModelFiles>,
}

impl Model {
    /// Looks for the files.
    ///
    /// # Errors
    /// If one that must be there is not.
    pub(super) fn find(spec: &OnnxSpec) -> anyhow::Result<Self> {
        let graph = spec.model.clone();
        anyhow::ensure!(graph.is_file(), "there is no such file");
        let head = match spec.graph {
            GraphKind::Classifier => None,
            GraphKind::Encoder => Some(ModelFiles::folder(&spec.head).context("onnx.head")?),
        };
        let folders = [Some(spec.folder()), head.is_some().then_some(spec.head.as_path())];
        let candidates = folders.into_iter().flatten().map(|folder| folder.join(CALIBRATION));
        let calibration = candidates.rev().find(|path| path.is_file());
        let mut others = beside(&graph)?;
        others.extend(calibration.clone());
        if head.is_some() {
            others.push(spec.head.join("head.safetensors"));
        }
        Ok(Self { graph, others, calibration, head })
    }

    /// The folder of the head, for an encoder.
    pub(super) fn head(&self) -> anyhow::Result<&ModelFiles> {
        self.head.as_ref().context("an encoder needs a head")
    }

    /// SHA-256 of the contents of all files, in lower-case hex.
    ///
    /// # Errors
    /// If one cannot be read.
    pub(super) fn digest(&self) -> anyhow::Result<String> {
        let mut hasher = Sha256::new();
        for path in std::iter::once(&self.graph).chain(&self.others) {
            let mut content = Sha256::new();
            io::copy(&mut fs_err::File::open(path)?, &mut content)?;
            hasher.update(content.finalize());
        }
        Ok(format!("{:x}", hasher.finalize()))
    }

    /// Opens the graph for one of so many instances.
    ///
    /// # Errors
    /// If ONNX Runtime refuses it, or a provider.
    pub(super) fn open(
        &self,
        library: &Library,
        spec: &OnnxSpec,
        instances: usize,
    ) -> anyhow::Result<Graph> {
        let session = SessionSpec {
            threads: spec.threads_of_one(instances),
            providers: spec.providers.clone(),
            gpu: spec.gpu.clone(),
            stream: None,
            sharing: spec.share_weights.unwrap_or(usual_sharing(instances)),
            arena: spec.arena,
        };
        let source = Source::File(&self.graph);
        if !spec.providers.contains(&Provider::Tensorrt) {
            return Graph::open(library, source, &session, None);
        }
        let surveyed = Graph::survey(library, source)?;
        let pictures = surveyed.ports().pictures(spec.wanted(&surveyed)?)?;
        let [_, rest @ ..] = pictures.dims(1);
        drop(surveyed);
        let input = Shaped { name: &pictures.name, rest: &rest };
        Graph::open(library, source, &session, Some(input))
    }

    /// What a logit is calibrated with: `calibration.json` beside the head or the graph, else what the
    /// graph says of itself, else nothing.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn calibration(&self, graph: &Graph) -> anyhow::Result<Calibration> {
        if let Some(path) = &self.calibration {
            let text = fs_err::read_to_string(path)?;
            return serde_json::from_str(&text).with_context(|| path.display().to_string());
        }
        match graph.property("calibration").as_deref() {
            None | Some("none") => Ok(Calibration::default()),
            Some(text) => serde_json::from_str(text)
                .context("the graph's metadata `calibration` cannot be read"),
        }
    }
}

/// The files that hold tensors of a graph `x.onnx`, as exporters name them: `x.onnx_data`,
/// `x.onnx.data`, `x.onnx_data_1`.
fn beside(graph: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let name = graph.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = graph.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut found = Vec::new();
    for entry in fs_err::read_dir(folder.unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let other = entry.file_name().to_string_lossy().into_owned();
        let is_data = |rest: &str| rest.starts_with("_data") || rest.starts_with(".data");
        if other.strip_prefix(&name).is_some_and(is_data) && entry.path().is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
