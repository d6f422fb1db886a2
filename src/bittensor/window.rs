//! How old a nonce may be, and how far ahead. Pure.

use std::time::Duration;

use super::Unverified;
use super::moment::Moment;

/// How far ahead of our clock a nonce may be.
pub(super) const AHEAD: Duration = Duration::from_secs(2);

/// What the axon protocol allows beside the caller's timeout.
const LEEWAY: Duration = Duration::from_secs(4);
/// What a larger timeout counts as: it is not signed, and so must not widen the window at will.
const TIMEOUT_MAX: Duration = Duration::from_secs(12);
/// What validators send, for requests that do not say.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(9);

/// A dendrite's nonce is younger than this.
pub(super) fn axon(timeout: Option<Duration>) -> Duration {
    LEEWAY + timeout.unwrap_or(TIMEOUT_DEFAULT).min(TIMEOUT_MAX)
}

/// And a nonce of `btauth/1` than this: ten seconds old it may just be.
pub(super) const BTAUTH: Duration = Duration::new(10, 1);

/// The age of a nonce in seconds, negative if it is ahead; or why it does not count.
pub(super) fn age(nonce: u64, limit: Duration, now: Moment) -> Result<f64, Unverified> {
    let age = Duration::from_nanos(now.nanos().saturating_sub(nonce));
    let ahead = Duration::from_nanos(nonce.saturating_sub(now.nanos()));
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if age >= limit {
        return Err(Unverified::Stale { age_ms: ms(age), limit_ms: ms(limit) });
    }
    if ahead > AHEAD {
        return Err(Unverified::Future { ahead_ms: ms(ahead) });
    }
    Ok(age.as_secs_f64() - ahead.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::clock;

    const NOW: u64 = 1_795_359_862_000_000_000;
    const S: u64 = 1_000_000_000;

    fn at(nanos: u64) -> Moment {
        Moment { wall: UNIX_EPOCH + Duration::from_nanos(nanos), mono: clock::now() }
    }

    fn label(nonce: u64, limit: Duration) -> Result<f64, &'static str> {
        age(nonce, limit, at(NOW)).map_err(|error| error.as_str())
    }

    #[test]
    fn the_axon_window_is_open_at_its_far_end() {
        let limit = axon(Some(Duration::from_secs(9)));
        assert_eq!(label(NOW - 13 * S, limit), Err("stale"));
        assert!(label(NOW - 13 * S + 1, limit).is_ok());
        assert_eq!(label(NOW, limit), Ok(0.0));
        assert_eq!(label(NOW + 2 * S, limit), Ok(-2.0));
        assert_eq!(label(NOW + 2 * S + 1, limit), Err("future"));
    }

    #[test]
    fn a_btauth_nonce_may_be_ten_seconds_old() {
        assert_eq!(label(NOW - 10 * S, BTAUTH), Ok(10.0));
        assert_eq!(label(NOW - 10 * S - 1, BTAUTH), Err("stale"));
        assert_eq!(label(NOW + 2 * S + 1, BTAUTH), Err("future"));
    }

    #[test]
    fn a_timeout_widens_the_window_to_sixteen_seconds_at_most() {
        let seconds = |timeout| axon(timeout).as_secs_f64();
        assert_eq!(seconds(None), 13.0);
        assert_eq!(seconds(Some(Duration::ZERO)), 4.0);
        assert_eq!(seconds(Some(Duration::from_millis(2500))), 6.5);
        assert_eq!(seconds(Some(Duration::from_secs(12))), 16.0);
        assert_eq!(seconds(Some(Duration::MAX)), 16.0);
    }

    #[test]
    fn what_is_refused_says_by_how_much() {
        let limit = axon(None);
        let stale = Unverified::Stale { age_ms: 60_070, limit_ms: 13_000 };
        assert_eq!(age(NOW - 60_070_000_000, limit, at(NOW)), Err(stale));
        let future = Unverified::Future { ahead_ms: 3_600_000 };
        assert_eq!(age(NOW + 3600 * S, limit, at(NOW)), Err(future));
    }

    #[test]
    fn no_time_is_too_strange() {
        for nonce in [0, 1, NOW, u64::MAX] {
            for wall in [
                UNIX_EPOCH - Duration::from_secs(1),
                UNIX_EPOCH,
                SystemTime::now(),
                UNIX_EPOCH + Duration::from_secs(1 << 40),
            ] {
                let now = Moment { wall, mono: clock::now() };
                let accepted = age(nonce, axon(None), now).is_ok();
                assert_eq!(accepted, now.nanos().abs_diff(nonce) <= 2 * S, "{nonce} {wall:?}");
            }
        }
    }
}
