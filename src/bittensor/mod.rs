//! What a Bittensor subnet's validators and miners agree on: keys and addresses, who signed a
//! request and when, who may call at all.
//!
//! Must not know: HTTP, images, or the engine. Nothing here is asynchronous, but for
//! the optional `chain`; the time is an argument.

mod address;
mod body_hash;
pub mod btauth;
mod callers;
#[cfg(feature = "chain")]
pub mod chain;
#[cfg(test)]
mod dendrite;
#[cfg(fuzzing)]
pub mod fuzzing;
mod head;
mod keypair;
mod metagraph;
mod moment;
mod nonce_file;
mod nonces;
mod source;
mod unverified;
mod verifier;
mod wallet;
mod watch;
mod window;

pub use address::{AddressError, Hotkey};
pub use body_hash::{EMPTY_BODY_HASH, body_hash};
pub use callers::{
    Busy, Caller, Callers, CallersError, CallersSpec, Class, EVERYBODY, NotAllowed, Seat,
};
pub use head::{Head, Headers, caller};
pub use keypair::{Keypair, Signature};
pub use metagraph::{Metagraph, Neuron, Snapshot, SnapshotError};
pub use moment::Moment;
pub use nonces::{NonceLimits, Nonces, NoncesError};
pub use source::MetagraphSpec;
pub use unverified::{Field, Unverified};
pub use verifier::{Proof, Verifier};
pub use wallet::{
    FileKind, FileProblem, PASSWORD_VARIABLE, Password, WalletError, WalletKind, WalletSpec,
    WalletSummary,
};
pub use watch::FileWatch;
