//! Which images an epoch is made of: real and synthetic ones, easy and hard ones, each in the share
//! that was asked for. Pure.
//!
//! Counts are exact and not drawn: of `size` images, `share × size` (rounded) are of the second kind.
//! A kind with fewer images than that is gone through again, in another order each time, so that no
//! image is seen twice more often than another of its kind. A kind without images leaves its share to
//! the other.

use rand::Rng;
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};

/// What matters of an image here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    /// Rendered or generated, and not photographed.
    pub synthetic: bool,
    /// Among the hard ones.
    pub hard: bool,
}

/// The shares of an epoch; without one, images of both kinds are taken as they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mixture {
    /// The share of synthetic images, 0 to 1.
    pub synthetic: Option<f64>,
    /// The share of hard images among the real ones and among the synthetic ones, 0 to 1.
    pub hard: Option<f64>,
}

impl Mixture {
    /// The images of an epoch of `size`, as indices into `kinds`, shuffled. Empty if there are none.
    pub fn epoch(&self, kinds: &[Kind], size: usize, rng: &mut impl Rng) -> Vec<usize> {
        let all: Vec<usize> = (0..kinds.len()).collect();
        let mut chosen = Vec::with_capacity(size);
        for (group, count) in shares(&all, self.synthetic, size, |i| kinds[i].synthetic) {
            for (group, count) in shares(&group, self.hard, count, |i| kinds[i].hard) {
                chosen.extend(cycle(&group, count, rng));
            }
        }
        chosen.shuffle(rng);
        chosen
    }

    /// Why this cannot be, if it cannot.
    pub fn problem(&self) -> Option<String> {
        let named = [("synthetic", self.synthetic), ("hard", self.hard)];
        let is_wrong = |share: f64| !(0.0..=1.0).contains(&share);
        let (name, share) =
            named.iter().find_map(|(name, s)| s.filter(|s| is_wrong(*s)).map(|s| (name, s)))?;
        Some(format!("the share of {name} images is {share}; it must be from 0 to 1"))
    }
}

/// The two kinds among `items`, and how many of each to take; all in one if no share is asked for.
fn shares(
    items: &[usize],
    share: Option<f64>,
    size: usize,
    is_second: impl Fn(usize) -> bool,
) -> Vec<(Vec<usize>, usize)> {
    let Some(share) = share else { return vec![(items.to_vec(), size)] };
    let (second, first): (Vec<usize>, Vec<usize>) = items.iter().partition(|i| is_second(**i));
    let (of_first, of_second) = counts(first.len(), second.len(), share, size);
    vec![(first, of_first), (second, of_second)]
}

/// How many of `size` items come from two lists of these lengths: `share` of them from the second, or
/// all from the one that is not empty; none if both are.
pub fn counts(first: usize, second: usize, share: f64, size: usize) -> (usize, usize) {
    let of_second = match (first, second) {
        (0, 0) => return (0, 0),
        (_, 0) => 0,
        (0, _) => size,
        _ => ((share.clamp(0.0, 1.0) * size as f64).round() as usize).min(size),
    };
    (size - of_second, of_second)
}

/// `count` items, each as often as any other or once less; every round in another order. Empty if there
/// are no items.
pub fn cycle(items: &[usize], count: usize, rng: &mut impl Rng) -> Vec<usize> {
    let mut chosen = Vec::with_capacity(count);
    while !items.is_empty() && chosen.len() < count {
        let mut round = items.to_vec();
        round.shuffle(rng);
        round.truncate(count - chosen.len());
        chosen.append(&mut round);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn occurrences(chosen: &[usize], items: &[usize]) -> Vec<usize> {
        items.iter().map(|item| chosen.iter().filter(|c| *c == item).count()).collect()
    }

    /// Photographs, then rendered images.
    fn real_and_synthetic(real: usize, synthetic: usize) -> Vec<Kind> {
        (0..real + synthetic).map(|i| Kind { synthetic: i >= real, hard: false }).collect()
    }

    proptest! {
        #[test]
        fn shares_are_exact_and_nobody_is_preferred(
            first in 0_usize..40, second in 0_usize..40, share in 0.0..=1.0_f64,
            size in 0_usize..300, seed: u64,
        ) {
            let a: Vec<usize> = (0..first).collect();
            let b: Vec<usize> = (first..first + second).collect();
            let kinds = real_and_synthetic(first, second);
            let mixture = Mixture { synthetic: Some(share), hard: None };
            let draw = || mixture.epoch(&kinds, size, &mut ChaCha8Rng::seed_from_u64(seed));
            let chosen = draw();
            prop_assert_eq!(&chosen, &draw());
            let empty = first + second == 0;
            prop_assert_eq!(chosen.len(), if empty { 0 } else { size });
            let of_second = chosen.iter().filter(|i| **i >= first).count();
            prop_assert_eq!(counts(first, second, share, size).1, of_second);
            if first > 0 && second > 0 {
                prop_assert!((of_second as f64 - share * size as f64).abs() <= 0.5 + 1e-9);
            } else if second == 0 {
                prop_assert_eq!(of_second, 0);
            }
            for list in [&a, &b] {
                let times = occurrences(&chosen, list);
                let (least, most) = (times.iter().min(), times.iter().max());
                prop_assert!(most.copied().unwrap_or(0) - least.copied().unwrap_or(0) <= 1);
            }
        }

        #[test]
        fn an_epoch_has_both_shares(
            kinds in proptest::collection::vec((any::<bool>(), any::<bool>()), 1..80),
            synthetic in 0.0..=1.0_f64, hard in 0.0..=1.0_f64, size in 1_usize..400, seed: u64,
        ) {
            let kinds: Vec<Kind> =
                kinds.into_iter().map(|(synthetic, hard)| Kind { synthetic, hard }).collect();
            let mixture = Mixture { synthetic: Some(synthetic), hard: Some(hard) };
            let chosen = mixture.epoch(&kinds, size, &mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert_eq!(chosen.len(), size);
            let of = |synthetic: bool, hard: bool| {
                let kind = Kind { synthetic, hard };
                let there = kinds.contains(&kind);
                (there, chosen.iter().filter(|i| kinds[**i] == kind).count() as f64)
            };
            let all = [of(false, false), of(false, true), of(true, false), of(true, true)];
            if all.iter().all(|(there, _)| *there) {
                let rendered = all[2].1 + all[3].1;
                prop_assert!((rendered - synthetic * size as f64).abs() <= 0.5 + 1e-9);
                prop_assert!((all[3].1 - hard * rendered).abs() <= 0.5 + 1e-9);
            }
        }
    }

    #[test]
    fn the_mixtures_of_the_plan() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut epoch = |real: usize, synthetic: usize, share: f64, size: usize| {
            let mixture = Mixture { synthetic: Some(share), hard: None };
            mixture.epoch(&real_and_synthetic(real, synthetic), size, &mut rng)
        };
        let chosen = epoch(10, 990, 0.2, 1000);
        assert_eq!(chosen.iter().filter(|i| **i < 10).count(), 800);
        let real: Vec<usize> = (0..10).collect();
        assert_eq!(occurrences(&chosen, &real), [80; 10]);
        assert_eq!(epoch(0, 990, 0.2, 50).len(), 50);
        assert_eq!(epoch(10, 0, 1.0, 50).len(), 50);
        assert_eq!(epoch(0, 0, 0.2, 50), [] as [usize; 0]);
    }

    #[test]
    fn a_cycle_takes_each_as_often_as_any_other_in_another_order_each_time() {
        let items: Vec<usize> = (100..150).collect();
        let chosen = cycle(&items, 120, &mut ChaCha8Rng::seed_from_u64(1));
        let (first, second) = (&chosen[..50], &chosen[50..100]);
        assert_eq!(occurrences(first, &items), [1; 50]);
        assert_eq!(occurrences(second, &items), [1; 50]);
        assert_ne!(first, second);
        assert!(occurrences(&chosen[100..], &items).iter().all(|times| *times <= 1));
        assert_eq!(chosen.len(), 120);
        assert_eq!(cycle(&[], 5, &mut ChaCha8Rng::seed_from_u64(1)), [] as [usize; 0]);
    }

    #[test]
    fn without_shares_everything_is_taken_as_it_comes() {
        let kinds = [Kind { synthetic: true, hard: false }, Kind::default(), Kind::default()];
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut chosen = Mixture::default().epoch(&kinds, 6, &mut rng);
        chosen.sort_unstable();
        assert_eq!(chosen, [0, 0, 1, 1, 2, 2]);
        let wrong = Mixture { hard: Some(1.5), ..Mixture::default() };
        assert!(wrong.problem().unwrap().contains("hard images is 1.5"));
        assert_eq!(Mixture { hard: Some(0.7), synthetic: Some(0.2) }.problem(), None);
    }
}
