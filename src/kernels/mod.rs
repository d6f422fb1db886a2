//! Tight loops over plain memory: what a GPU kernel does, and its twin on the CPU.
//!
//! A kernel for the GPU lives in `kernels/*.cu`; the CPU twin here is the one that serves without
//! a GPU and the one that the tests compare the GPU with. Kernels that only the CPU needs
//! ([`depthwise`], [`fused`]) are candle custom operations.
//!
//! The loops are plain Rust that the compiler vectorises; `vectorised` lets it use the widest
//! instructions that the machine has.
//!
//! Must not know: models, files, requests.

pub mod depthwise;
pub mod fused;
pub mod preprocess;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Layout, Result, bail};

/// Runs `work` compiled for the best instruction set of this machine (AVX2 where there is one).
///
/// Only what is inlined into `work` gains from it.
#[inline(always)]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// The values of a contiguous f32 tensor.
pub(crate) fn floats<'a>(
    name: &str,
    storage: &'a CpuStorage,
    layout: &Layout,
) -> Result<&'a [f32]> {
    let CpuStorage::F32(values) = storage else {
        bail!("{name}: expected f32 values, found {:?}", storage.dtype());
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!("{name}: expected a contiguous tensor, found {layout:?}"),
    }
}
