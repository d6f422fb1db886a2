//! Active learning: which unlabelled images are worth a person's time.
//!
//! First how much there is to learn from each image alone ([`informative`]), then, among the most
//! informative, images that differ from each other and from what is labelled already ([`centers`]).

pub mod centers;
pub mod informative;

use serde::Serialize;

use super::dataset::twins::normalized;
use super::features::Features;
use centers::farthest_first;
use informative::{By, Informative};

/// An image that was chosen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// Its index.
    #[serde(skip)]
    pub index: usize,
    /// What the stages made of it.
    #[serde(flatten)]
    pub informative: Informative,
    /// Its place when all are ordered by what there is to learn, from 1.
    pub informative_rank: usize,
    /// How far it was from all that was chosen before it and from all that is labelled, when its turn
    /// came: 1 minus the cosine similarity. None for the first, if nothing is labelled.
    pub distance: Option<f64>,
    /// The reason in words.
    pub why: String,
}

/// How to choose.
#[derive(Clone, Copy, Debug)]
pub struct SelectSpec {
    /// How many images.
    pub count: usize,
    /// What makes an image informative.
    pub by: By,
    /// Chosen are images among the `pool × count` most informative.
    pub pool: usize,
}

/// The candidates: indices of the images that may be chosen, the most informative first. Of equals the
/// earlier is first.
pub fn candidates(pool: &[Option<Informative>], spec: &SelectSpec) -> Vec<usize> {
    let value = |index: &usize| pool[*index].as_ref().map_or(f64::MIN, |i| i.value(spec.by));
    let mut order: Vec<usize> = (0..pool.len()).filter(|i| pool[*i].is_some()).collect();
    order.sort_by(|a, b| value(b).total_cmp(&value(a)));
    order.truncate(spec.count.saturating_mul(spec.pool));
    order
}

/// Chooses among the candidates, whose `features` these are, row by row. `labelled` are the features of
/// what people have labelled already.
///
/// # Errors
/// If the features of an image have no direction, or the two sets of features are not of one model.
pub fn choose(
    pool: &[Option<Informative>],
    candidates: &[usize],
    features: &Features,
    labelled: Option<&Features>,
    spec: &SelectSpec,
) -> anyhow::Result<Vec<Choice>> {
    let width = features.width;
    let known = match labelled.filter(|labelled| !labelled.is_empty()) {
        Some(labelled) => {
            anyhow::ensure!(labelled.width == width, "the features are not of one model");
            normalized(labelled)?
        }
        None => Vec::new(),
    };
    let chosen = farthest_first(&normalized(features)?, &known, width, spec.count);
    let choices = chosen.into_iter().filter_map(|(candidate, distance)| {
        let index = candidates[candidate];
        let informative = pool[index].clone()?;
        let rank = candidate + 1;
        let why = match distance {
            None => format!("the most informative by {}", spec.by.as_str()),
            Some(far) => format!(
                "number {rank} by {}, at distance {far:.4} from all before it",
                spec.by.as_str()
            ),
        };
        Some(Choice { index, informative, informative_rank: rank, distance, why })
    });
    Ok(choices.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(probabilities: &[f64]) -> Vec<Option<Informative>> {
        let one = |p: &f64| Informative::new(vec![("only".into(), *p)]);
        probabilities.iter().map(one).collect()
    }

    fn spec(count: usize, pool: usize) -> SelectSpec {
        SelectSpec { count, by: By::Uncertainty, pool }
    }

    fn features(rows: &[[f32; 2]]) -> Features {
        let digests = vec![String::new(); rows.len()];
        Features { width: 2, values: rows.concat(), digests }
    }

    #[test]
    fn the_most_informative_come_first_and_unanswered_ones_never() {
        let mut pool = pool(&[0.9, 0.5, 0.2, 0.45, 0.9]);
        assert_eq!(candidates(&pool, &spec(5, 1)), [1, 3, 2, 0, 4]);
        pool[1] = None;
        assert_eq!(candidates(&pool, &spec(1, 2)), [3, 2]);
    }

    #[test]
    fn among_the_candidates_the_different_win() {
        let pool = pool(&[0.5, 0.51, 0.55, 0.6, 0.99]);
        let spec = spec(2, 2);
        let candidates = candidates(&pool, &spec);
        assert_eq!(candidates, [0, 1, 2, 3]);
        let rows = features(&[[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.7, 0.7]]);
        let chosen = choose(&pool, &candidates, &rows, None, &spec).unwrap();
        let indices: Vec<_> = chosen.iter().map(|c| (c.index, c.informative_rank)).collect();
        assert_eq!(indices, [(0, 1), (2, 3)]);
        assert_eq!(chosen[0].distance, None);
        assert!((chosen[1].distance.unwrap() - 1.0).abs() < 1e-6);
        // Where something like the third is labelled, the first is what is new.
        let labelled = features(&[[0.0, 3.0]]);
        let chosen = choose(&pool, &candidates, &rows, Some(&labelled), &spec).unwrap();
        assert_eq!(chosen[0].index, 0);
        assert!(chosen[1].index == 3 && chosen[1].distance.unwrap() < 0.5, "{chosen:?}");
    }
}
