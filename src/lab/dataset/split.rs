//! Splits: which images are trained on and which are measured on. Pure.
//!
//! Stratified: each part has its share of every stratum (label and origin). Group-aware: images of
//! one group are in one part. Groups are placed first, the largest first, each where most is missing of
//! what it holds; single images then fill every part exactly, as far as the groups left room.

use std::collections::BTreeMap;

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

/// Divides images into parts of these shares: for each part, the indices in ascending order.
///
/// `strata` gives the stratum of each image, `groups` what must stay together: lists that cover each
/// image once. The same seed gives the same parts.
///
/// Without groups of several images, each part has its share of each stratum to within one image.
///
/// # Errors
/// If the shares are not from 0 to 1 or do not add up to 1.
pub fn split(
    strata: &[usize],
    groups: &[Vec<usize>],
    shares: &[f64],
    seed: u64,
) -> anyhow::Result<Vec<Vec<usize>>> {
    check(shares)?;
    let kinds = strata.iter().max().map_or(0, |most| most + 1);
    let mut totals = vec![0_usize; kinds];
    strata.iter().for_each(|stratum| totals[*stratum] += 1);
    let targets: Vec<Vec<usize>> = totals.iter().map(|n| portions(*n, shares)).collect();
    // What each part still lacks of each stratum; below zero if a group was too much.
    let mut lacks: Vec<Vec<i64>> = (0..shares.len())
        .map(|part| targets.iter().map(|target| target[part] as i64).collect())
        .collect();
    let mut parts = vec![Vec::new(); shares.len()];
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<&Vec<usize>> = groups.iter().filter(|group| group.len() > 1).collect();
    order.shuffle(&mut rng);
    order.sort_by_key(|group| std::cmp::Reverse(group.len()));
    for group in order {
        let part = neediest(&lacks, group, strata, shares);
        group.iter().for_each(|image| lacks[part][strata[*image]] -= 1);
        parts[part].extend(group);
    }
    let mut singles = BTreeMap::<usize, Vec<usize>>::new();
    for group in groups.iter().filter(|group| group.len() == 1) {
        singles.entry(strata[group[0]]).or_default().push(group[0]);
    }
    for (stratum, mut images) in singles {
        images.shuffle(&mut rng);
        let open: Vec<f64> = lacks.iter().map(|lacks| lacks[stratum].max(0) as f64).collect();
        let all: f64 = open.iter().sum();
        let wanted: Vec<f64> = open.iter().map(|n| if all > 0.0 { n / all } else { 0.0 }).collect();
        let wanted = if all > 0.0 { &wanted } else { shares };
        for (part, count) in portions(images.len(), wanted).into_iter().enumerate() {
            parts[part].extend(images.drain(..count));
        }
    }
    parts.iter_mut().for_each(|part| part.sort_unstable());
    Ok(parts)
}

fn check(shares: &[f64]) -> anyhow::Result<()> {
    let sum: f64 = shares.iter().sum();
    let is_share = |share: &f64| (0.0..=1.0).contains(share);
    anyhow::ensure!(
        shares.iter().all(is_share) && (sum - 1.0).abs() < 1e-6,
        "the shares {shares:?} must each be from 0 to 1, and 1 together"
    );
    Ok(())
}

/// The part that lacks most of what a group holds, in proportion to its share.
fn neediest(lacks: &[Vec<i64>], group: &[usize], strata: &[usize], shares: &[f64]) -> usize {
    let need = |part: usize| -> f64 {
        let of_kind = |image: &usize| lacks[part][strata[*image]] as f64;
        group.iter().map(of_kind).sum()
    };
    let parts = (0..shares.len()).filter(|part| shares[*part] > 0.0);
    // Of equals the first.
    parts.rev().max_by(|a, b| need(*a).total_cmp(&need(*b))).unwrap_or(0)
}

/// `count` divided in these shares, each rounded up or down (largest remainders first).
fn portions(count: usize, shares: &[f64]) -> Vec<usize> {
    let exact: Vec<f64> = shares.iter().map(|share| share * count as f64).collect();
    // A share that rounding put just below a whole number is that number.
    let mut whole: Vec<usize> = exact.iter().map(|n| (n + 1e-9).floor() as usize).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    let rest = |part: &usize| exact[*part] - whole[*part] as f64;
    order.sort_by(|a, b| rest(b).total_cmp(&rest(a)));
    let missing = count.saturating_sub(whole.iter().sum());
    order.iter().cycle().take(missing).for_each(|part| whole[*part] += 1);
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn singles(count: usize) -> Vec<Vec<usize>> {
        (0..count).map(|index| vec![index]).collect()
    }

    /// Images by a number that stands for their group.
    fn grouped(keys: &[usize]) -> Vec<Vec<usize>> {
        let mut groups = BTreeMap::<usize, Vec<usize>>::new();
        keys.iter().enumerate().for_each(|(i, key)| groups.entry(*key).or_default().push(i));
        groups.into_values().collect()
    }

    fn in_stratum(part: &[usize], strata: &[usize], stratum: usize) -> usize {
        part.iter().filter(|image| strata[**image] == stratum).count()
    }

    proptest! {
        #[test]
        fn without_groups_every_stratum_is_divided_to_within_one(
            strata in proptest::collection::vec(0_usize..4, 0..200),
            weights in proptest::collection::vec(0_u32..10, 1..4), seed: u64,
        ) {
            prop_assume!(weights.iter().sum::<u32>() > 0);
            let sum: u32 = weights.iter().sum();
            let shares: Vec<f64> =
                weights.iter().map(|w| f64::from(*w) / f64::from(sum)).collect();
            let parts = split(&strata, &singles(strata.len()), &shares, seed).unwrap();
            for stratum in 0..4 {
                let total = strata.iter().filter(|s| **s == stratum).count() as f64;
                for (part, share) in parts.iter().zip(&shares) {
                    let found = in_stratum(part, &strata, stratum) as f64;
                    prop_assert!((found - share * total).abs() < 1.0 + 1e-6);
                }
            }
        }

        #[test]
        fn every_image_is_in_one_part_and_no_group_in_two(
            images in proptest::collection::vec((0_usize..3, 0_usize..40), 1..200), seed: u64,
        ) {
            let (strata, keys): (Vec<_>, Vec<_>) = images.into_iter().unzip();
            let groups = grouped(&keys);
            let draw = || split(&strata, &groups, &[0.7, 0.2, 0.1], seed).unwrap();
            let parts = draw();
            prop_assert_eq!(&parts, &draw());
            let mut all = parts.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..strata.len()).collect::<Vec<_>>());
            for group in &groups {
                let holders = parts.iter().filter(|part| part.contains(&group[0])).collect::<Vec<_>>();
                prop_assert!(group.iter().all(|image| holders[0].contains(image)));
            }
        }

        #[test]
        fn groups_cost_the_shares_no_more_than_the_largest_of_them(
            sizes in proptest::collection::vec(1_usize..8, 1..60), seed: u64,
        ) {
            let keys: Vec<usize> =
                sizes.iter().enumerate().flat_map(|(key, n)| std::iter::repeat_n(key, *n)).collect();
            let strata = vec![0; keys.len()];
            let shares = [0.5, 0.3, 0.2];
            let parts = split(&strata, &grouped(&keys), &shares, seed).unwrap();
            let most = *sizes.iter().max().unwrap() as f64;
            for (part, share) in parts.iter().zip(shares) {
                let off = part.len() as f64 - share * keys.len() as f64;
                prop_assert!(off < most + 1.0 && off > -2.0 * most - 1.0, "{} of {}", off, most);
            }
        }
    }

    #[test]
    fn seeds_differ_and_a_share_of_nothing_gets_nothing() {
        let strata = vec![0; 50];
        let draw = |seed| split(&strata, &singles(50), &[0.8, 0.0, 0.2], seed).unwrap();
        assert_ne!(draw(1), draw(2));
        let lengths: Vec<_> = draw(1).iter().map(Vec::len).collect();
        assert_eq!(lengths, [40, 0, 10]);
        for wrong in [&[0.5, 0.4][..], &[1.5, -0.5], &[f64::NAN, 1.0], &[]] {
            assert!(split(&strata, &singles(50), wrong, 0).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn groups_of_both_classes_are_balanced() {
        // Ten drives of ten images; the first five mostly with roadwork.
        let keys: Vec<usize> = (0..100).map(|i| i / 10).collect();
        let strata: Vec<usize> =
            (0..100).map(|i| usize::from(i % 10 < if i < 50 { 8 } else { 2 })).collect();
        let parts = split(&strata, &grouped(&keys), &[0.6, 0.2, 0.2], 3).unwrap();
        let lengths: Vec<_> = parts.iter().map(Vec::len).collect();
        assert_eq!(lengths, [60, 20, 20]);
        assert_eq!(in_stratum(&parts[1], &strata, 1), 10);
        assert_eq!(in_stratum(&parts[2], &strata, 1), 10);
    }
}
