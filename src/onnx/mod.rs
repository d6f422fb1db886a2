//! ONNX: classifiers written as graphs.

pub mod graph;
