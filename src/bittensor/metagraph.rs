//! Who is registered on the subnet, at one moment.

use std::collections::HashMap;
use std::time::SystemTime;

use super::Hotkey;

/// What the chain says of one hotkey on the subnet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neuron {
    /// Its place on the subnet.
    pub uid: u16,
    /// Whether it may validate.
    pub validator_permit: bool,
    /// Its total stake, in TAO.
    pub stake: f64,
}

/// The metagraph of one subnet at one block.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The subnet.
    pub netuid: u16,
    /// The block it was read at, where that is known.
    pub block: Option<u64>,
    /// When it was read.
    pub taken_at: SystemTime,
    /// Every registered hotkey.
    pub neurons: HashMap<Hotkey, Neuron>,
}
