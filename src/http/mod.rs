//! The private port: predictions for people and programs, health, metrics, the state of the stages.
//!
//! ```text
//!   server ─▶ log (request id, one line, one measurement) ─▶ routes
//!                 predict: params, body (budget), input (decoding, off the arbiter) ─▶ Engine
//!                 reload: body, the hook that reads and applies settings (off the arbiter)
//!                 ops: healthz, readyz, metrics, stages        openapi: document and page
//!   every failure of every route ─▶ reply: one table, one shape
//! ```
//!
//! Must not know: models, configuration files, or which stages there are. What leaves this room is
//! a type of its own (`wire`), so that the engine may change without changing a reply.

pub mod axon;
mod body;
mod budget;
mod decoders;
mod files;
mod form;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod input;
pub(crate) mod listen_fds;
mod listener;
mod log;
mod openapi;
mod ops;
mod params;
mod predict;
mod reload;
mod reply;
mod routes;
mod server;
mod sockets;
mod wire;

use serde::{Deserialize, Serialize};

pub use listen_fds::SocketsError;
pub use reload::{Change, Fault, Refusal, Reload};
pub use server::{Bound, Ended, Limits, Shutdown, bind};
pub use sockets::Sockets;

/// Settings of the private port: `[http]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSpec {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on; 0 picks a free one.
    pub port: u16,
    /// Threads that read requests and write replies; 0 means one per core.
    pub workers: usize,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Bytes of request bodies held at the same time, all requests together.
    pub body_budget_bytes: usize,
    /// Most connections at the same time; fewer where the process may not open so many files.
    pub max_connections: usize,
    /// A client must have sent its whole request within this, and takes something of its reply, in
    /// milliseconds.
    pub read_timeout_ms: u64,
    /// Idle connections are kept this long, in seconds.
    pub keep_alive_s: u64,
    /// Deadline of a request that names none, in milliseconds.
    pub default_deadline_ms: u64,
    /// Longest deadline that a request may ask for, in milliseconds.
    pub max_deadline_ms: u64,
    /// Taken off every deadline, so that the answer is there and not merely on its way, in
    /// milliseconds.
    pub deadline_margin_ms: u64,
    /// On SIGTERM, requests in flight get this long, in seconds.
    pub drain_s: u64,
    /// Which pictures are decoded.
    pub decode: Decode,
}

/// Which pictures are decoded before a stage is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decode {
    /// All of them: a broken one is refused at the door, whatever the stages do.
    Always,
    /// Only if a stage looks at pixels; else files are passed on as they came, and only their headers
    /// are read.
    Needed,
}
