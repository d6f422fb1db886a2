//! A part of a data set to look at for less time: drawn from a seed, each class in its share. Pure.

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use super::Example;

/// So many of the examples, in their order; all if there are no more. Of each class at least one, if
/// `count` is two or more. The first of a folder would all be of one class.
pub fn sample(examples: Vec<Example>, count: usize, seed: u64) -> Vec<Example> {
    if count >= examples.len() {
        return examples;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let [mut none, mut roadwork] = [false, true].map(|class| {
        let of = |index: &usize| examples[*index].roadwork == class;
        (0..examples.len()).filter(of).collect::<Vec<usize>>()
    });
    let share = roadwork.len() as f64 / examples.len() as f64;
    let mut wanted = (count as f64 * share).round() as usize;
    if count >= 2 && !none.is_empty() && !roadwork.is_empty() {
        wanted = wanted.clamp(1, count - 1);
    }
    none.shuffle(&mut rng);
    roadwork.shuffle(&mut rng);
    none.truncate(count - wanted.min(count));
    roadwork.truncate(wanted);
    let mut kept = vec![false; examples.len()];
    none.into_iter().chain(roadwork).for_each(|index| kept[index] = true);
    examples.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(example, _)| example).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Picture;
    use super::*;

    fn examples(none: usize, roadwork: usize) -> Vec<Example> {
        let one = |index: usize| {
            let picture = Picture::file(format!("{index:03}"), "absent".into());
            Example { picture, roadwork: index >= none }
        };
        (0..none + roadwork).map(one).collect()
    }

    #[test]
    fn both_classes_keep_their_shares() {
        let drawn = |count, seed| sample(examples(60, 30), count, seed);
        for (count, roadwork) in [(1, 0), (2, 1), (9, 3), (30, 10), (90, 30), (100, 30)] {
            let found = drawn(count, 1);
            assert_eq!(found.len(), count.min(90));
            assert_eq!(found.iter().filter(|e| e.roadwork).count(), roadwork, "{count}");
            assert!(found.is_sorted_by_key(|e| e.picture.id.clone()));
        }
        let ids = |seed| drawn(9, seed).into_iter().map(|e| e.picture.id).collect::<Vec<_>>();
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
        assert_eq!(sample(examples(100, 1), 5, 0).iter().filter(|e| e.roadwork).count(), 1);
        assert_eq!(sample(examples(9, 0), 5, 0).len(), 5);
    }
}
