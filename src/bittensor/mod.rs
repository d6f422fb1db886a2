//! What a Bittensor subnet's validators and miners agree on: keys and addresses, who signed a
//! request and when, who may call at all.
//!
//! Must not know: HTTP, images, or the engine. Nothing here is asynchronous; the time is an argument.

mod address;
mod keypair;
mod metagraph;

pub use address::{AddressError, Hotkey};
pub use keypair::{Keypair, Signature};
pub use metagraph::{Neuron, Snapshot};
