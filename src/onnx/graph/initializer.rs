//! A constant of an ONNX graph: its values are in the file, or still in the checkpoint.
//!
//! Weights are read when they are written, one at a time, so that an export needs the memory of its
//! largest tensor and not of the model.

use std::borrow::Cow;

use candle_core::{DType, Device};
use half::f16;

use super::proto;
use crate::models::Checkpoint;

/// What the values of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    F32,
    F16,
    I64,
}

impl Kind {
    /// The number that ONNX has for it.
    pub(super) fn code(self) -> i32 {
        match self {
            Self::F32 => proto::FLOAT,
            Self::F16 => proto::FLOAT16,
            Self::I64 => proto::INT64,
        }
    }

    /// Bytes of one value.
    pub(super) fn size(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
            Self::I64 => 8,
        }
    }

    /// The values as bytes.
    ///
    /// # Errors
    /// If one is not a finite number of this kind; `name` says whose it is.
    pub(super) fn bytes(self, values: &[f32], name: &str) -> anyhow::Result<Vec<u8>> {
        anyhow::ensure!(
            values.iter().all(|value| value.is_finite()),
            "tensor `{name}` holds a value that is not a finite number"
        );
        let mut bytes = Vec::with_capacity(values.len() * self.size());
        match self {
            Self::F32 => values.iter().for_each(|value| bytes.extend(value.to_le_bytes())),
            Self::I64 => values.iter().for_each(|v| bytes.extend((*v as i64).to_le_bytes())),
            Self::F16 => {
                for value in values {
                    let short = f16::from_f32(*value);
                    anyhow::ensure!(
                        short.is_finite(),
                        "tensor `{name}` holds {value}, and f16 ends at {}; export as f32",
                        f16::MAX
                    );
                    bytes.extend(short.to_le_bytes());
                }
            }
        }
        Ok(bytes)
    }
}

/// Where the values are.
pub(super) enum Data {
    /// Here, as they are written.
    Bytes(Vec<u8>),
    /// In a checkpoint.
    Weight {
        checkpoint: Checkpoint,
        /// Its name there.
        tensor: String,
        /// True if a matrix is written with its rows as columns.
        transposed: bool,
    },
}

/// A named constant.
pub(super) struct Initializer {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// As written.
    pub(super) dims: Vec<usize>,
    pub(super) data: Data,
}

impl Initializer {
    /// Bytes of the values.
    pub(super) fn length(&self) -> u64 {
        self.dims.iter().fold(self.kind.size() as u64, |length, dim| length * *dim as u64)
    }

    /// The message without the values.
    pub(super) fn head(&self) -> proto::Tensor {
        proto::Tensor {
            dims: self.dims.iter().map(|dim| *dim as i64).collect(),
            data_type: Some(self.kind.code()),
            name: Some(self.name.clone()),
            raw_data: None,
        }
    }

    /// The values.
    ///
    /// # Errors
    /// If the checkpoint cannot be read, or holds what the kind cannot.
    pub(super) fn values(&self) -> anyhow::Result<Cow<'_, [u8]>> {
        let (checkpoint, name, transposed) = match &self.data {
            Data::Bytes(bytes) => return Ok(Cow::Borrowed(bytes)),
            Data::Weight { checkpoint, tensor, transposed } => (checkpoint, tensor, transposed),
        };
        let tensor = checkpoint.tensor(name, None, &Device::Cpu)?.to_dtype(DType::F32)?;
        let tensor = if *transposed { tensor.t()?.contiguous()? } else { tensor };
        let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
        Ok(Cow::Owned(self.kind.bytes(&values, name)?))
    }
}
