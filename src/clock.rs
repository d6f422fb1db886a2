//! The one place that reads the monotonic clock. Policies take the time as an argument, so that a
//! day of traffic can be replayed in a second.

use std::time::Instant;

/// The present moment.
#[expect(clippy::disallowed_methods, reason = "this is the place the ban points to")]
pub fn now() -> Instant {
    Instant::now()
}
