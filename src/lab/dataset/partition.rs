//! What belongs together in a data set: images of one group, identical ones, near-duplicates.

use std::collections::BTreeMap;

use super::Example;
use super::clusters::Clusters;
use super::split::split;
use super::twins::near_duplicates;
use crate::lab::features::Features;

/// The sets of images with the same bytes, by index; an image without a digest is in none.
pub fn identical(digests: &[Option<String>]) -> Vec<Vec<usize>> {
    let mut clusters = Clusters::new(digests.len());
    clusters.join_equal(digests.iter().map(Option::as_ref));
    clusters.into_lists().into_iter().filter(|list| list.len() > 1).collect()
}

/// The sets of images with the same bytes and different labels, by index.
pub fn contradictions(examples: &[Example], digests: &[Option<String>]) -> Vec<Vec<usize>> {
    let mut sets = identical(digests);
    sets.retain(|set| set.iter().any(|i| examples[*i].roadwork != examples[set[0]].roadwork));
    sets
}

/// How to divide a data set.
#[derive(Clone, Debug)]
pub struct SplitSpec {
    /// The shares of the parts.
    pub shares: Vec<f64>,
    /// Seed of everything random.
    pub seed: u64,
}

/// Divides a data set: for each part, the indices of its images in ascending order. `groups` says what
/// must stay together (see [`together`]).
///
/// # Errors
/// If the shares are wrong, or one of the parts would lack a class: nothing could be measured there.
pub fn divide(
    examples: &[Example],
    groups: &[Vec<usize>],
    spec: &SplitSpec,
) -> anyhow::Result<Vec<Vec<usize>>> {
    for roadwork in [true, false] {
        anyhow::ensure!(
            examples.iter().any(|e| e.roadwork == roadwork),
            "no image is labelled {}: a split needs both classes",
            class(roadwork)
        );
    }
    let mut numbers = BTreeMap::new();
    let strata: Vec<usize> = examples
        .iter()
        .map(|e| {
            let next = numbers.len();
            *numbers.entry((e.roadwork, e.picture.origin.as_deref())).or_insert(next)
        })
        .collect();
    let parts = split(&strata, groups, &spec.shares, spec.seed)?;
    for (part, share) in parts.iter().zip(&spec.shares).filter(|(_, share)| **share > 0.0) {
        for roadwork in [true, false] {
            anyhow::ensure!(
                part.iter().any(|i| examples[*i].roadwork == roadwork),
                "the part of {share} has {} images and none labelled {}: there are {} images in \
                 {} groups, too few",
                part.len(),
                class(roadwork),
                examples.len(),
                groups.len()
            );
        }
    }
    Ok(parts)
}

fn class(roadwork: bool) -> &'static str {
    if roadwork { "roadwork" } else { "not_roadwork" }
}

/// Near-duplicates: whose features, and from which cosine similarity on.
#[derive(Clone, Copy, Debug)]
pub struct Near<'a> {
    /// One row for each image.
    pub features: &'a Features,
    /// Least cosine similarity.
    pub threshold: f64,
}

/// Lists of images that no split may separate: of one group, identical, or near-duplicates, or joined by
/// a chain of such pairs. Every image is in one list.
///
/// # Errors
/// As [`near_duplicates`].
pub fn together(
    examples: &[Example],
    digests: &[Option<String>],
    near: Option<Near<'_>>,
    progress: &dyn Fn(u64),
) -> anyhow::Result<Vec<Vec<usize>>> {
    let mut clusters = Clusters::new(examples.len());
    clusters.join_equal(examples.iter().map(|e| e.picture.group.as_ref()));
    clusters.join_equal(digests.iter().map(Option::as_ref));
    if let Some(Near { features, threshold }) = near {
        near_duplicates(features, threshold, &mut |a, b| clusters.join(a, b), progress)?;
    }
    Ok(clusters.into_lists())
}

/// What deduplication found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Twins {
    /// Sets of images that say the same: near-duplicates of one label, or joined by a chain of them.
    pub sets: Vec<Vec<usize>>,
    /// Near-duplicates with different labels: one of the labels may be wrong. At most
    /// [`MOST_DOUBTFUL`] of them.
    pub doubtful: Vec<(usize, usize)>,
    /// Number of all such pairs.
    pub doubtful_pairs: u64,
}

/// Pairs that are listed.
pub const MOST_DOUBTFUL: usize = 1000;

impl Twins {
    /// The indices of the images to keep, in order: all but the later ones of each set.
    pub fn kept(&self, count: usize) -> Vec<usize> {
        let mut keep = vec![true; count];
        for set in &self.sets {
            set.iter().skip(1).for_each(|index| keep[*index] = false);
        }
        (0..count).filter(|index| keep[*index]).collect()
    }
}

/// Finds the images that others make superfluous.
///
/// # Errors
/// As [`near_duplicates`].
pub fn twins(
    examples: &[Example],
    near: Near<'_>,
    progress: &dyn Fn(u64),
) -> anyhow::Result<Twins> {
    let mut clusters = Clusters::new(examples.len());
    let mut twins = Twins::default();
    let mut pair = |a: usize, b: usize| {
        if examples[a].roadwork == examples[b].roadwork {
            clusters.join(a, b);
            return;
        }
        twins.doubtful_pairs += 1;
        if twins.doubtful.len() < MOST_DOUBTFUL {
            twins.doubtful.push((a, b));
        }
    };
    near_duplicates(near.features, near.threshold, &mut pair, progress)?;
    twins.sets = clusters.into_lists().into_iter().filter(|set| set.len() > 1).collect();
    Ok(twins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::dataset::Picture;

    fn examples(labels: &[bool]) -> Vec<Example> {
        let example = |(number, roadwork): (usize, &bool)| Example {
            picture: Picture::file(number.to_string(), number.to_string().into()),
            roadwork: *roadwork,
        };
        labels.iter().enumerate().map(example).collect()
    }

    fn digests(names: &[&str]) -> Vec<Option<String>> {
        names.iter().map(|name| (!name.is_empty()).then(|| (*name).to_owned())).collect()
    }

    /// Directions in a plane, in degrees.
    fn directions(degrees: &[f32]) -> Features {
        let values = degrees.iter().flat_map(|d| [d.to_radians().cos(), d.to_radians().sin()]);
        Features { width: 2, values: values.collect(), digests: vec![String::new(); degrees.len()] }
    }

    #[test]
    fn identical_images_with_different_labels_contradict_each_other() {
        let examples = examples(&[true, true, false, false, true]);
        let digests = digests(&["a", "b", "a", "", "b"]);
        assert_eq!(identical(&digests), [[0, 2], [1, 4]]);
        assert_eq!(contradictions(&examples, &digests), [[0, 2]]);
    }

    #[test]
    fn groups_bytes_and_directions_chain() {
        let mut examples = examples(&[true; 6]);
        examples[0].picture.group = Some("drive".into());
        examples[1].picture.group = Some("drive".into());
        let digests = digests(&["a", "b", "b", "c", "d", "e"]);
        let features = directions(&[0.0, 20.0, 40.0, 41.0, 60.0, 90.0]);
        let near = Near { features: &features, threshold: 0.999 };
        let lists = together(&examples, &digests, Some(near), &|_| {}).unwrap();
        assert_eq!(lists, [vec![0, 1, 2, 3], vec![4], vec![5]]);
    }

    #[test]
    fn a_twin_of_another_label_is_kept_and_told() {
        let examples = examples(&[true, true, false, false, true]);
        let features = directions(&[0.0, 1.0, 1.0, 45.0, 90.0]);
        let found =
            twins(&examples, Near { features: &features, threshold: 0.99 }, &|_| {}).unwrap();
        assert_eq!(found.sets, [[0, 1]]);
        assert_eq!((found.doubtful.as_slice(), found.doubtful_pairs), (&[(0, 2), (1, 2)][..], 2));
        assert_eq!(found.kept(5), [0, 2, 3, 4]);
    }

    #[test]
    fn a_part_without_a_class_is_refused() {
        let spec = |shares: &[f64]| SplitSpec { shares: shares.to_vec(), seed: 1 };
        let alone = |n: usize| (0..n).map(|i| vec![i]).collect::<Vec<_>>();
        let one_class = divide(&examples(&[true; 9]), &alone(9), &spec(&[0.5, 0.5]));
        assert!(one_class.unwrap_err().to_string().contains("labelled not_roadwork"));
        let few = examples(&[true, true, true, true, false]);
        let error = divide(&few, &alone(5), &spec(&[0.8, 0.2])).unwrap_err().to_string();
        assert!(error.contains("5 images in 5 groups"), "{error}");
        let enough = examples(&[true, false, true, false]);
        let parts = divide(&enough, &alone(4), &spec(&[0.5, 0.5])).unwrap();
        assert!(parts.iter().all(|part| part.len() == 2));
    }
}
