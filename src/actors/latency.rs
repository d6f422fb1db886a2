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
            None => Estimate { mean_s: seconds, deviation_s: seconds / 4.0 },
            Some(old) => {
                let error = seconds - old.mean_s;
                Estimate {
                    mean_s: old.mean_s + ALPHA * error,
                    deviation_s: old.deviation_s + ALPHA * (error.abs() - old.deviation_s),
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
