//! Exact binomial figures: tails, and the intervals of Clopper and Pearson. Pure.

/// Halvings of an interval before its end is taken: to the precision of the numbers.
const HALVINGS: usize = 64;

/// Sums beyond this are scaled down.
const LARGE: f64 = 1e200;

/// The probability of at most `k` successes in `n` trials that succeed with probability `p` each.
pub fn at_most(k: u64, n: u64, p: f64) -> f64 {
    if k >= n || p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    let (odds, trials) = (p / (1.0 - p), n as f64);
    // The terms relative to the first, which may be smaller than any number: what has been taken out
    // of them so far is in `scale`.
    let (mut scale, mut term, mut sum) = (trials * (-p).ln_1p(), 1.0, 1.0);
    for i in 0..k {
        let i = i as f64;
        term *= (trials - i) / (i + 1.0) * odds;
        sum += term;
        if sum > LARGE {
            scale += LARGE.ln();
            (term, sum) = (term / LARGE, sum / LARGE);
        }
    }
    (scale + sum.ln()).exp().min(1.0)
}

/// The probability of at least `k` successes in `n` trials.
pub fn at_least(k: u64, n: u64, p: f64) -> f64 {
    if k == 0 { 1.0 } else { at_most(n.saturating_sub(k), n, 1.0 - p) }
}

/// The largest probability of success under which at most `k` of `n` is no rarer than `delta`: an
/// upper bound that holds with probability `1 - delta`.
pub fn upper(k: u64, n: u64, delta: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    // The shorter of both sums; the other side is exact enough where delta is looked for.
    let tail = |p: f64| {
        if 2 * k > n { 1.0 - at_most(n - k - 1, n, 1.0 - p) } else { at_most(k, n, p) }
    };
    let (mut low, mut high) = (k as f64 / n as f64, 1.0);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if tail(middle) > delta { low = middle } else { high = middle }
    }
    high
}

/// The interval of Clopper and Pearson at confidence `1 - alpha`.
pub fn interval(k: u64, n: u64, alpha: f64) -> [f64; 2] {
    if n == 0 {
        return [0.0, 1.0];
    }
    [1.0 - upper(n - k, n, alpha / 2.0), upper(k, n, alpha / 2.0)]
}

/// The least number of trials after which no success at all rules out `epsilon` at level `delta`.
pub fn fewest(epsilon: f64, delta: f64) -> u64 {
    let mut n = (delta.ln() / (-epsilon).ln_1p()).ceil().max(1.0) as u64;
    // The division rounds; the test itself decides.
    while n > 1 && at_most(0, n - 1, epsilon) <= delta {
        n -= 1;
    }
    while at_most(0, n, epsilon) > delta {
        n += 1;
    }
    n
}

/// The least number of trials after which successes at `rate` rule out `epsilon` at level `delta`;
/// `None` if that takes more than a hundred million, or `rate` is not below `epsilon`.
pub fn fewest_at(rate: f64, epsilon: f64, delta: f64) -> Option<u64> {
    let is_enough = |n: u64| at_most((rate * n as f64).ceil() as u64, n, epsilon) <= delta && n > 0;
    if rate >= epsilon {
        return None;
    }
    let mut high = fewest(epsilon, delta);
    while !is_enough(high) {
        high *= 2;
        if high > 100_000_000 {
            return None;
        }
    }
    let mut low = 0;
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if is_enough(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_of_small_numbers_by_hand() {
        assert!((at_most(0, 3, 0.5) - 0.125).abs() < 1e-15);
        assert!((at_most(1, 3, 0.5) - 0.5).abs() < 1e-15);
        assert!((at_least(2, 3, 0.5) - 0.5).abs() < 1e-15);
        assert_eq!((at_most(3, 3, 0.9), at_least(0, 3, 0.1)), (1.0, 1.0));
        assert_eq!((at_most(1, 3, 0.0), at_most(1, 3, 1.0)), (1.0, 0.0));
        let whole: f64 = (0..=20)
            .map(|k| at_most(k, 20, 0.3) - if k > 0 { at_most(k - 1, 20, 0.3) } else { 0.0 })
            .sum();
        assert!((whole - 1.0).abs() < 1e-12);
    }

    #[test]
    fn far_tails_do_not_vanish_early() {
        let tail = at_most(10, 100_000, 0.005);
        assert!(tail > 0.0 && tail < 1e-180, "{tail}");
    }

    #[test]
    fn how_many_are_needed() {
        assert_eq!(fewest(0.02, 0.1), 114);
        assert_eq!(fewest(0.5, 0.5), 1);
        assert_eq!(fewest_at(0.0, 0.02, 0.1), Some(114));
        assert_eq!(fewest_at(0.02, 0.02, 0.1), None);
        let n = fewest_at(0.01, 0.02, 0.1).unwrap();
        assert!((200..900).contains(&n), "{n}");
    }

    #[test]
    fn bounds_hold_what_was_seen() {
        for (k, n) in [(0, 10), (3, 10), (10, 10), (1, 400)] {
            let [low, high] = interval(k, n, 0.05);
            let seen = k as f64 / n as f64;
            assert!(low <= seen && seen <= high && low >= 0.0 && high <= 1.0);
        }
        assert!((upper(0, 114, 0.1) - 0.02).abs() < 2e-4);
        assert_eq!(interval(0, 0, 0.05), [0.0, 1.0]);
    }
}
