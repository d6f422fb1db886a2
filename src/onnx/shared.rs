//! The weights of a graph, once for all sessions of the process that run it.
//!
//! A session that is lent weights reads them where they are. It is not allowed to rearrange them for
//! its kernels, which would be a copy of its own: with that a second session of a model costs as much
//! as the first.
//!
//! Lent are the matrices of products and nothing else. They are nearly all of a transformer, and ONNX
//! Runtime leaves them as they are; other constants its optimiser may transpose in place, under the same
//! name, while a session goes on reading what it was lent: an error at best.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use ort::session::builder::SessionBuilder;
use ort::value::{DynValue, Tensor};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::error::RunError;
use super::graph::raw::{self, Matrix};

/// Smaller ones are not worth the trouble.
const LEAST_BYTES: usize = 1024;

type Lent = Vec<(String, Arc<DynValue>)>;

/// Weights by the digest of their graph, as long as a session has them.
static SHARED: Mutex<Option<HashMap<[u8; 32], Weak<Lent>>>> = Mutex::new(None);

/// The large matrices of one graph.
#[derive(Clone, Debug)]
pub(super) struct SharedWeights(Arc<Lent>);

impl SharedWeights {
    /// Those of the graph in these bytes: of another session, or read now.
    ///
    /// # Errors
    /// If the bytes are no ONNX graph. A library must be loaded.
    pub(super) fn of(bytes: &[u8]) -> anyhow::Result<Self> {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        let mut shared = SHARED.lock();
        let shared = shared.get_or_insert_default();
        if let Some(lent) = shared.get(&digest).and_then(Weak::upgrade) {
            return Ok(Self(lent));
        }
        let lent = Arc::new(read(bytes)?);
        shared.retain(|_, lent| lent.strong_count() > 0);
        shared.insert(digest, Arc::downgrade(&lent));
        Ok(Self(lent))
    }

    /// A session with these options reads them.
    pub(super) fn lend(&self, builder: SessionBuilder) -> Result<SessionBuilder, RunError> {
        let mut builder = builder.with_prepacking(false)?;
        for (name, value) in self.0.iter() {
            builder = builder.with_initializer(name, value.clone())?;
        }
        Ok(builder)
    }
}

fn read(bytes: &[u8]) -> anyhow::Result<Lent> {
    let mut lent = Vec::new();
    for Matrix { name, dims, bytes } in raw::matrices(bytes)? {
        if bytes.len() < LEAST_BYTES {
            continue;
        }
        let (chunks, _) = bytes.as_chunks::<4>();
        let values: Vec<f32> = chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
        let value = Tensor::from_array((dims, values)).map_err(RunError::from)?;
        lent.push((name, Arc::new(value.into_dyn())));
    }
    Ok(lent)
}
