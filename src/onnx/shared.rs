//! The weights of a graph, once for all sessions of the process that run it.
//!
//! A session that is lent weights reads them where they are. Kernels like their weights rearranged,
//! which is a second copy; the sessions have that in common too ([`Sharing::Packed`]), or do without
//! ([`Sharing::Plain`]).
//!
//! Lent are the matrices of products and nothing else. They are nearly all of a transformer, and ONNX
//! Runtime leaves them as they are; other constants its optimiser may transpose in place, under the same
//! name, while a session goes on reading what it was lent: an error at best.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use ort::session::builder::{PrepackedWeights, SessionBuilder};
use ort::value::{DynValue, Tensor};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::error::RunError;
use super::graph::raw::{self, Matrix};
use super::session::Sharing;

/// Smaller ones are not worth the trouble.
const LEAST_BYTES: usize = 1024;

/// Weights by their names, and what kernels made of them.
struct Lent {
    values: Vec<(String, Arc<DynValue>)>,
    packed: PrepackedWeights,
}

/// Weights by the digest of their graph, as long as a session has them.
static SHARED: Mutex<Option<HashMap<[u8; 32], Weak<Lent>>>> = Mutex::new(None);

/// The large matrices of one graph.
#[derive(Clone)]
pub(super) struct SharedWeights(Arc<Lent>);

impl fmt::Debug for SharedWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} matrices", self.0.values.len())
    }
}

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
    pub(super) fn lend(
        &self,
        builder: SessionBuilder,
        sharing: Sharing,
    ) -> Result<SessionBuilder, RunError> {
        let mut builder = match sharing {
            Sharing::Packed => builder.with_prepacked_weights(&self.0.packed)?,
            Sharing::Plain | Sharing::None => builder.with_prepacking(false)?,
        };
        for (name, value) in &self.0.values {
            builder = builder.with_initializer(name, value.clone())?;
        }
        Ok(builder)
    }
}

fn read(bytes: &[u8]) -> anyhow::Result<Lent> {
    let mut values = Vec::new();
    for Matrix { name, dims, bytes } in raw::matrices(bytes)? {
        if bytes.len() < LEAST_BYTES {
            continue;
        }
        let (chunks, _) = bytes.as_chunks::<4>();
        let floats: Vec<f32> = chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
        let value = Tensor::from_array((dims, floats)).map_err(RunError::from)?;
        values.push((name, Arc::new(value.into_dyn())));
    }
    Ok(Lent { values, packed: PrepackedWeights::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::testing::{self, floats, model, node};

    #[test]
    fn the_same_graph_has_its_weights_once_and_they_go_with_the_last() {
        let Some(_loaded) = testing::library() else { return };
        let graph = |value: f32| {
            let nodes = vec![node("MatMul", &["x", "W"], "y", Vec::new())];
            model(nodes, vec![floats("W", &[16, 16], &[value; 256])], vec![], vec![])
        };
        let first = SharedWeights::of(&graph(1.0)).unwrap();
        let (second, other) = (SharedWeights::of(&graph(1.0)), SharedWeights::of(&graph(2.0)));
        let (second, other) = (second.unwrap(), other.unwrap());
        assert_eq!(first.0.values.len(), 1);
        assert!(Arc::ptr_eq(&first.0, &second.0) && !Arc::ptr_eq(&first.0, &other.0));
        let watch = Arc::downgrade(&first.0);
        drop((first, second));
        assert!(watch.upgrade().is_none());
    }
}
