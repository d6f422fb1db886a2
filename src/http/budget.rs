//! The one budget of request bytes in memory, all requests together.
//!
//! Must not know: what the bytes are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::reply::Failure;
use crate::metrics;

/// How many bytes of request bodies may be held at the same time.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    /// The setting that says how much it is.
    key: &'static str,
    held: AtomicUsize,
}

/// Bytes taken from the budget; gives them back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize, key: &'static str) -> Arc<Self> {
        Arc::new(Self { limit, key, held: AtomicUsize::new(0) })
    }

    /// The whole of it, in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// The setting that says how much it is.
    pub(crate) fn key(&self) -> &'static str {
        self.key
    }

    /// Takes `bytes`; `None` if so many are not left.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let mut held = self.nothing();
        held.cover(bytes).then_some(held)
    }

    /// Takes nothing yet.
    pub(crate) fn nothing(self: &Arc<Self>) -> Held {
        Held { budget: self.clone(), bytes: 0 }
    }
}

impl Held {
    /// Grows to `total` bytes, if that is more than there are already. False, and unchanged, if the
    /// budget does not allow it.
    pub(crate) fn cover(&mut self, total: usize) -> bool {
        let more = total.saturating_sub(self.bytes);
        let limit = self.budget.limit;
        let take = |held: usize| held.checked_add(more).filter(|sum| *sum <= limit);
        match self.budget.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, take) {
            Ok(_) => {
                self.bytes += more;
                metrics::request_bytes(more as f64);
                true
            }
            Err(_) => false,
        }
    }

    /// Moves what is held to another budget. False, and unchanged, if there is no room.
    pub(crate) fn move_to(&mut self, budget: &Arc<Budget>) -> bool {
        let Some(there) = budget.reserve(self.bytes) else { return false };
        *self = there;
        true
    }

    /// Grows to `total` bytes; says whether waiting would help if it cannot.
    pub(crate) fn make_room(&mut self, total: usize) -> Result<(), Failure> {
        let (limit, key) = (self.budget.limit, self.budget.key);
        if total > limit {
            return Err(Failure::NeverFits { needed: total, limit, key });
        }
        if self.cover(total) { Ok(()) } else { Err(Failure::BudgetSpent { key }) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::AcqRel);
        metrics::request_bytes(-(self.bytes as f64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let budget = Budget::new(100, "key");
        let first = budget.reserve(60).unwrap();
        assert!(budget.reserve(41).is_none());
        let second = budget.reserve(40).unwrap();
        drop(first);
        assert!(budget.reserve(60).is_some());
        let (small, mut moving) = (Budget::new(30, "key"), budget.reserve(31).unwrap());
        assert!(!moving.move_to(&small) && moving.cover(31));
        drop(moving);
        let mut moving = budget.reserve(30).unwrap();
        assert!(moving.move_to(&small) && small.reserve(1).is_none());
        assert!(budget.reserve(60).is_some());
        drop(second);
        assert_eq!(budget.held.load(Ordering::Acquire), 0);
    }

    #[test]
    fn growing_counts_what_is_held_already_and_fails_without_change() {
        let budget = Budget::new(100, "key");
        let mut held = budget.reserve(30).unwrap();
        assert!(held.cover(20) && held.cover(30), "never shrinks");
        assert!(held.cover(100));
        assert!(!held.cover(101));
        assert_eq!(budget.held.load(Ordering::Acquire), 100);
        assert!(!held.cover(usize::MAX), "does not overflow");
        let beyond = held.make_room(101);
        assert!(matches!(beyond, Err(Failure::NeverFits { needed: 101, limit: 100, key: "key" })));
        let spent = budget.reserve(0).unwrap().make_room(1);
        assert!(matches!(spent, Err(Failure::BudgetSpent { key: "key" })));
    }
}
