//! An ONNX graph under construction: unique names, and nodes in the order in which they run.

use std::collections::{BTreeMap, BTreeSet};

use super::initializer::{Data, Initializer, Kind};
use super::proto::{self, Attribute};
use super::weights::Weights;

/// Something that nodes make and take.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Value {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// How a weight is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// As it is in the checkpoint.
    AsStored,
    /// A matrix `[out, in]` as `[in, out]`, which `MatMul` wants.
    Transposed,
}

/// Nodes and constants. Every name is used once.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<proto::Node>,
    pub(super) initializers: Vec<Initializer>,
    pub(super) inputs: Vec<proto::ValueInfo>,
    pub(super) outputs: Vec<proto::ValueInfo>,
    names: BTreeSet<String>,
    /// Constants that are not weights, by name: equal ones are one.
    constants: BTreeMap<String, Value>,
    scope: Vec<String>,
}

impl Graph {
    /// Does some work whose nodes are named below `scope`.
    pub(super) fn within<T>(
        &mut self,
        scope: impl Into<String>,
        work: impl FnOnce(&mut Self) -> T,
    ) -> T {
        self.scope.push(scope.into());
        let done = work(self);
        self.scope.pop();
        done
    }

    /// An input of the graph, f32.
    pub(super) fn input(&mut self, name: &str, shape: &[proto::Extent]) -> Value {
        self.inputs.push(info(name, shape));
        Value { name: self.unique(name), kind: Kind::F32 }
    }

    /// Makes a value an output of the graph, f32, under a name of its own.
    pub(super) fn output(&mut self, value: &Value, name: &str, shape: &[proto::Extent]) {
        self.outputs.push(info(name, shape));
        let name = self.unique(name);
        self.push("Identity", &[value], Vec::new(), vec![name]);
    }

    /// Takes the node back that makes a value which nobody takes, and the constants that it alone took.
    pub(super) fn drop_unused(&mut self, value: &Value) {
        self.nodes.retain(|node| !node.output.contains(&value.name));
        let taken: BTreeSet<&String> = self.nodes.iter().flat_map(|node| &node.input).collect();
        self.initializers.retain(|constant| taken.contains(&constant.name));
    }

    /// A node with one output, of the kind of its first input.
    pub(super) fn node(&mut self, op: &str, inputs: &[&Value], with: Vec<Attribute>) -> Value {
        let name = self.unique(&self.scoped(op));
        self.push(op, inputs, with, vec![name.clone()]);
        Value { name, kind: inputs[0].kind }
    }

    /// A node with two outputs: the halves of `x` along an axis.
    pub(super) fn halves(&mut self, x: &Value, axis: i64, half: usize) -> (Value, Value) {
        let sizes = self.integers(&[half as i64, half as i64]);
        let [low, high] = ["Split.low", "Split.high"].map(|name| self.unique(&self.scoped(name)));
        let outputs = vec![low.clone(), high.clone()];
        self.push("Split", &[x, &sizes], vec![Attribute::int("axis", axis)], outputs);
        (Value { name: low, kind: x.kind }, Value { name: high, kind: x.kind })
    }

    /// A node without attributes and with two inputs: `Add`, `Mul`, `MatMul` and their like.
    pub(super) fn binary(&mut self, op: &str, a: &Value, b: &Value) -> Value {
        self.node(op, &[a, b], Vec::new())
    }

    /// `x` in another kind; itself if it is of that kind.
    pub(super) fn cast(&mut self, x: &Value, kind: Kind) -> Value {
        if x.kind == kind {
            return x.clone();
        }
        let to = vec![Attribute::int("to", i64::from(kind.code()))];
        Value { kind, ..self.node("Cast", &[x], to) }
    }

    /// `x` with its axes in another order.
    pub(super) fn transpose(&mut self, x: &Value, order: &[i64]) -> Value {
        self.node("Transpose", &[x], vec![Attribute::ints("perm", order)])
    }

    /// `x` in another shape; 0 keeps a dimension, -1 takes what is left.
    pub(super) fn reshape(&mut self, x: &Value, shape: &[i64]) -> Value {
        let shape = self.integers(shape);
        self.binary("Reshape", x, &shape)
    }

    /// A list of whole numbers.
    pub(super) fn integers(&mut self, values: &[i64]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
        let name = format!("constant/[{}]", texts.join(","));
        self.constant(name, Kind::I64, vec![values.len()], bytes)
    }

    /// A whole number.
    pub(super) fn integer(&mut self, value: i64) -> Value {
        let name = format!("constant/{value}i");
        self.constant(name, Kind::I64, Vec::new(), value.to_le_bytes().into())
    }

    /// A number of the kind of `like`.
    ///
    /// # Errors
    /// If the kind has no such number.
    pub(super) fn number(&mut self, value: f32, like: &Value) -> anyhow::Result<Value> {
        let name = format!("constant/{value}{}", if like.kind == Kind::F16 { "h" } else { "f" });
        let bytes = like.kind.bytes(&[value], &name)?;
        Ok(self.constant(name, like.kind, Vec::new(), bytes))
    }

    /// A named table of numbers.
    ///
    /// # Errors
    /// If the kind has no such number.
    pub(super) fn table(
        &mut self,
        name: &str,
        (dims, kind): (Vec<usize>, Kind),
        values: &[f32],
    ) -> anyhow::Result<Value> {
        let bytes = kind.bytes(values, name)?;
        Ok(self.constant(self.scoped(name), kind, dims, bytes))
    }

    fn constant(&mut self, name: String, kind: Kind, dims: Vec<usize>, bytes: Vec<u8>) -> Value {
        if let Some(known) = self.constants.get(&name) {
            return known.clone();
        }
        let value = Value { name: self.unique(&name), kind };
        let data = Data::Bytes(bytes);
        self.initializers.push(Initializer { name: value.name.clone(), kind, dims, data });
        self.constants.insert(name, value.clone());
        value
    }

    /// A weight, under its name in the checkpoint.
    ///
    /// # Errors
    /// If the checkpoint has no such tensor, or one of another shape.
    pub(super) fn weight(
        &mut self,
        weights: &Weights,
        leaf: &str,
        (kind, layout): (Kind, Layout),
        shape: &[usize],
    ) -> anyhow::Result<Value> {
        let tensor = weights.expect(leaf, shape)?;
        let transposed = layout == Layout::Transposed;
        let mut dims = shape.to_vec();
        let mut name = weights.graph_name(leaf);
        if transposed {
            dims.reverse();
            name.push_str(".transposed");
        }
        let name = self.unique(&name);
        let data = Data::Weight { checkpoint: weights.checkpoint(), tensor, transposed };
        self.initializers.push(Initializer { name: name.clone(), kind, dims, data });
        Ok(Value { name, kind })
    }

    fn push(&mut self, op: &str, inputs: &[&Value], with: Vec<Attribute>, outputs: Vec<String>) {
        self.nodes.push(proto::Node {
            input: inputs.iter().map(|value| value.name.clone()).collect(),
            name: outputs.first().map(|output| format!("node/{output}")),
            output: outputs,
            op_type: Some(op.to_owned()),
            attribute: with,
        });
    }

    fn scoped(&self, name: &str) -> String {
        let parts = self.scope.iter().map(String::as_str).chain([name]);
        parts.collect::<Vec<_>>().join("/")
    }

    /// The name, or the name with the first number that makes it new.
    fn unique(&mut self, name: &str) -> String {
        let mut candidate = name.to_owned();
        let mut next = 1;
        while !self.names.insert(candidate.clone()) {
            candidate = format!("{name}_{next}");
            next += 1;
        }
        candidate
    }
}

/// What the outside is told of an input or output.
fn info(name: &str, shape: &[proto::Extent]) -> proto::ValueInfo {
    let dim = |extent: &proto::Extent| proto::Dimension { value: Some(extent.clone()) };
    let shape = proto::Shape { dim: shape.iter().map(dim).collect() };
    let tensor = proto::TensorType { elem_type: Some(proto::FLOAT), shape: Some(shape) };
    let kind = proto::Type { tensor_type: Some(tensor) };
    proto::ValueInfo { name: Some(name.to_owned()), r#type: Some(kind) }
}
