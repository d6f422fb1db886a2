//! The settings of the backend `onnx`, and what a graph says where they are silent.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::kernels::preprocess::{Filter, Plan};
use crate::onnx::ports::Wanted;
use crate::onnx::session::Graph;
use crate::onnx::{GpuSpec, Layout, Provider, Sharing};

/// The keys of [`OnnxSpec`].
pub const KEYS: &[&str] = &[
    "model",
    "graph",
    "head",
    "input",
    "output",
    "layout",
    "size",
    "resample",
    "rescale_factor",
    "mean",
    "std",
    "activation",
    "class",
    "prefix_tokens",
    "threads",
    "share_weights",
    "arena",
    "providers",
    "gpu",
];

/// What a graph computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GraphKind {
    /// From a picture to an answer.
    Classifier,
    /// From a picture to features, which a head of ours judges.
    Encoder,
}

/// What an answer is, and so how it becomes a probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// A logit.
    Sigmoid,
    /// One logit per class, which exclude each other.
    Softmax,
    /// A probability already.
    None,
}

/// The settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnnxSpec {
    /// The graph's file.
    pub model: PathBuf,
    /// What it computes.
    #[serde(default = "classifier")]
    pub graph: GraphKind,
    /// For an encoder: the folder with `head.safetensors`.
    #[serde(default)]
    pub head: PathBuf,
    /// The input that takes pictures; empty: the only one.
    #[serde(default)]
    pub input: String,
    /// The output that is the answer; empty: `logits`, `probability`, or the only one.
    #[serde(default)]
    pub output: String,
    /// The order of the input's axes.
    #[serde(default = "nchw")]
    pub layout: Layout,
    /// Height and width of the input in pixels; left out: as the graph says.
    pub size: Option<[usize; 2]>,
    /// How pictures are resized; left out: as the graph says, or bilinear.
    pub resample: Option<Filter>,
    /// Factor on the 8-bit values; left out: as the graph says, or 1/255.
    pub rescale_factor: Option<f64>,
    /// Mean of each channel after that; left out: as the graph says.
    pub mean: Option<[f32; 3]>,
    /// Standard deviation of each channel; left out: as the graph says.
    pub std: Option<[f32; 3]>,
    /// What the answer is; left out: a probability if the output is called so, else a logit.
    pub activation: Option<Activation>,
    /// Which of several values per picture speaks of roadwork.
    #[serde(default = "one")]
    pub class: usize,
    /// For an encoder: how many tokens precede those of the patches; left out: as the graph says, or
    /// five, CLS and four registers.
    pub prefix_tokens: Option<usize>,
    /// Threads of one instance; 0: cores / instances.
    #[serde(default)]
    pub threads: usize,
    /// What the instances have in common; left out: packed weights, where that takes less memory.
    pub share_weights: Option<Sharing>,
    /// Whether memory between batches is kept.
    #[serde(default = "yes")]
    pub arena: bool,
    /// What computes, in order of preference.
    #[serde(default = "cpu")]
    pub providers: Vec<Provider>,
    /// What the providers for GPUs are told.
    #[serde(default)]
    pub gpu: GpuSpec,
}

fn classifier() -> GraphKind {
    GraphKind::Classifier
}

fn yes() -> bool {
    true
}

fn nchw() -> Layout {
    Layout::Nchw
}

fn one() -> usize {
    1
}

fn cpu() -> Vec<Provider> {
    vec![Provider::Cpu]
}

/// CLS and four registers.
const USUAL_PREFIX: usize = 5;

/// The longest side of an input in pixels.
const LONGEST: usize = 1 << 14;

impl OnnxSpec {
    /// Whether the values make sense by themselves.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.model.as_os_str().is_empty(), "onnx.model must name a file");
        if let Some(size) = self.size {
            let fits = size.iter().all(|side| (1..=LONGEST).contains(side));
            anyhow::ensure!(fits, "onnx.size has sides of 1 to {LONGEST}, not {size:?}");
        }
        if let Some(std) = self.std {
            let fits = std.iter().all(|value| value.is_finite() && *value > 0.0);
            anyhow::ensure!(fits, "onnx.std must be above zero, not {std:?}");
        }
        let finite = self.rescale_factor.is_none_or(|factor| factor.is_finite() && factor != 0.0)
            && self.mean.is_none_or(|mean| mean.iter().all(|value| value.is_finite()));
        anyhow::ensure!(finite, "onnx.rescale_factor and onnx.mean must be finite numbers");
        anyhow::ensure!(self.threads <= 1024, "onnx.threads is at most 1024, not {}", self.threads);
        anyhow::ensure!(!self.providers.is_empty(), "onnx.providers must name at least one");
        let has_head = !self.head.as_os_str().is_empty();
        let wants_head = self.graph == GraphKind::Encoder;
        anyhow::ensure!(
            has_head == wants_head,
            "onnx.head names the folder with head.safetensors for graph = \"encoder\", and is left \
             out for \"classifier\""
        );
        self.gpu.check()
    }

    /// What the graph's input has to be.
    pub(super) fn wanted(&self, graph: &Graph) -> anyhow::Result<Wanted<'_>> {
        let said = self.size.map(|[height, width]| (height, width));
        let size = match (said, Preparation::of(graph)?) {
            (None, Some(prepared)) => prepared.height.zip(prepared.width),
            (said, _) => said,
        };
        Ok(Wanted { name: &self.input, layout: self.layout, size })
    }

    /// How pictures are prepared.
    ///
    /// # Errors
    /// If neither the settings nor the graph say it.
    pub(super) fn plan(&self, graph: &Graph, size: (usize, usize)) -> anyhow::Result<Plan> {
        let prepared = Preparation::of(graph)?.unwrap_or_default();
        let needed = |key: &str, value: Option<[f32; 3]>| {
            value.ok_or_else(|| {
                anyhow::anyhow!(
                    "set {key} = [red, green, blue]: the graph does not say how its pictures are \
                     normalised (it has no `preprocessing` in its metadata)"
                )
            })
        };
        let rescale = self.rescale_factor.or(prepared.rescale_factor).unwrap_or(1.0 / 255.0);
        Ok(Plan {
            height: size.0,
            width: size.1,
            filter: self.resample.or(prepared.resample).unwrap_or(Filter::Bilinear),
            rescale: rescale as f32,
            mean: needed("mean", self.mean.or(prepared.mean))?,
            std: needed("std", self.std.or(prepared.std))?,
        })
    }

    /// How many tokens of an encoder precede those of the patches.
    ///
    /// # Errors
    /// If the graph says it and cannot be understood.
    pub(super) fn prefix_tokens(&self, graph: &Graph) -> anyhow::Result<usize> {
        let said = graph.property("prefix_tokens").map(|text| text.parse());
        let said = said.transpose().map_err(|error| {
            anyhow::anyhow!("the graph's metadata `prefix_tokens` cannot be read: {error}")
        })?;
        Ok(self.prefix_tokens.or(said).unwrap_or(USUAL_PREFIX))
    }

    /// Threads of one of so many instances.
    pub(super) fn threads_of_one(&self, instances: usize) -> usize {
        if self.threads > 0 { self.threads } else { threads_of_one(instances) }
    }

    /// The folder of the graph.
    pub(super) fn folder(&self) -> &Path {
        let folder = self.model.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new("."))
    }
}

/// The cores, shared out among so many instances; at least one for each.
pub(in crate::backends) fn threads_of_one(instances: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / instances.max(1)).max(1)
}

/// What takes the least memory at full speed: sharing costs one copy of the weights and saves all but
/// one of the instances'.
pub(in crate::backends) fn usual_sharing(instances: usize) -> Sharing {
    if instances > 2 { Sharing::Packed } else { Sharing::None }
}

/// What graphs that were exported by this program say of their pictures.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Preparation {
    height: Option<usize>,
    width: Option<usize>,
    resample: Option<Filter>,
    rescale_factor: Option<f64>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
}

impl Preparation {
    fn of(graph: &Graph) -> anyhow::Result<Option<Self>> {
        let Some(text) = graph.property("preprocessing") else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            anyhow::anyhow!("the graph's metadata `preprocessing` cannot be read: {error}")
        })
    }
}
