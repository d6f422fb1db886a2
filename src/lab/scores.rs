//! How good a set of answers is, how sure that is, and which of two sets is better. Pure.

mod bootstrap;
mod confusion;
mod figures;
#[cfg(test)]
mod golden_tests;
mod paired;
mod reliability;

pub use bootstrap::{Difference, Interval, Resampling, differences, intervals};
pub use confusion::Confusion;
pub use figures::{Figure, Figures, Scored, Totals, figures};
pub use paired::{McNemar, holm, images_needed};
pub use reliability::{BINS, Bin, Reliability};

/// The value below which the share `q` of the sorted samples lies (nearest rank); 0 if empty.
pub fn percentile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// The `q` quantile of the sorted samples, between neighbours in proportion, as numpy has it; 0 if
/// empty.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q.clamp(0.0, 1.0) * sorted.len().saturating_sub(1) as f64;
    let (below, share) = (at.floor() as usize, at.fract());
    let Some(low) = sorted.get(below) else { return 0.0 };
    let high = sorted.get(below + 1).unwrap_or(low);
    low + share * (high - low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_rank() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(percentile(&sorted, 0.5), 2.0);
        assert_eq!(percentile(&sorted, 0.99), 4.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        let sorted = [1.0, 2.0, 4.0];
        assert_eq!(
            [0.0, 0.25, 0.5, 0.75, 1.0].map(|q| quantile(&sorted, q)),
            [1.0, 1.5, 2.0, 3.0, 4.0]
        );
        assert_eq!(quantile(&[], 0.5), 0.0);
        assert_eq!(quantile(&[7.0], 0.9), 7.0);
    }
}
