//! ONNX: classifiers written as graphs, and graphs run by ONNX Runtime.
//!
//! ONNX Runtime is a shared library that is found and loaded when the first graph is opened
//! ([`library`]); nothing of it is linked, and without it everything else works.
//!
//! Must not know: stages, batching, what an output means.

pub mod error;
pub mod graph;
pub mod library;
pub mod ports;
pub mod providers;
pub mod search;
pub mod session;
mod shared;
#[cfg(test)]
pub(crate) mod testing;

pub use error::{RunError, RunFault};
pub use library::{Library, LibrarySpec, Unavailable};
pub use ports::{Layout, Pictures, Port, Ports};
pub use providers::{GpuSpec, Provider};
pub use session::{Graph, Runner, SessionSpec, Sharing, Source, View};
