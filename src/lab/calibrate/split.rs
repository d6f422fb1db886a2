//! Part A to fit, part B to test: drawn from a seed, each class in the same share, groups whole. Pure.

use std::collections::BTreeMap;

use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::lab::dataset::clusters::Clusters;

/// The images of either part, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// To fit the calibrations and to draw up the settings.
    pub fit: Vec<usize>,
    /// To test the settings, one of each group; nothing else looks at them.
    pub test: Vec<usize>,
    /// What else part B's groups hold. Nothing looks at it: images of one group are not drawn on their
    /// own, and a test that counted them all would believe more than it saw.
    pub aside: Vec<usize>,
}

/// Draws the parts. A group goes with the class of most of its images, and is drawn as one thing
/// however large it is, as an image without a group.
pub fn split(labels: &[bool], groups: &[Option<String>], fit_share: f64, seed: u64) -> Parts {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut parts, mut tested) = (Parts::default(), Vec::new());
    for class in [false, true] {
        let mut units: Vec<Vec<usize>> = units(groups);
        units.retain(|unit| is_mostly(labels, unit) == class);
        units.shuffle(&mut rng);
        let wanted = (fit_share * units.len() as f64).round() as usize;
        tested.extend(units.split_off(wanted.min(units.len())));
        parts.fit.extend(units.into_iter().flatten());
    }
    for mut unit in tested {
        parts.test.push(unit.swap_remove(rng.random_range(0..unit.len())));
        parts.aside.extend(unit);
    }
    for part in [&mut parts.fit, &mut parts.test, &mut parts.aside] {
        part.sort_unstable();
    }
    parts
}

/// How many things are drawn: groups, and images without one.
pub fn count(groups: &[Option<String>]) -> usize {
    units(groups).len()
}

/// Images that must stay together; none of these is empty.
fn units(groups: &[Option<String>]) -> Vec<Vec<usize>> {
    let (mut alone, mut together) = (Vec::new(), BTreeMap::<&str, Vec<usize>>::new());
    for (image, group) in groups.iter().enumerate() {
        match group.as_deref() {
            Some(group) => together.entry(group).or_default().push(image),
            None => alone.push(vec![image]),
        }
    }
    alone.into_iter().chain(together.into_values()).collect()
}

/// Whether most images of a unit show roadwork.
fn is_mostly(labels: &[bool], unit: &[usize]) -> bool {
    let roadwork = unit.iter().filter(|image| labels[**image]).count();
    2 * roadwork > unit.len()
}

/// The groups, with equal files and whatever is grouped with either of them as one group: a file that
/// occurs twice was drawn once.
pub fn grouped(groups: &[Option<String>], digests: &[String]) -> Vec<Option<String>> {
    let mut clusters = Clusters::new(groups.len());
    clusters.join_equal(groups.iter().map(Option::as_deref));
    clusters.join_equal(digests.iter().map(|digest| Some(digest.as_str())));
    let mut grouped = vec![None; groups.len()];
    for images in clusters.into_lists() {
        if let [first, _, ..] = images[..] {
            for image in images {
                grouped[image] = Some(first.to_string());
            }
        }
    }
    grouped
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
            let mut all = [&parts.fit[..], &parts.test, &parts.aside].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());
            let of = |part: &[usize]| part.iter().filter_map(|i| groups[*i].clone()).collect::<std::collections::BTreeSet<_>>();
            prop_assert!(of(&parts.fit).is_disjoint(&of(&parts.test)));
            prop_assert!(of(&parts.aside).is_subset(&of(&parts.test)));
            let grouped = parts.test.iter().filter(|i| groups[**i].is_some()).count();
            prop_assert_eq!(grouped, of(&parts.test).len(), "one image of each group");
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
        fn every_group_is_as_likely_to_test_as_another(seed in any::<u64>()) {
            // One group of 90 images and 9 single ones: drawn by groups, part A is 3 of them.
            let groups: Vec<_> = (0..99).map(|i| (i < 90).then(|| "drive".to_owned())).collect();
            let parts = split(&[false; 99], &groups, 0.3, seed);
            let fitted = if parts.fit.contains(&0) { 92 } else { 3 };
            prop_assert_eq!((parts.fit.len(), parts.test.len()), (fitted, 7));
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

    #[test]
    fn equal_files_are_one_group() {
        let groups = ["a", "", "", "b", "", "a"].map(|g| (!g.is_empty()).then(|| g.to_owned()));
        let digests = ["1", "2", "1", "3", "4", "5"].map(str::to_owned);
        let found = grouped(&groups, &digests);
        let zero = Some("0".to_owned());
        assert_eq!(found, [zero.clone(), None, zero.clone(), None, None, zero]);
        assert_eq!((count(&groups), count(&found)), (5, 4));
    }
}
