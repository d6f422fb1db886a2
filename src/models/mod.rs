//! Tensors in, tensors out: the networks, and how they are read from model files.
//!
//! Everything is candle on the CPU in f32. Every network is built from a
//! [`candle_nn::VarBuilder`], so the same code runs over loaded weights (fast, see
//! [`crate::kernels::fused`]) and over variables (differentiable). File layouts, names and numbers
//! are those of Hugging Face transformers 5.23; each file names the class that it follows.
//!
//! Must not know: actors, HTTP, batching, what the answer is used for.

pub mod convnext;
pub mod dinov3;
pub mod embedded;
pub mod encoder;
pub mod head;
pub mod layers;
pub mod preprocessor;
pub mod weights;

use thiserror::Error;

pub use encoder::{Encoder, EncoderConfig, Features};
pub use head::{Head, Pooling};
pub use preprocessor::Preprocessor;
pub use weights::{Checkpoint, ModelFiles, WeightsError};

/// Why a model could not be built or run.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The configuration asks for something we cannot do, or contradicts itself.
    #[error("{0}")]
    Config(String),
    /// A file or a tensor in it is missing or wrong.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The tensor library refused, or a network did not find its tensors in the files.
    #[error(transparent)]
    Tensor(candle_core::Error),
}

impl From<candle_core::Error> for ModelError {
    /// Drops the backtrace, which candle would print into the message.
    fn from(error: candle_core::Error) -> Self {
        match error {
            candle_core::Error::WithBacktrace { inner, .. } => Self::from(*inner),
            error => Self::Tensor(error),
        }
    }
}

impl ModelError {
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::Config(message.into())
    }
}
