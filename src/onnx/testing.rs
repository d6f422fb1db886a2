//! For tests: the library, and graphs that are made by hand.

use std::io::Write as _;
use std::path::Path;

use prost::Message as _;

use super::graph::proto::{
    self, Attribute, Dimension, Extent, FLOAT, INT64, Shape, Tensor, TensorType, Type, ValueInfo,
};
use super::{Library, LibrarySpec};

/// Set where the library must be there.
const REQUIRED: &str = "ROADCREW_REQUIRE_ONNXRUNTIME";

/// The library, or a loud word and nothing if there is none.
pub(crate) fn library() -> Option<Library> {
    let vendor = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor/onnxruntime");
    let vendored = fs_err::read_dir(vendor).into_iter().flatten().flatten().map(|it| it.path());
    let known = vendored.max().unwrap_or_default();
    match Library::load(&LibrarySpec { library: known }) {
        Ok(library) => Some(library),
        Err(error) if std::env::var_os(REQUIRED).is_none() => {
            // Past the harness, which would keep the word of a test that passes to itself.
            let word = format!("SKIPPED: {error}; {REQUIRED}=1 makes this a failure\n");
            let _unheard = std::io::stderr().write_all(word.as_bytes());
            None
        }
        Err(error) => panic!("{REQUIRED} is set, and ONNX Runtime is {error}"),
    }
}

/// What the settings of a test say of the library, once it is loaded.
pub(crate) fn spec(library: &Library) -> LibrarySpec {
    LibrarySpec { library: library.path().to_owned() }
}

/// Runs a test of a module in a process of its own, where no library is loaded yet.
pub(crate) fn alone(module: &str, test: &str, work: impl FnOnce()) {
    const ALONE: &str = "ROADCREW_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return work();
    }
    let (_, module) = module.split_once("::").unwrap();
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let name = format!("{module}::{test}");
    let ran = command.args(["--exact", &name]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}

/// A node of the standard operators.
pub(crate) fn node(op: &str, inputs: &[&str], output: &str, with: Vec<Attribute>) -> proto::Node {
    proto::Node {
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        name: Some(output.to_owned()),
        op_type: Some(op.to_owned()),
        attribute: with,
    }
}

/// An input or output; a dimension is a number or a name.
pub(crate) fn port(name: &str, kind: i32, dims: &str) -> ValueInfo {
    let dim = |word: &str| {
        let extent = word.parse().map_or_else(|_| Extent::Param(word.into()), Extent::Value);
        Dimension { value: Some(extent) }
    };
    let words = dims.split(',').filter(|word| !word.is_empty());
    let shape = Some(Shape { dim: words.map(dim).collect() });
    let tensor_type = Some(TensorType { elem_type: Some(kind), shape });
    ValueInfo { name: Some(name.to_owned()), r#type: Some(Type { tensor_type }) }
}

/// A constant of `f32`.
pub(crate) fn floats(name: &str, dims: &[i64], values: &[f32]) -> Tensor {
    constant(name, dims, FLOAT, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// A constant of whole numbers.
pub(crate) fn integers(name: &str, dims: &[i64], values: &[i64]) -> Tensor {
    constant(name, dims, INT64, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn constant(name: &str, dims: &[i64], kind: i32, bytes: Vec<u8>) -> Tensor {
    Tensor {
        dims: dims.to_vec(),
        data_type: Some(kind),
        name: Some(name.to_owned()),
        raw_data: Some(bytes),
    }
}

/// A graph's file.
pub(crate) fn model(
    nodes: Vec<proto::Node>,
    constants: Vec<Tensor>,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
) -> Vec<u8> {
    let graph = proto::Graph {
        node: nodes,
        name: Some("test".into()),
        initializer: constants,
        input: inputs,
        output: outputs,
    };
    let opset = proto::OperatorSetId { domain: Some(String::new()), version: Some(17) };
    let model = proto::Model {
        ir_version: Some(8),
        graph: Some(graph),
        opset_import: vec![opset],
        ..proto::Model::default()
    };
    model.encode_to_vec()
}

/// The models that are compiled in, and every fixture.
pub(crate) fn models() -> Vec<String> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let mut models = vec!["embedded:screen".to_owned(), "embedded:confirm".to_owned()];
    for entry in fs_err::read_dir(fixtures).unwrap() {
        models.push(entry.unwrap().path().display().to_string());
    }
    assert!(models.len() >= 9, "{models:?}");
    models
}
