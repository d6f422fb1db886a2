//! What a researcher writes: a batch of inputs in, predictions out.
//!
//! A backend is born, lives and dies on one instance's thread. It knows nothing of jobs, stages,
//! deadlines or HTTP; it may panic, and the engine loses nothing but the instance.

mod calibrated;
pub mod classifier;
pub mod onnx;
mod registry;
pub mod scripted;
pub mod tta;

use std::sync::Arc;

use crate::cascade::InputKind;
use crate::image::{Image, ImageFile};
use crate::prediction::{Cause, Prediction};
use crate::video::Clip;

pub use calibrated::calibrated;
pub use registry::{BackendContext, Factory, Registry};

/// What a backend is asked about. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Input {
    /// One picture.
    Image(Arc<Image>),
    /// Several pictures in order of time.
    Clip(Arc<Clip>),
    /// One picture as it came, not decoded: only where every backend of the cascade takes files
    /// ([`Registry::takes_files`]) and the settings say so.
    File(Arc<ImageFile>),
}

impl Input {
    /// The kind, for policies.
    pub fn kind(&self) -> InputKind {
        match self {
            Self::Image(_) | Self::File(_) => InputKind::Image,
            Self::Clip(_) => InputKind::Clip,
        }
    }

    /// The decoded pictures: one, or a clip's frames; none of a file.
    pub fn frames(&self) -> &[Arc<Image>] {
        match self {
            Self::Image(image) => std::slice::from_ref(image),
            Self::Clip(clip) => clip.frames(),
            Self::File(_) => &[],
        }
    }

    /// How many pictures it has, decoded or not.
    pub fn pictures(&self) -> usize {
        match self {
            Self::Image(_) | Self::File(_) => 1,
            Self::Clip(clip) => clip.frames().len(),
        }
    }
}

/// An implementation of a stage.
pub trait Backend {
    /// One prediction per input, in the same order. A NaN is that input's abstention
    /// ([`Prediction::from_raw`]); an error concerns the whole batch.
    fn infer(&mut self, inputs: &[Input]) -> Result<Vec<Prediction>, BackendError>;

    /// Runs each batch shape once, before the stage is ready, so that the first request does not
    /// pay for lazy initialisation.
    fn warm_up(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    /// What the answers depend on besides the settings, such as a digest of the weights: as long as
    /// it is the same, the same input gets the same answer. Asked once, after the warm-up.
    fn version(&self) -> String {
        String::new()
    }
}

/// What the engine does about an error. The cause beside it is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It may work if tried again; the backend stays.
    Retry,
    /// The batch did not fit; smaller ones may.
    TooBig,
    /// The backend cannot go on and must be built afresh.
    Broken,
    /// The device under the backend is gone.
    DeviceLost,
}

impl From<Fault> for Cause {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Retry => Self::Retry,
            Fault::TooBig => Self::TooBig,
            Fault::Broken => Self::Broken,
            Fault::DeviceLost => Self::DeviceLost,
        }
    }
}

/// A batch failed.
#[derive(Debug, thiserror::Error)]
#[error("{source:#}")]
pub struct BackendError {
    /// What the engine branches on.
    pub fault: Fault,
    /// What happened, for people.
    pub source: anyhow::Error,
}

impl BackendError {
    /// An error of the given kind.
    pub fn new(fault: Fault, source: impl Into<anyhow::Error>) -> Self {
        Self { fault, source: source.into() }
    }
}

impl From<anyhow::Error> for BackendError {
    /// An error without a kind means that the backend cannot go on.
    fn from(source: anyhow::Error) -> Self {
        Self { fault: Fault::Broken, source }
    }
}
