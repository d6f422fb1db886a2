//! How long a batch takes, learned while serving: one running mean per batch size. Pure.
//!
//! Two kinds of answer. [`mean`](LatencyTable::mean) and [`bound`](LatencyTable::bound) are for promises: what
//! is not known scales. [`expected`](LatencyTable::expected) is for choosing a size, and hopeful: what is
//! not known, or was not confirmed for long, is taken to cost no more than what is, so that it is tried.
//! A size that is thought too dear is never chosen, and so it would never be known better.

use std::time::Duration;

/// Weight of the newest observation.
const ALPHA: f64 = 0.2;

/// Mean and mean deviation of the seconds a batch takes, by batch size.
#[derive(Clone, Debug)]
pub struct LatencyTable {
    sizes: Vec<Option<Estimate>>,
    /// Batches that were observed.
    batches: u64,
    /// See [`LatencyTable::expected`]. By size; empty if nothing is known.
    expected: Vec<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    mean_s: f64,
    deviation_s: f64,
    seen: u32,
    /// How many batches, of any size, had been observed by then.
    at: u64,
}

/// An estimate from one batch counts for twice so many others, one from two for twice as many again, and so
/// on.
const UNCONFIRMED: u64 = 8;

/// So many batches of a size tell how long such a batch takes at most.
const SETTLED: u32 = 8;

/// What a stage is doing when a job comes.
#[derive(Clone, Copy, Debug)]
pub struct Crowd<'a> {
    /// The batches that are being computed: how large they are, and for how long they have been.
    pub running: &'a [(usize, Duration)],
    /// Jobs that are served before.
    pub ahead: usize,
    /// Largest batch at present.
    pub limit: usize,
    /// Instances that take batches.
    pub ready: usize,
}

impl LatencyTable {
    /// An empty table for batches of 1 to `max_batch`.
    pub fn new(max_batch: usize) -> Self {
        Self { sizes: vec![None; max_batch.max(1)], batches: 0, expected: Vec::new() }
    }

    /// Learns that a batch of `size` took `took`.
    pub fn observe(&mut self, size: usize, took: Duration) {
        let Some(entry) = size.checked_sub(1).and_then(|i| self.sizes.get_mut(i)) else { return };
        let seconds = took.as_secs_f64();
        self.batches += 1;
        let first =
            Estimate { mean_s: seconds, deviation_s: seconds / 4.0, seen: 1, at: self.batches };
        *entry = Some(match *entry {
            None => first,
            // The first of a size may pay for what later ones do not: memory, the choice of kernels.
            Some(old) if old.seen == 1 && seconds < old.mean_s => Estimate { seen: 2, ..first },
            Some(old) => {
                let error = seconds - old.mean_s;
                Estimate {
                    mean_s: old.mean_s + ALPHA * error,
                    deviation_s: old.deviation_s + ALPHA * (error.abs() - old.deviation_s),
                    seen: old.seen.saturating_add(1),
                    at: self.batches,
                }
            }
        });
        self.expect();
    }

    /// The mean for a batch of `size`: learned, or drawn from the nearest sizes that are. `None`
    /// before anything was observed.
    pub fn mean(&self, size: usize) -> Option<Duration> {
        self.interpolate(size, |e| e.mean_s)
    }

    /// What a batch of `size` takes, where in doubt the less: drawn from the nearest sizes that are known
    /// of late; beyond the largest of those, what that one takes; never more than a larger batch.
    /// Zero before anything was observed.
    pub fn expected(&self, size: usize) -> Duration {
        let at = size.clamp(1, self.sizes.len()) - 1;
        self.expected.get(at).copied().unwrap_or_default()
    }

    /// Works [`expected`](Self::expected) out again.
    fn expect(&mut self) {
        let fresh = |e: &Estimate| self.batches - e.at <= UNCONFIRMED << e.seen.min(32);
        let known = self.sizes.iter().enumerate();
        let known = known.filter_map(|(at, e)| Some((at, e.filter(fresh)?.mean_s)));
        let mut seconds = Vec::with_capacity(self.sizes.len());
        let mut before: Option<(usize, f64)> = None;
        for (at, mean) in known {
            let (from, least) = before.unwrap_or((0, mean));
            let width = (at - from).max(1) as f64;
            while seconds.len() <= at {
                seconds.push(least + (mean - least) * (seconds.len() - from) as f64 / width);
            }
            before = Some((at, mean));
        }
        let Some((_, mean)) = before else { return self.expected.clear() };
        seconds.resize(self.sizes.len(), mean);
        for at in (1..seconds.len()).rev() {
            seconds[at - 1] = f64::min(seconds[at - 1], seconds[at]);
        }
        self.expected = seconds.into_iter().map(|s| Duration::from_secs_f64(s.max(0.0))).collect();
    }

    /// What a batch of `size` will hardly exceed: the mean and three deviations.
    pub fn bound(&self, size: usize) -> Option<Duration> {
        self.interpolate(size, |e| e.mean_s + 3.0 * e.deviation_s)
    }

    /// Like [`bound`](Self::bound), if enough batches of this very size have been seen.
    pub fn settled_bound(&self, size: usize) -> Option<Duration> {
        let known = self.sizes.get(size.checked_sub(1)?)?.as_ref()?;
        (known.seen >= SETTLED).then(|| self.bound(size)).flatten()
    }

    /// Unlearns what a batch of `size` takes.
    pub fn forget(&mut self, size: usize) {
        if let Some(entry) = size.checked_sub(1).and_then(|i| self.sizes.get_mut(i)) {
            *entry = None;
        }
        self.expect();
    }

    /// How long a job that comes now will wait, and how long its batch will take, on average. `None`
    /// before anything was observed.
    pub fn forecast(&self, crowd: &Crowd<'_>) -> Option<(Duration, Duration)> {
        let limit = crowd.limit.max(1);
        let service = self.least(crowd.ahead % limit + 1)?;
        if crowd.ahead == 0 && crowd.running.len() < crowd.ready {
            return Some((Duration::ZERO, service));
        }
        let left = |(size, since): &(usize, Duration)| {
            self.mean(*size).unwrap_or_default().saturating_sub(*since)
        };
        let running: Duration = crowd.running.iter().map(left).sum();
        let turns = u32::try_from(crowd.ahead / limit).unwrap_or(u32::MAX);
        let queued = self.mean(limit)?.saturating_mul(turns);
        let ready = u32::try_from(crowd.ready).unwrap_or(u32::MAX).max(1);
        Some(((running + queued) / ready, service))
    }

    /// The mean for a batch of `size`, or of a larger one that is known to take less: what was learned
    /// of the small one is then out of date.
    fn least(&self, size: usize) -> Option<Duration> {
        let known = self.sizes.iter().skip(size.saturating_sub(1)).flatten();
        let least = known.map(|e| Duration::from_secs_f64(e.mean_s.max(0.0))).min();
        least.or_else(|| self.mean(size))
    }

    fn interpolate(&self, size: usize, of: impl Fn(&Estimate) -> f64) -> Option<Duration> {
        let known = |i: usize| Some((i as f64 + 1.0, of(self.sizes.get(i)?.as_ref()?)));
        let at = size.clamp(1, self.sizes.len()) - 1;
        let below = (0..=at).rev().find_map(known);
        let above = (at..self.sizes.len()).find_map(known);
        let wanted = at as f64 + 1.0;
        let seconds = match (below, above) {
            (Some((n, s)), Some((m, t))) if m > n => s + (t - s) * (wanted - n) / (m - n),
            (Some((n, s)), None) => s * wanted / n,
            (_, Some((_, t))) => t,
            (None, None) => return None,
        };
        Some(Duration::from_secs_f64(seconds.max(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn empty_says_nothing() {
        assert_eq!(LatencyTable::new(8).mean(4), None);
    }

    #[test]
    fn between_known_sizes_it_interpolates_and_beyond_it_scales() {
        let mut table = LatencyTable::new(8);
        table.observe(2, ms(20));
        assert_eq!(table.mean(1), Some(ms(20)), "a smaller batch takes at most as long");
        assert_eq!(table.mean(8), Some(ms(80)));
        table.observe(4, ms(30));
        assert_eq!(table.mean(3), Some(ms(25)));
    }

    #[test]
    fn what_is_expected_is_hopeful() {
        let mut table = LatencyTable::new(8);
        assert_eq!(table.expected(4), ms(0));
        table.observe(2, ms(20));
        let all = |table: &LatencyTable| [1, 2, 3, 4, 8, 99].map(|n| table.expected(n).as_millis());
        assert_eq!(all(&table), [20; 6], "a larger batch is worth a try");
        table.observe(4, ms(40));
        assert_eq!(all(&table), [20, 20, 30, 40, 40, 40]);
        table.observe(1, ms(90));
        assert_eq!(all(&table), [20, 20, 30, 40, 40, 40], "a smaller batch takes no longer");
    }

    #[test]
    fn what_was_dear_once_is_tried_again_and_what_is_dear_is_believed_longer_each_time() {
        let mut table = LatencyTable::new(8);
        let mut tries = Vec::new();
        for batch in 0..1_000 {
            let worth_a_try = table.expected(8) <= ms(10);
            if worth_a_try {
                tries.push(batch);
            }
            table.observe(if worth_a_try { 8 } else { 1 }, ms(if worth_a_try { 100 } else { 10 }));
        }
        let pauses: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.windows(2).all(|pair| pair[1] > pair[0]), "{pauses:?}");
        assert!((4..8).contains(&tries.len()), "{tries:?}");
        table.observe(4, ms(200));
        table.observe(4, ms(20));
        assert_eq!(table.mean(4), Some(ms(20)), "the first pays for what the second does not");
    }

    #[test]
    fn a_job_waits_for_the_rest_of_what_runs_and_for_whole_batches_before_it() {
        let mut table = LatencyTable::new(4);
        for size in 1..=4 {
            table.observe(size, ms(10 + 10 * size as u64));
        }
        let crowd = |running, ahead, ready| Crowd { running, ahead, limit: 4, ready };
        let idle = table.forecast(&crowd(&[], 0, 1)).unwrap();
        assert_eq!(idle, (ms(0), ms(20)));
        let one = [(1, ms(15))];
        assert_eq!(table.forecast(&crowd(&one, 0, 1)).unwrap(), (ms(5), ms(20)));
        assert_eq!(table.forecast(&crowd(&one, 9, 1)).unwrap(), (ms(105), ms(30)));
        assert_eq!(table.forecast(&crowd(&one, 0, 2)).unwrap(), (ms(0), ms(20)), "another is free");
        assert!(LatencyTable::new(4).forecast(&crowd(&one, 9, 1)).is_none());
    }

    #[test]
    fn a_bound_is_settled_by_batches_of_the_very_size() {
        let mut table = LatencyTable::new(4);
        for _ in 0..20 {
            table.observe(1, ms(10));
        }
        assert!(table.settled_bound(1).is_some());
        assert_eq!(
            (table.settled_bound(2), table.settled_bound(64), table.settled_bound(0)),
            (None, None, None)
        );
        table.forget(1);
        assert_eq!(table.settled_bound(1), None);
    }

    #[test]
    fn it_follows_a_change() {
        let mut table = LatencyTable::new(1);
        for _ in 0..50 {
            table.observe(1, ms(10));
        }
        for _ in 0..50 {
            table.observe(1, ms(100));
        }
        let mean = table.mean(1).unwrap();
        assert!(mean > ms(99) && table.bound(1).unwrap() >= mean, "{mean:?}");
    }
}
