//! What a stage's instances, its actor, the supervisor and the door share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::berth::Berth;
use super::former::Queued;
use super::job::{Job, JobId, Priority};
use super::latency::{Crowd, LatencyTable};
use super::mailbox::Mailbox;
use crate::clock;
use crate::metrics;
use crate::prediction::StageName;

/// An idle stage that has computed nothing for so long is asked as if it cost nothing: what was
/// learned may be out of date, and a stage that is never asked never learns better.
const STALE: Duration = Duration::from_secs(1);

/// A batch that takes so many times what such a batch is known to take at most has hung, ...
const HANG_FACTOR: u32 = 20;

/// ... but not before this: a busy machine may keep a thread waiting.
const HANG_LEAST: Duration = Duration::from_secs(1);

impl Queued for Arc<Job> {
    fn id(&self) -> JobId {
        self.id
    }

    fn priority(&self) -> Priority {
        self.request.priority
    }

    fn deadline(&self) -> Instant {
        self.request.deadline
    }

    fn is_closed(&self) -> bool {
        self.slot.is_closed()
    }
}

/// See the module.
pub(crate) struct StageShared {
    pub(crate) index: usize,
    pub(crate) name: StageName,
    pub(crate) mailbox: Mailbox<Arc<Job>>,
    pub(crate) latency: Mutex<LatencyTable>,
    pub(crate) epochs: AtomicU64,
    pub(crate) berths: Vec<Berth>,
    /// When the latency table last learned something.
    learned: Mutex<Option<Instant>>,
    /// Largest batch that the settings allow.
    max_batch: AtomicUsize,
    /// Largest batch at present.
    limit: AtomicUsize,
    hang_ms: AtomicU64,
}

impl StageShared {
    pub(crate) fn new(
        (index, name): (usize, &str),
        mailbox: Mailbox<Arc<Job>>,
        lanes: usize,
        (max_batch, hang_ms): (usize, u64),
    ) -> Self {
        Self {
            index,
            name: name.into(),
            mailbox,
            latency: Mutex::new(LatencyTable::new(max_batch)),
            epochs: AtomicU64::new(0),
            berths: (0..lanes).map(|_| Berth::default()).collect(),
            learned: Mutex::new(None),
            max_batch: AtomicUsize::new(max_batch),
            limit: AtomicUsize::new(max_batch),
            hang_ms: AtomicU64::new(hang_ms),
        }
    }

    /// A number that no incarnation has had.
    pub(crate) fn next_epoch(&self) -> u64 {
        self.epochs.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Largest batch at present.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Acquire)
    }

    /// A batch of this size was too big.
    pub(crate) fn shrink(&self, failed_size: usize) {
        let limit = (failed_size / 2).max(1);
        self.limit.fetch_min(limit, Ordering::AcqRel);
        metrics::batch_limit(&self.name, self.limit());
    }

    /// Batches have been going well.
    pub(crate) fn grow(&self) {
        let most = self.max_batch.load(Ordering::Acquire);
        let grown = |n: usize| (n < most).then_some(n + 1);
        if let Ok(before) = self.limit.fetch_update(Ordering::AcqRel, Ordering::Acquire, grown) {
            metrics::batch_limit(&self.name, before + 1);
        }
    }

    /// Takes other limits from now on.
    pub(crate) fn retune(&self, max_batch: usize, hang_ms: u64) {
        let before = self.max_batch.swap(max_batch, Ordering::AcqRel);
        // A limit that has shrunk recovers by itself.
        let limit = |now: usize| Some(if now == before { max_batch } else { now.min(max_batch) });
        let _always = self.limit.fetch_update(Ordering::AcqRel, Ordering::Acquire, limit);
        self.hang_ms.store(hang_ms, Ordering::Release);
        metrics::batch_limit(&self.name, self.limit());
        self.mailbox.wake_all();
    }

    /// Learns what a batch of so many pictures took. What was learned long ago is replaced.
    pub(crate) fn learn(&self, pictures: usize, took: Duration) {
        let (mut table, mut learned) = (self.latency.lock(), self.learned.lock());
        let now = clock::now();
        if learned.replace(now).is_none_or(|at| now.saturating_duration_since(at) > took + STALE) {
            table.forget(pictures);
        }
        table.observe(pictures, took);
    }

    /// A batch of so many pictures has taken far longer than it should: the settings decide about the
    /// next one.
    pub(crate) fn forget(&self, pictures: usize) {
        self.latency.lock().forget(pictures);
    }

    /// After how long a batch of so many pictures counts as hung: by what was learned of this very
    /// size, within the settings.
    pub(crate) fn hang_after(&self, pictures: usize) -> Duration {
        let most = Duration::from_millis(self.hang_ms.load(Ordering::Acquire));
        match self.latency.lock().settled_bound(pictures) {
            Some(bound) => (bound * HANG_FACTOR).max(HANG_LEAST).min(most),
            None => most,
        }
    }

    /// What the stage is doing at this moment.
    pub(crate) fn glance(&self, now: Instant) -> Glance {
        let busy = self.berths.iter().filter_map(|berth| berth.busy());
        let since = |at: Instant| now.saturating_duration_since(at);
        Glance {
            running: busy.map(|busy| (busy.pictures, since(busy.since))).collect(),
            is_fresh: self.learned.lock().is_some_and(|at| since(at) < STALE),
        }
    }

    /// Waiting plus computing time that a job which comes now, behind `ahead` others, will hardly
    /// exceed. Zero if nothing is known.
    pub(crate) fn predicted(&self, at: &Glance, ahead: usize, ready: usize) -> Duration {
        let Some(crowd) = self.crowd(at, ahead, ready) else { return Duration::ZERO };
        let table = self.latency.lock();
        let Some((wait, service)) = table.forecast(&crowd) else { return Duration::ZERO };
        wait + table.bound(ahead % crowd.limit.max(1) + 1).unwrap_or(service)
    }

    /// How long a job that comes now, behind `ahead` others, will wait and be computed, on average.
    /// Zero if nothing is known.
    pub(crate) fn expected(
        &self,
        ahead: usize,
        ready: usize,
        now: Instant,
    ) -> (Duration, Duration) {
        let at = self.glance(now);
        let crowd = self.crowd(&at, ahead, ready);
        crowd.and_then(|crowd| self.latency.lock().forecast(&crowd)).unwrap_or_default()
    }

    /// `None` if an idle stage has learned nothing of late.
    fn crowd<'a>(&self, at: &'a Glance, ahead: usize, ready: usize) -> Option<Crowd<'a>> {
        let is_known = at.is_fresh || ahead > 0 || !at.running.is_empty();
        is_known.then(|| Crowd { running: &at.running, ahead, limit: self.limit(), ready })
    }
}

/// What a stage is doing at one moment.
pub(crate) struct Glance {
    /// The batches that are being computed: how many pictures, and for how long.
    running: Vec<(usize, Duration)>,
    /// Whether the stage has learned something of late.
    is_fresh: bool,
}
