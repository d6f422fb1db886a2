//! The present on both clocks: the one that callers share, and the one that never steps.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::clock;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// What a nonce is compared with.
    pub wall: SystemTime,
    /// What ages are measured with.
    pub mono: Instant,
}

impl Moment {
    /// The present.
    pub fn now() -> Self {
        Self { wall: clock::wall(), mono: clock::now() }
    }

    /// Nanoseconds since 1970, as a nonce counts them; zero before, the largest after 2554.
    pub(super) fn nanos(&self) -> u64 {
        let since = self.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}
