//! What an encoder's nodes end in.

use super::builder::{Graph, Value};
use super::proto::Attribute;

/// As [`crate::models::Features`]; f32.
pub(super) struct Features {
    /// `[batch, prefix + patches, hidden]`: CLS, registers, patches.
    pub(super) tokens: Value,
    /// `[batch, hidden]`.
    pub(super) cls: Value,
    /// `[batch, patches, hidden]`.
    pub(super) patches: Value,
    /// How many tokens precede the patches.
    pub(super) prefix: usize,
    /// Width of all.
    pub(super) hidden_size: usize,
}

impl Features {
    /// From `[batch, tokens, hidden]`: the first token is CLS, the patches begin at `prefix`.
    pub(super) fn cut(graph: &mut Graph, x: &Value, prefix: usize, hidden_size: usize) -> Self {
        let first = graph.integer(0);
        let cls = graph.node("Gather", &[x, &first], vec![Attribute::int("axis", 1)]);
        let [start, end, axis] = [prefix as i64, i64::MAX, 1].map(|n| graph.integers(&[n]));
        let patches = graph.node("Slice", &[x, &start, &end, &axis], Vec::new());
        Self { tokens: x.clone(), cls, patches, prefix, hidden_size }
    }
}
