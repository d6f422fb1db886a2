//! The bound on images that are decoded at the same time, all workers together, and how long it takes
//! to get one's turn.
//!
//! Must not know: what is decoded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Weight of the newest decoding in the mean.
const ALPHA: f64 = 0.1;

/// As many permits as there are cores.
#[derive(Debug)]
pub(crate) struct Decoders {
    permits: Arc<Semaphore>,
    count: usize,
    /// Requests that have been read and not decoded yet.
    pending: Arc<AtomicUsize>,
    mean_s: Mutex<Option<f64>>,
}

/// A request that has been read and not decoded yet.
#[derive(Debug)]
pub(crate) struct Pending(Arc<AtomicUsize>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Decoders {
    /// One permit per core.
    pub(crate) fn for_this_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn new(count: usize) -> Self {
        let permits = Arc::new(Semaphore::new(count));
        Self { permits, count, pending: Arc::default(), mean_s: Mutex::new(None) }
    }

    /// A request is on its way to being decoded, as long as this is kept.
    pub(crate) fn enter(&self) -> Pending {
        self.pending.fetch_add(1, Ordering::AcqRel);
        Pending(self.pending.clone())
    }

    /// How long a request that enters now will take until it is decoded, on average. Zero where nobody is
    /// before it: one slow decoding must not keep everybody out, since only the next teaches otherwise.
    pub(crate) fn expected(&self) -> Duration {
        let pending = self.pending.load(Ordering::Acquire);
        if pending == 0 {
            return Duration::ZERO;
        }
        let before = pending / self.count.max(1);
        self.service().saturating_mul(u32::try_from(before + 1).unwrap_or(u32::MAX))
    }

    /// How long decoding itself takes, on average. Zero before anything was decoded.
    pub(crate) fn service(&self) -> Duration {
        Duration::from_secs_f64(self.mean_s.lock().unwrap_or(0.0))
    }

    /// Learns how long a decoding took.
    pub(crate) fn learn(&self, took: Duration) {
        let (took, mut mean) = (took.as_secs_f64(), self.mean_s.lock());
        *mean = Some(mean.map_or(took, |mean| mean + ALPHA * (took - mean)));
    }

    /// Waits for one's turn. `None` once closed, which does not happen.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_with_those_before() {
        let decoders = Decoders::new(2);
        assert_eq!(decoders.expected(), Duration::ZERO, "nothing is known");
        decoders.learn(Duration::from_millis(10));
        assert_eq!(decoders.expected(), Duration::ZERO, "nobody is before it");
        let pending: Vec<_> = (0..6).map(|_| decoders.enter()).collect();
        assert_eq!(decoders.expected(), Duration::from_millis(40));
        drop(pending);
        let _one = decoders.enter();
        assert_eq!(decoders.expected(), Duration::from_millis(10));
    }
}
