//! A lease: whether an instance's thread was left behind, and whether it has ended since.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Tells whether a thread was left behind; counts those that still run.
#[derive(Debug)]
pub(crate) struct Lease {
    state: AtomicU8,
    /// Threads of the whole engine that were left behind and still run.
    count: Arc<AtomicUsize>,
}

impl Lease {
    pub(crate) fn new(count: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self { state: AtomicU8::new(RUNNING), count })
    }

    /// The thread is left behind. Says how many of the whole engine now run like that; `None` if it
    /// has just ended.
    pub(crate) fn abandon(&self) -> Option<usize> {
        // Before the state says so, or the thread might subtract first.
        let count = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        let (old, new) = (RUNNING, ABANDONED);
        if self.state.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return Some(count);
        }
        self.count.fetch_sub(1, Ordering::AcqRel);
        None
    }

    /// The thread ends. True if it had been left behind.
    pub(crate) fn end(&self) -> bool {
        let was_abandoned = self.state.swap(ENDED, Ordering::AcqRel) == ABANDONED;
        if was_abandoned {
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
        was_abandoned
    }
}

const RUNNING: u8 = 0;
const ABANDONED: u8 = 1;
const ENDED: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_threads_that_still_run_are_counted() {
        let count = Arc::new(AtomicUsize::new(0));
        let (hung, over) = (Lease::new(count.clone()), Lease::new(count.clone()));
        assert!(!over.end());
        assert_eq!(over.abandon(), None, "it has ended");
        assert_eq!(hung.abandon(), Some(1));
        assert!(hung.end(), "it came back");
        assert_eq!(count.load(Ordering::Acquire), 0);
    }
}
