//! A whole ONNX model, and how it becomes bytes.
//!
//! The messages are encoded by prost; only the frames around the weights are set here, so that the
//! weights pass one by one and the file is never in memory. Protobuf allows 2 GB and no more.

use std::collections::BTreeMap;
use std::io::Write;

use prost::Message as _;

use super::builder::Graph;
use super::initializer::Initializer;
use super::proto;

/// What protobuf can hold, in bytes.
const LONGEST: u64 = i32::MAX as u64;
/// The version of the file format; every ONNX Runtime since 1.12 reads it.
pub const IR_VERSION: i64 = 8;
/// The version of the operators: the first with `LayerNormalization`.
pub const OPSET: i64 = 17;

/// A model that can be written.
pub struct Model {
    /// Everything but the graph.
    header: Vec<u8>,
    /// Everything of the graph but the initializers.
    graph: Vec<u8>,
    nodes: usize,
    initializers: Vec<Initializer>,
}

impl Model {
    /// A model of that name; `properties` are what it says of itself.
    pub(super) fn new(name: &str, graph: Graph, properties: &BTreeMap<&str, String>) -> Self {
        let property = |(key, value): (&&str, &String)| proto::StringStringEntry {
            key: Some((*key).to_owned()),
            value: Some(value.clone()),
        };
        let header = proto::Model {
            ir_version: Some(IR_VERSION),
            producer_name: Some("roadcrew".into()),
            producer_version: Some(env!("CARGO_PKG_VERSION").into()),
            graph: None,
            opset_import: vec![proto::OperatorSetId {
                domain: Some(String::new()),
                version: Some(OPSET),
            }],
            metadata_props: properties.iter().map(property).collect(),
        };
        let Graph { nodes, initializers, inputs, outputs, .. } = graph;
        let count = nodes.len();
        let graph = proto::Graph {
            node: nodes,
            name: Some(name.to_owned()),
            initializer: Vec::new(),
            input: inputs,
            output: outputs,
        };
        Self {
            header: header.encode_to_vec(),
            graph: graph.encode_to_vec(),
            nodes: count,
            initializers,
        }
    }

    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// Number of initializers.
    pub fn initializers(&self) -> usize {
        self.initializers.len()
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.header.len() as u64 + framed(self.graph_length())
    }

    fn graph_length(&self) -> u64 {
        let tensors = self.initializers.iter().map(|tensor| framed(tensor_length(tensor)));
        self.graph.len() as u64 + tensors.sum::<u64>()
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If it is too long, a weight cannot be read or has no such form, or `out` fails. What was
    /// written then is of no use.
    pub fn write(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let length = self.length();
        anyhow::ensure!(
            length <= LONGEST,
            "the file would have {:.2} GB, and one ONNX file holds 2.15 GB at most (weights in files \
             beside it are not supported); f16 takes half",
            length as f64 / 1e9
        );
        out.write_all(&self.header)?;
        frame(out, 7, self.graph_length())?;
        out.write_all(&self.graph)?;
        for tensor in &self.initializers {
            let values = tensor.values()?;
            let (found, expected) = (values.len() as u64, tensor.length());
            let name = &tensor.name;
            anyhow::ensure!(found == expected, "`{name}`: {found} bytes instead of {expected}");
            frame(out, 5, tensor_length(tensor))?;
            out.write_all(&tensor.head().encode_to_vec())?;
            frame(out, 9, found)?;
            out.write_all(&values)?;
        }
        Ok(())
    }
}

fn tensor_length(tensor: &Initializer) -> u64 {
    tensor.head().encoded_len() as u64 + framed(tensor.length())
}

/// Bytes of a field of that length with a number below 16.
fn framed(length: u64) -> u64 {
    let delimiter = prost::length_delimiter_len(usize::try_from(length).unwrap_or(usize::MAX));
    1 + delimiter as u64 + length
}

/// What comes before a field of that number, below 16, and length: wire type 2.
fn frame(out: &mut dyn Write, field: u8, length: u64) -> anyhow::Result<()> {
    let mut bytes = vec![(field << 3) | 2];
    prost::encode_length_delimiter(usize::try_from(length)?, &mut bytes)?;
    Ok(out.write_all(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::super::initializer::{Data, Kind};
    use super::*;

    #[test]
    fn what_protobuf_cannot_hold_is_refused_before_anything_is_written() {
        let mut graph = Graph::default();
        graph.initializers.push(Initializer {
            name: "large".into(),
            kind: Kind::F32,
            dims: vec![1 << 15, 1 << 14],
            data: Data::Bytes(Vec::new()),
        });
        let model = Model::new("large", graph, &BTreeMap::new());
        assert!(model.length() > 1 << 31);
        let mut out = Vec::new();
        let error = model.write(&mut out).unwrap_err().to_string();
        assert!(error.contains("2.15 GB") && error.contains("f16"), "{error}");
        assert!(out.is_empty());
    }
}
