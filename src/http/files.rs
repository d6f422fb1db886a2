//! How many connections the process may have: each is an open file, and the system limits those.
//!
//! Must not know: what a connection is for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::log::Port;

/// Open files that are left to everything else: the logs, the workers' own, and models being read.
const RESERVE: u64 = 256;

/// Raises the limit of open files as far as this process may, and says how many of `wanted`
/// connections fit. The public port gets half at most, so that strangers cannot use up the files.
pub(crate) fn connections(port: Port, wanted: usize) -> usize {
    let limit = raise();
    let shares = match port {
        Port::Private => 1,
        Port::Axon => 2,
    };
    let (kept, is_clamped) = fitting(wanted, limit.map(|limit| limit / shares));
    if is_clamped {
        let (allowed, section) = (limit.unwrap_or(u64::MAX), port.section());
        tracing::warn!(
            max_connections = wanted,
            open_files = allowed,
            connections = kept,
            "this process may not open a file for every connection that `{section}.max_connections` \
             allows, so fewer are kept; raise the limit (`ulimit -n {}`, or LimitNOFILE= in a \
             systemd unit), or lower `{section}.max_connections`",
            shares * (wanted as u64 + RESERVE)
        );
    }
    kept
}

/// Sets the soft limit to the hard one, and says what it is then; none is no limit.
fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays as it was");
            current
        }
    }
}

/// How many of the connections fit, at least one, and whether that is fewer than wanted.
fn fitting(wanted: usize, limit: Option<u64>) -> (usize, bool) {
    let room = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit.saturating_sub(RESERVE)).unwrap_or(usize::MAX)
    });
    let kept = wanted.min(room.max(1));
    (kept, kept < wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_clamped_with_a_reserve() {
        assert_eq!(fitting(16_384, None), (16_384, false));
        assert_eq!(fitting(16_384, Some(20_000)), (16_384, false));
        assert_eq!(fitting(16_384, Some(1_024)), (768, true));
        assert_eq!(fitting(16_384, Some(10)), (1, true));
        assert_eq!(fitting(1, Some(0)), (1, false));
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise();
        assert_eq!(getrlimit(Resource::Nofile).current, limit);
    }
}
