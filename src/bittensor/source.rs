//! Where the metagraph comes from.

use serde::{Deserialize, Serialize};

/// Settings: `[metagraph]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetagraphSpec {
    /// A snapshot on disk, which is watched; empty for none.
    pub file: String,
    /// A chain's websocket, which is asked now and then; empty for none.
    pub endpoint: String,
    /// The subnet.
    pub netuid: u16,
    /// How often the chain is asked, in seconds.
    pub refresh_s: u64,
}
