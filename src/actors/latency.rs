//! How long a batch takes, learned while serving: one running mean per batch size. Pure.

use std::time::Duration;

/// Weight of the newest observation.
const ALPHA: f64 = 0.2;

/// Mean and mean deviation of the seconds a batch takes, by batch size.
#[derive(Clone, Debug)]
pub struct LatencyTable {
    sizes: Vec<Option<Estimate>>,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    mean_s: f64,
    deviation_s: f64,
    seen: u32,
}

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
        Self { sizes: vec![None; max_batch.max(1)] }
    }

    /// Learns that a batch of `size` took `took`.
    pub fn observe(&mut self, size: usize, took: Duration) {
        let Some(entry) = size.checked_sub(1).and_then(|i| self.sizes.get_mut(i)) else { return };
        let seconds = took.as_secs_f64();
        *entry = Some(match *entry {
            None => Estimate { mean_s: seconds, deviation_s: seconds / 4.0, seen: 1 },
            Some(old) => {
                let error = seconds - old.mean_s;
                Estimate {
                    mean_s: old.mean_s + ALPHA * error,
                    deviation_s: old.deviation_s + ALPHA * (error.abs() - old.deviation_s),
                    seen: old.seen.saturating_add(1),
                }
            }
        });
    }

    /// The mean for a batch of `size`: learned, or drawn from the nearest sizes that are. `None`
    /// before anything was observed.
    pub fn mean(&self, size: usize) -> Option<Duration> {
        self.interpolate(size, |e| e.mean_s)
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
