//! Answers that are shared: identical images in flight are computed once, and repeats are answered
//! from a bounded memory that expires.
//!
//! Several miners of one operator get the same image in one challenge. The first to bring it *leads*;
//! the others follow, each for as long as its own deadline allows. Only a verdict that is not degraded
//! is shared or remembered. A leader whose client left, or that got less than a full verdict, does not
//! bind its followers. Nobody follows a leader that is served later than itself.
//!
//! Must not know: what an image is, or how a verdict comes about.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::actors::Priority;
use crate::prediction::Verdict;

/// What an answer is an answer to: the bytes of an image and the version of the cascade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn of(image: &[u8], version: &[String]) -> Self {
        let mut hasher = Sha256::new();
        for part in version {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.update(image);
        Self(hasher.finalize().into())
    }
}

/// How long, and for whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) deadline: Instant,
    /// How much later than its deadline somebody else's answer is still good enough: calls that were
    /// sent together do not arrive in order.
    pub(super) grace: Duration,
    pub(super) priority: Priority,
}

/// What whoever brings an image is to do.
#[derive(Debug)]
pub(super) enum Turn {
    /// Take this answer.
    Known(Arc<Verdict>),
    /// Wait for somebody else's.
    Follow(Follow),
    /// Find one, and tell the others.
    Lead(Lead),
    /// Find one.
    Alone,
}

/// How a flight ended.
#[derive(Clone, Debug)]
pub(super) enum Landing {
    /// With an answer for all.
    Shared(Arc<Verdict>),
    /// With less, which is the leader's alone unless a follower has nothing better.
    Unfit(Option<Arc<Verdict>>),
    /// The leader left.
    Left,
}

type State = Option<Landing>;

#[derive(Debug)]
struct Flight {
    due: Due,
    state: watch::Sender<State>,
}

/// The flights and the memory.
#[derive(Debug)]
pub(super) struct Answers {
    remember_for: Duration,
    shares_flights: bool,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `None` if nothing is remembered.
    known: Option<LruCache<Key, (Instant, Arc<Verdict>)>>,
    flights: HashMap<Key, Arc<Flight>>,
}

impl Answers {
    /// Remembers up to `capacity` answers, 0 for none, each for a while.
    pub(super) fn new(capacity: usize, remember_for: Duration, shares_flights: bool) -> Arc<Self> {
        let known = NonZeroUsize::new(capacity).map(LruCache::new);
        let inner = Mutex::new(Inner { known, flights: HashMap::new() });
        Arc::new(Self { remember_for, shares_flights, inner })
    }

    /// Whether anything is shared at all; if not, there is no need for keys.
    pub(super) fn is_on(&self) -> bool {
        self.shares_flights || self.inner.lock().known.is_some()
    }

    /// What is to be done by who brings this.
    pub(super) fn turn(self: &Arc<Self>, key: Key, due: Due, now: Instant) -> Turn {
        let mut inner = self.inner.lock();
        if let Some(verdict) = inner.recall(key, now, self.remember_for) {
            return Turn::Known(verdict);
        }
        let lead = |flight: Option<Arc<Flight>>| Lead { answers: self.clone(), key, flight };
        match inner.flights.get(&key) {
            _ if !self.shares_flights => Turn::Lead(lead(None)),
            Some(flight) if flight.due.serves(due) => {
                Turn::Follow(Follow(flight.state.subscribe()))
            }
            Some(_) => Turn::Alone,
            None => {
                let flight = Arc::new(Flight { due, state: watch::Sender::new(None) });
                inner.flights.insert(key, flight.clone());
                Turn::Lead(lead(Some(flight)))
            }
        }
    }
}

impl Due {
    /// Whether who is served like this is served soon enough for another.
    fn serves(&self, other: Self) -> bool {
        self.deadline <= other.latest() && self.priority <= other.priority
    }

    /// When somebody else's answer must be there.
    pub(super) fn latest(&self) -> Instant {
        self.deadline + self.grace
    }
}

impl Inner {
    fn recall(&mut self, key: Key, now: Instant, at_most: Duration) -> Option<Arc<Verdict>> {
        let known = self.known.as_mut()?;
        let (since, verdict) = known.get(&key)?;
        if now.saturating_duration_since(*since) <= at_most {
            return Some(verdict.clone());
        }
        known.pop(&key);
        None
    }
}

/// The right to answer for all. Dropped without [`finish`](Self::finish), it says that the leader left.
#[derive(Debug)]
pub(super) struct Lead {
    answers: Arc<Answers>,
    key: Key,
    /// Whoever follows; `None` if nobody may.
    flight: Option<Arc<Flight>>,
}

impl Lead {
    /// Tells the followers, and remembers a full verdict if the cascade is still of the `key`'s
    /// version.
    pub(super) fn finish(mut self, verdict: Option<&Arc<Verdict>>, is_current: bool, now: Instant) {
        let full = verdict.filter(|verdict| verdict.degraded.is_none());
        {
            let mut inner = self.answers.inner.lock();
            if let (Some(known), Some(verdict), true) = (&mut inner.known, full, is_current) {
                known.put(self.key, (now, verdict.clone()));
            }
        }
        let landing = match full {
            Some(verdict) => Landing::Shared(verdict.clone()),
            None => Landing::Unfit(verdict.cloned()),
        };
        self.land(landing);
    }

    fn land(&mut self, landing: Landing) {
        if let Some(flight) = self.flight.take() {
            self.answers.inner.lock().flights.remove(&self.key);
            flight.state.send_replace(Some(landing));
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.land(Landing::Left);
    }
}

/// Waits for a leader.
#[derive(Debug)]
pub(super) struct Follow(watch::Receiver<State>);

impl Follow {
    /// How it ended.
    pub(super) async fn landing(mut self) -> Landing {
        let landed = self.0.wait_for(Option::is_some).await;
        landed.ok().and_then(|state| state.clone()).unwrap_or(Landing::Left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::prediction::{Degraded, Probability};

    fn verdict(degraded: Option<Degraded>) -> Arc<Verdict> {
        let probability = Probability::new(0.75).unwrap();
        Arc::new(Verdict { probability, stage: "s".into(), degraded, trace: Vec::new() })
    }

    fn due(now: Instant, seconds: u64) -> Due {
        let (deadline, grace) = (now + Duration::from_secs(seconds), Duration::from_millis(500));
        Due { deadline, grace, priority: Priority::Normal }
    }

    fn key(image: &[u8]) -> Key {
        Key::of(image, &["v".into()])
    }

    fn lead(turn: Turn) -> Lead {
        match turn {
            Turn::Lead(lead) => lead,
            other => panic!("{other:?}"),
        }
    }

    fn follow(turn: Turn) -> Follow {
        match turn {
            Turn::Follow(follow) => follow,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_covers_the_image_and_every_part_of_the_version() {
        let of = |image: &[u8], version: &[&str]| {
            Key::of(image, &version.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>())
        };
        let one = of(b"image", &["a", "b"]);
        assert_eq!(one, of(b"image", &["a", "b"]));
        for other in [
            of(b"imagf", &["a", "b"]),
            of(b"image", &["a", "c"]),
            of(b"image", &["ab", ""]),
            of(b"bimage", &["a", ""]),
        ] {
            assert_ne!(one, other);
        }
    }

    #[tokio::test]
    async fn the_first_leads_and_the_others_get_its_answer() {
        let (answers, now) = (Answers::new(8, Duration::from_secs(10), true), clock::now());
        let leader = lead(answers.turn(key(b"a"), due(now, 1), now));
        let follower = follow(answers.turn(key(b"a"), due(now, 1), now));
        lead(answers.turn(key(b"b"), due(now, 1), now));
        leader.finish(Some(&verdict(None)), true, now);
        assert!(matches!(follower.landing().await, Landing::Shared(_)));
        assert!(matches!(answers.turn(key(b"a"), due(now, 1), now), Turn::Known(_)));
        let later = now + Duration::from_secs(11);
        lead(answers.turn(key(b"a"), due(later, 1), later));
    }

    #[tokio::test]
    async fn a_leader_that_leaves_or_degrades_binds_nobody() {
        let (answers, now) = (Answers::new(8, Duration::from_secs(10), true), clock::now());
        let leader = lead(answers.turn(key(b"a"), due(now, 1), now));
        let follower = follow(answers.turn(key(b"a"), due(now, 1), now));
        drop(leader);
        assert!(matches!(follower.landing().await, Landing::Left));
        let leader = lead(answers.turn(key(b"a"), due(now, 1), now));
        let follower = follow(answers.turn(key(b"a"), due(now, 1), now));
        leader.finish(Some(&verdict(Some(Degraded::Deadline))), true, now);
        assert!(matches!(follower.landing().await, Landing::Unfit(Some(_))));
        lead(answers.turn(key(b"a"), due(now, 1), now)).finish(None, true, now);
        lead(answers.turn(key(b"a"), due(now, 1), now));
    }

    #[test]
    fn nobody_follows_who_is_served_later() {
        let (answers, now) = (Answers::new(8, Duration::from_secs(10), true), clock::now());
        let _leader = lead(answers.turn(key(b"a"), due(now, 5), now));
        assert!(matches!(answers.turn(key(b"a"), due(now, 4), now), Turn::Alone));
        let validator = Due { priority: Priority::Validator, ..due(now, 6) };
        assert!(matches!(answers.turn(key(b"a"), validator, now), Turn::Alone));
        follow(answers.turn(key(b"a"), due(now, 6), now));
        let half = Duration::from_millis(500);
        let a_little_sooner = Due { deadline: now + Duration::from_secs(5) - half, ..due(now, 5) };
        follow(answers.turn(key(b"a"), a_little_sooner, now));
    }

    #[test]
    fn what_another_version_answered_is_not_remembered() {
        let (answers, now) = (Answers::new(8, Duration::from_secs(10), true), clock::now());
        lead(answers.turn(key(b"a"), due(now, 1), now)).finish(Some(&verdict(None)), false, now);
        lead(answers.turn(key(b"a"), due(now, 1), now));
    }

    #[test]
    fn memory_is_bounded_and_both_can_be_turned_off() {
        let (answers, now) = (Answers::new(2, Duration::from_secs(10), false), clock::now());
        for image in [b"a", b"b", b"c"] {
            let leader = lead(answers.turn(key(image), due(now, 1), now));
            let _other = lead(answers.turn(key(image), due(now, 1), now));
            leader.finish(Some(&verdict(None)), true, now);
        }
        lead(answers.turn(key(b"a"), due(now, 1), now));
        assert!(matches!(answers.turn(key(b"c"), due(now, 1), now), Turn::Known(_)));
        assert!(answers.is_on() && !Answers::new(0, Duration::ZERO, false).is_on());
        let forgetful = Answers::new(0, Duration::from_secs(10), true);
        lead(forgetful.turn(key(b"a"), due(now, 1), now)).finish(Some(&verdict(None)), true, now);
        lead(forgetful.turn(key(b"a"), due(now, 1), now));
    }
}
