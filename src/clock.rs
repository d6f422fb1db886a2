//! The one place that reads the clocks. Policies take the time as an argument, so that a day of
//! traffic can be replayed in a second.

use std::time::{Instant, SystemTime};

/// The present moment.
#[expect(clippy::disallowed_methods, reason = "this is the place the ban points to")]
pub fn now() -> Instant {
    Instant::now()
}

/// The time of day, which may step. For what is compared with other machines' clocks; durations are
/// measured with [`now`].
pub fn wall() -> SystemTime {
    SystemTime::now()
}
