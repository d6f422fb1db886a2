//! Part A to fit, part B to test: drawn from a seed, each class in the same share, groups whole. Pure.

use std::collections::BTreeMap;

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

/// The images of either part, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// To fit the calibrations and to draw up the settings.
    pub fit: Vec<usize>,
    /// To test the settings; nothing else looks at them.
    pub test: Vec<usize>,
}

/// Draws the parts. A group goes with the class of most of its images.
pub fn split(labels: &[bool], groups: &[Option<String>], fit_share: f64, seed: u64) -> Parts {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut parts = Parts::default();
    for class in [false, true] {
        let mut units: Vec<Vec<usize>> = units(labels, groups, class);
        units.shuffle(&mut rng);
        let images: usize = units.iter().map(Vec::len).sum();
        let wanted = (fit_share * images as f64).round() as usize;
        let mut taken = 0;
        for unit in units {
            let part = if taken < wanted { &mut parts.fit } else { &mut parts.test };
            taken += unit.len();
            part.extend(unit);
        }
    }
    parts.fit.sort_unstable();
    parts.test.sort_unstable();
    parts
}

/// Images that must stay together, of those units that are mostly of this class.
fn units(labels: &[bool], groups: &[Option<String>], class: bool) -> Vec<Vec<usize>> {
    let (mut alone, mut together) = (Vec::new(), BTreeMap::<&str, Vec<usize>>::new());
    for image in 0..labels.len() {
        match groups.get(image).and_then(Option::as_deref) {
            Some(group) => together.entry(group).or_default().push(image),
            None => alone.push(vec![image]),
        }
    }
    let is_ours = |unit: &Vec<usize>| {
        let roadwork = unit.iter().filter(|image| labels[**image]).count();
        (2 * roadwork > unit.len()) == class
    };
    alone.into_iter().chain(together.into_values()).filter(is_ours).collect()
}

/// Deals images into folds, each class evenly.
pub fn folds(labels: &[bool], count: usize, seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut fold = vec![0; labels.len()];
    for class in [false, true] {
        let mut images: Vec<usize> = (0..labels.len()).filter(|i| labels[*i] == class).collect();
        images.shuffle(&mut rng);
        images.iter().enumerate().for_each(|(place, image)| fold[*image] = place % count.max(1));
    }
    fold
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_image_is_in_one_part_and_classes_and_groups_keep_their_shares(
            images in prop::collection::vec((any::<bool>(), prop::option::weighted(0.3, 0_u8..4)), 0..200),
            share in 0.1..0.9,
            seed in any::<u64>(),
        ) {
            let (labels, groups): (Vec<bool>, Vec<_>) =
                images.into_iter().map(|(l, g)| (l, g.map(|g| g.to_string()))).unzip();
            let parts = split(&labels, &groups, share, seed);
            let mut all = [parts.fit.clone(), parts.test.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());
            let of = |part: &[usize]| part.iter().filter_map(|i| groups[*i].clone()).collect::<std::collections::BTreeSet<_>>();
            prop_assert!(of(&parts.fit).is_disjoint(&of(&parts.test)));
            if groups.iter().all(Option::is_none) {
                for class in [false, true] {
                    let count = |part: &[usize]| part.iter().filter(|i| labels[**i] == class).count();
                    let (a, b) = (count(&parts.fit), count(&parts.test));
                    prop_assert_eq!(a, (share * (a + b) as f64).round() as usize);
                }
            }
            prop_assert_eq!(split(&labels, &groups, share, seed), parts);
        }

        #[test]
        fn folds_are_even(labels in prop::collection::vec(any::<bool>(), 10..100), seed in any::<u64>()) {
            let folds = folds(&labels, 5, seed);
            for class in [false, true] {
                let counts = (0..5).map(|f| (0..labels.len()).filter(|i| folds[*i] == f && labels[*i] == class).count());
                let counts: Vec<_> = counts.collect();
                prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
            }
        }
    }
}
