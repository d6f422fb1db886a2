//! Why a snapshot cannot be read or written.

use std::io;
use std::path::PathBuf;

use crate::bittensor::{AddressError, Hotkey};

/// Why a snapshot cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is no such file.
    #[error(
        "the metagraph file {} does not exist: check its path in the configuration, or write it with \
         scripts/metagraph.py",
        file.display()
    )]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// The system does not let us read it.
    #[error("the metagraph file {} cannot be read ({reason}): make it a file that we may read", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// Something is wrong within a file.
    #[error("{}: {cause}", file.display())]
    Within {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        cause: Box<SnapshotError>,
    },
    /// More bytes than any metagraph has.
    #[error(
        "more than 32 MiB is no metagraph: write the file anew, with the neurons of one subnet"
    )]
    TooLarge,
    /// Not JSON, or not of this shape.
    #[error(
        "not a metagraph: {0}; write the file anew, all at once or beside it with a rename after"
    )]
    Malformed(String),
    /// More neurons than there are uids.
    #[error("{found} neurons, and a subnet has 65536 at most: write those of one subnet only")]
    TooMany {
        /// How many.
        found: usize,
    },
    /// A hotkey that is none.
    #[error("neurons[{index}].hotkey: {cause}; correct it")]
    Hotkey {
        /// Which neuron, from 0.
        index: usize,
        /// What is wrong.
        cause: AddressError,
    },
    /// One hotkey in two places.
    #[error("neurons[{index}]: the hotkey {hotkey} comes a second time; remove one of the two")]
    HotkeyTwice {
        /// The second of them, from 0.
        index: usize,
        /// The hotkey.
        hotkey: Hotkey,
    },
    /// One place for two hotkeys.
    #[error("neurons[{index}]: the uid {uid} comes a second time; remove one of the two")]
    UidTwice {
        /// The second of them, from 0.
        index: usize,
        /// The uid.
        uid: u16,
    },
    /// A stake below nothing, or no number.
    #[error("the stake of {hotkey} is {stake}: write it in TAO, 0 or more")]
    Stake {
        /// Whose.
        hotkey: Hotkey,
        /// What it is said to be.
        stake: f64,
    },
    /// A time that is none.
    #[error(
        "taken_at is no time: write it as 2026-11-23T00:00:00Z or in seconds since 1970, or leave it \
         out"
    )]
    Time,
    /// The file cannot be written.
    #[error("the metagraph cannot be saved as {} ({kind}): check that the folder can be written to", file.display())]
    Save {
        /// The file.
        file: PathBuf,
        /// Why.
        kind: io::ErrorKind,
    },
}
