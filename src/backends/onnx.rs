//! Any ONNX graph that judges pictures, run by ONNX Runtime: a whole classifier, or an encoder under a
//! head of ours.
//!
//! Settings, `[stages.NAME.onnx]`: see [`OnnxSpec`]. What they leave out the graph may say; what they
//! say is held against the graph before the stage is ready. Pictures are resized and normalised
//! straight into the batch that ONNX Runtime reads.

mod answer;
mod encoder;
mod frames;
mod model;
mod spec;
#[cfg(test)]
mod tests;

use anyhow::Context as _;

use super::{Backend, BackendContext, BackendError, Fault, Input};
use crate::calibration::Calibration;
use crate::onnx::{Library, RunError, RunFault};
use crate::prediction::Prediction;
use answer::Judge;
use encoder::Encoder;
use model::Model;

pub(super) use answer::of_logits;
pub(super) use frames::Frames;
pub use spec::{GraphKind, KEYS, OnnxSpec};
pub(super) use spec::{threads_of_one, usual_sharing};

/// An opened graph. A clip is judged by the mean of its frames' logits.
#[derive(Debug)]
pub struct Onnx {
    frames: Frames,
    reader: Reader,
    calibration: Calibration,
    version: String,
}

/// What becomes of a graph's outputs.
#[derive(Debug)]
enum Reader {
    /// One of them is the answer.
    Classifier(Judge),
    /// They are features.
    Encoder(Encoder),
}

impl Onnx {
    /// Opens the graph that the settings name.
    ///
    /// # Errors
    /// If there is no ONNX Runtime, a file is missing or broken, or the graph is not as the settings
    /// say: the message says which, and what the graph has.
    pub fn new(ctx: &BackendContext) -> anyhow::Result<Self> {
        let spec: OnnxSpec = ctx.settings()?;
        spec.check()?;
        let library = Library::load(&ctx.onnx)?;
        Self::open(&library, &spec, ctx).with_context(|| format!("model {}", spec.model.display()))
    }

    fn open(library: &Library, spec: &OnnxSpec, ctx: &BackendContext) -> anyhow::Result<Self> {
        let model = Model::find(spec)?;
        let version = format!("{} onnxruntime {}", model.digest()?, library.version());
        let graph = model.open(library, spec, ctx.instances)?;
        let pictures = graph.ports().pictures(spec.wanted(&graph)?)?;
        let plan = spec.plan(&graph, pictures.size)?;
        let calibration = model.calibration(&graph)?;
        let (reader, output) = match spec.graph {
            GraphKind::Classifier => {
                let (judge, output) = Judge::new(spec, graph.ports())?;
                (Reader::Classifier(judge), output.clone())
            }
            GraphKind::Encoder => {
                let (encoder, output) = Encoder::new(spec, &model, &graph)?;
                (Reader::Encoder(encoder), output.clone())
            }
        };
        let runner = graph.runner(pictures, &[&output], ctx.max_batch);
        Ok(Self { frames: Frames::new(runner, plan), reader, calibration, version })
    }
}

impl Backend for Onnx {
    fn infer(&mut self, inputs: &[Input]) -> Result<Vec<Prediction>, BackendError> {
        let Self { frames, reader, calibration, .. } = self;
        match reader {
            Reader::Classifier(judge) => {
                let said = frames.each(inputs, |views| judge.read(views))?;
                Ok(judge.predictions(inputs, &said, calibration))
            }
            Reader::Encoder(encoder) => {
                let logits = frames.each(inputs, |views| encoder.logits(views))?;
                Ok(answer::of_logits(inputs, &logits, calibration))
            }
        }
    }

    fn warm_up(&mut self) -> Result<(), BackendError> {
        let Self { frames, reader, .. } = self;
        match reader {
            Reader::Classifier(judge) => frames.warm_up(|views| judge.read(views)),
            Reader::Encoder(encoder) => frames.warm_up(|views| encoder.logits(views)),
        }
    }

    /// The digest of the model's files, and the version of ONNX Runtime.
    fn version(&self) -> String {
        self.version.clone()
    }
}

/// What the engine does about a run that failed.
fn fault(error: anyhow::Error) -> BackendError {
    let fault = match error.downcast_ref::<RunError>().map(|error| error.fault) {
        Some(RunFault::OutOfMemory) => Fault::TooBig,
        Some(RunFault::DeviceLost) => Fault::DeviceLost,
        Some(RunFault::Failed) | None => Fault::Broken,
    };
    BackendError::new(fault, error)
}
