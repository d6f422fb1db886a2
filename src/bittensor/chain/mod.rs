//! The chain: reads the metagraph from a node and tells the chain where an axon is.
//!
//! A node is asked over a websocket. It describes its runtime's types and calls itself, and all
//! that is read and written goes by that description. What it says is bounded in time and size.
//! Which chain it belongs to, and that it tells the truth, is for the operator to know: whoever
//! runs the node decides who is on the subnet.
//!
//! The one part of `bittensor` that knows a runtime. Must not know: HTTP, the engine, where
//! snapshots are kept.

mod call;
mod config;
mod decision;
mod endpoint;
mod error;
mod limits;
mod line;
mod metagraph;
mod node;
mod refresh;
mod rejection;
mod serve;
mod shape;
#[cfg(test)]
pub(crate) mod standin;
#[cfg(test)]
mod tests;
mod view;

pub use call::Call;
pub use decision::Decision;
pub use endpoint::Endpoint;
pub use error::{ChainError, Fault, Rejection};
pub use node::Node;
pub use refresh::{Pace, Refresher};
pub use serve::{Inclusion, Plan};
