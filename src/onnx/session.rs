//! A graph, opened by ONNX Runtime and run on batches of pictures.
//!
//! Batches are written straight into tensors that are kept from run to run, one per batch size, and
//! outputs of a known shape are written where the last ones were. Threads are counted and do not spin:
//! other instances and the network want the same cores.

use std::borrow::Cow;
use std::path::Path;

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{IoBinding, Session, SessionOutputs};
use ort::value::Tensor;
use serde::{Deserialize, Serialize};

use super::error::RunError;
use super::library::Library;
use super::ports::{Dim, Pictures, Port, Ports};
use super::providers::{self, GpuSpec, Provider, Shaped, Stream};
use super::shared::SharedWeights;

/// Where a graph is.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// In a file; tensors in files beside it are found.
    File(&'a Path),
    /// Here.
    Memory(&'a [u8]),
}

impl<'a> Source<'a> {
    fn bytes(self) -> anyhow::Result<Cow<'a, [u8]>> {
        Ok(match self {
            Self::File(path) => Cow::Owned(fs_err::read(path)?),
            Self::Memory(bytes) => Cow::Borrowed(bytes),
        })
    }
}

/// How a graph is run.
#[derive(Clone, Debug)]
pub struct SessionSpec {
    /// Threads that compute one operator, at least 1; the caller's is one of them.
    pub threads: usize,
    /// What computes, in order of preference.
    pub providers: Vec<Provider>,
    /// What the providers for GPUs are told.
    pub gpu: GpuSpec,
    /// The stream that those compute on, if not one of their own.
    pub stream: Option<Stream>,
    /// What sessions of the same graph have in common.
    pub sharing: Sharing,
    /// Whether memory between batches is kept in an arena, which keeps what the largest batch took.
    pub arena: bool,
}

/// What the sessions of one graph in one process have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// Nothing: each holds its weights, rearranged for its kernels.
    None,
    /// The weights, both as they are in the file and rearranged: twice one session's memory, and
    /// little more for every further one.
    Packed,
    /// The weights as they are in the file: the memory of one session, and slower by 7 to 10 %.
    Plain,
}

impl Default for SessionSpec {
    /// One thread of the processor.
    fn default() -> Self {
        Self {
            threads: 1,
            providers: vec![Provider::Cpu],
            gpu: GpuSpec::default(),
            stream: None,
            sharing: Sharing::None,
            arena: true,
        }
    }
}

impl SessionSpec {
    fn computes_on_cpu_only(&self) -> bool {
        self.providers.iter().all(|provider| *provider == Provider::Cpu)
    }

    fn builder(
        &self,
        library: &Library,
        input: Option<Shaped<'_>>,
    ) -> Result<SessionBuilder, RunError> {
        let dispatches = self.providers.iter().map(|provider| {
            let options = match provider {
                Provider::Cpu => Vec::new(),
                Provider::Cuda => providers::cuda(&self.gpu, self.stream),
                Provider::Tensorrt => providers::tensorrt(&self.gpu, input, self.stream),
            };
            providers::dispatch(*provider, options, self.arena)
        });
        let mut builder = Session::builder(library.environment())?
            .with_intra_threads(self.threads.max(1))?
            .with_inter_threads(1)?
            .with_parallel_execution(false)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_execution_providers(dispatches.collect::<Vec<_>>())?;
        if !self.providers.contains(&Provider::Cpu) {
            builder = builder.with_disable_cpu_fallback()?;
        }
        Ok(builder)
    }
}

/// An opened graph, before it is known what of it is used.
#[derive(Debug)]
pub struct Graph {
    session: Session,
    ports: Ports,
    /// Kept as long as the session, which reads from it.
    _weights: Option<SharedWeights>,
}

impl Graph {
    /// Opens a graph. `input` is needed for TensorRT, which must know its shapes.
    ///
    /// # Errors
    /// If ONNX Runtime refuses the graph, or a provider cannot be had.
    pub fn open(
        library: &Library,
        source: Source<'_>,
        spec: &SessionSpec,
        input: Option<Shaped<'_>>,
    ) -> anyhow::Result<Self> {
        let mut builder = spec.builder(library, input)?;
        let weights = if spec.sharing != Sharing::None && spec.computes_on_cpu_only() {
            let weights = SharedWeights::of(&source.bytes()?)?;
            builder = weights.lend(builder, spec.sharing)?;
            Some(weights)
        } else {
            None
        };
        let session = match source {
            Source::File(path) => builder.commit_from_file(path),
            Source::Memory(bytes) => builder.commit_from_memory(bytes),
        };
        let session = session.map_err(RunError::from)?;
        let ports = Ports::of(session.inputs(), session.outputs());
        Ok(Self { session, ports, _weights: weights })
    }

    /// Reads what a graph takes and gives, and nothing more: on one thread, on the processor.
    ///
    /// # Errors
    /// If ONNX Runtime refuses it.
    pub fn survey(library: &Library, source: Source<'_>) -> anyhow::Result<Self> {
        Self::open(library, source, &SessionSpec::default(), None)
    }

    /// What it takes and gives.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// What it says of itself under that key.
    pub fn property(&self, key: &str) -> Option<String> {
        self.session.metadata().ok()?.custom(key)
    }

    /// Makes it ready to run. The outputs are asked for in this order; `max_batch` is the largest batch.
    pub fn runner(self, pictures: Pictures, outputs: &[&Port], max_batch: usize) -> Runner {
        let outputs = outputs.iter().map(|port| Output {
            name: port.name.clone(),
            rest: port.dims.as_deref().and_then(|dims| {
                let (_, rest) = dims.split_first()?;
                rest.iter().map(Dim::length).collect()
            }),
        });
        let max_batch = pictures.batch.unwrap_or(max_batch).max(1);
        Runner { outputs: outputs.collect(), graph: self, pictures, max_batch, bound: Vec::new() }
    }
}

/// An output that is asked for.
#[derive(Debug)]
struct Output {
    name: String,
    /// Its dimensions after the batch, if they are known beforehand.
    rest: Option<Vec<usize>>,
}

/// The buffers of one batch size.
#[derive(Debug)]
struct Bound {
    batch: usize,
    input: Tensor<f32>,
    binding: IoBinding,
}

/// One output of one run.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Its dimensions.
    pub dims: &'a [i64],
    /// Its values, row by row.
    pub values: &'a [f32],
}

/// A graph that is run on batches of pictures.
#[derive(Debug)]
pub struct Runner {
    graph: Graph,
    pictures: Pictures,
    outputs: Vec<Output>,
    max_batch: usize,
    /// Least recently used first.
    bound: Vec<Bound>,
}

impl Runner {
    /// The input.
    pub fn pictures(&self) -> &Pictures {
        &self.pictures
    }

    /// The largest batch.
    pub fn max_batch(&self) -> usize {
        self.max_batch
    }

    /// The batch sizes to warm up with: 1, 2, 4 and so on, and the largest.
    pub fn sizes(&self) -> Vec<usize> {
        let powers = std::iter::successors(Some(1), |size| Some(size * 2));
        let mut sizes: Vec<usize> = powers.take_while(|size| *size < self.max_batch).collect();
        sizes.push(self.max_batch);
        sizes
    }

    /// Runs one batch: `fill` writes the pictures in the input's own layout, `read` is shown the
    /// outputs in the order in which they were asked for.
    ///
    /// # Errors
    /// What ONNX Runtime says, what `fill` says, or that an output is not of f32.
    pub fn run<T>(
        &mut self,
        batch: usize,
        fill: impl FnOnce(&mut [f32]) -> anyhow::Result<()>,
        read: impl FnOnce(&[View<'_>]) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut bound = match self.take(batch) {
            Some(bound) => bound,
            None => self.bind(batch)?,
        };
        let (_, pixels) = bound.input.try_extract_tensor_mut().map_err(RunError::from)?;
        fill(pixels)?;
        let done = {
            let said = self.graph.session.run_binding(&bound.binding).map_err(RunError::from)?;
            let views = views(&self.outputs, &said)?;
            read(&views)?
        };
        self.keep(bound);
        Ok(done)
    }

    fn take(&mut self, batch: usize) -> Option<Bound> {
        let at = self.bound.iter().position(|bound| bound.batch == batch)?;
        Some(self.bound.remove(at))
    }

    /// Keeps buffers for the next batch of their size; all that are kept together are no larger than
    /// two of the largest batches.
    fn keep(&mut self, bound: Bound) {
        self.bound.push(bound);
        let excess = |bound: &[Bound]| {
            bound.iter().map(|bound| bound.batch).sum::<usize>() > 2 * self.max_batch
        };
        while self.bound.len() > 1 && excess(&self.bound) {
            self.bound.remove(0);
        }
    }

    fn bind(&self, batch: usize) -> Result<Bound, RunError> {
        let allocator = Allocator::default();
        let mut binding = self.graph.session.create_binding()?;
        let input = Tensor::<f32>::new(&allocator, self.pictures.dims(batch))?;
        binding.bind_input(self.pictures.name.as_str(), &input)?;
        for Output { name, rest } in &self.outputs {
            match rest {
                Some(rest) => {
                    let dims: Vec<usize> = std::iter::once(&batch).chain(rest).copied().collect();
                    let output = Tensor::<f32>::new(&allocator, dims)?;
                    binding.bind_output(name.as_str(), output)?;
                }
                None => binding.bind_output_to_device(name.as_str(), &host()?)?,
            }
        }
        Ok(Bound { batch, input, binding })
    }
}

/// The memory of the processor.
fn host() -> Result<MemoryInfo<'static>, RunError> {
    let (device, kind) = (AllocationDevice::CPU, AllocatorType::Device);
    Ok(MemoryInfo::new(device, 0, kind, MemoryType::CPUOutput)?)
}

fn views<'a>(outputs: &[Output], said: &'a SessionOutputs<'_>) -> Result<Vec<View<'a>>, RunError> {
    let view = |output: &Output| {
        let value = said.get(&output.name);
        let value = value.ok_or_else(|| RunError::new(format!("no output `{}`", output.name)))?;
        let (shape, values) = value.try_extract_tensor::<f32>()?;
        Ok(View { dims: shape, values })
    };
    outputs.iter().map(view).collect()
}
