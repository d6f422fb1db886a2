//! What bounds a conversation with a node, whatever the node says.

use std::time::Duration;

/// The longest reply that is taken. The largest honest one is the runtime's metadata: 307 kB in the
/// recorded runtime, twice that as hex.
pub(super) const MAX_REPLY: u32 = 8 << 20;
/// The longest message that we send.
pub(super) const MAX_REQUEST: u32 = 1 << 20;
/// The most neurons that are taken from one subnet; subnets have 256.
pub(super) const MAX_NEURONS: usize = 4096;
/// How old the newest finalized block may be. Blocks come every 12 seconds.
pub(super) const MAX_LAG: Duration = Duration::from_secs(20 * 60);
/// How many types a reply's type may be made of, nested ones each time they are met.
pub(super) const MAX_TYPES: usize = 2000;
/// How deep a reply's type may be nested.
pub(super) const MAX_DEPTH: usize = 16;
/// How many reads are under way at once where there is one for each neuron.
pub(super) const CONCURRENT_READS: usize = 16;
