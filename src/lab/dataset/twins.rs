//! Near-duplicates: pairs of images whose features point the same way.
//!
//! Every pair is looked at, block by block, so the outcome is exact: two images are near-duplicates if
//! the cosine of their features is at least the threshold. That is a similarity: 1 for the same
//! direction. (Tools that speak of distances mean 1 minus that.)
//!
//! Memory: a normalised copy of the features and one block of products, 64 MiB.

use anyhow::Context as _;
use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::Picture;
use crate::lab::features::Features;

/// Rows of a block.
const ROWS: usize = 1024;
/// Columns of a block.
const COLUMNS: usize = 16 * 1024;
/// What rounding takes from the cosine of a direction with itself.
const ROUNDING: f32 = 1e-5;

/// Calls `pair` for every pair of near-duplicates, the smaller index first, in a fixed order.
/// `progress` is told how many rows are done.
///
/// # Errors
/// If the threshold is not above 0 and at most 1, or the features of an image are all zero.
pub fn near_duplicates(
    features: &Features,
    threshold: f64,
    pair: &mut dyn FnMut(usize, usize),
    progress: &dyn Fn(u64),
) -> anyhow::Result<()> {
    anyhow::ensure!(
        threshold > 0.0 && threshold <= 1.0,
        "the threshold {threshold} is no cosine similarity above 0 and at most 1"
    );
    let least = threshold as f32 - ROUNDING;
    let count = features.len();
    let rows = normalized(features)?;
    let rows = Tensor::from_vec(rows, (count, features.width), &Device::Cpu)?;
    for start in (0..count).step_by(ROWS) {
        let height = ROWS.min(count - start);
        let block = rows.narrow(0, start, height)?;
        for left in (start..count).step_by(COLUMNS) {
            let width = COLUMNS.min(count - left);
            let others = rows.narrow(0, left, width)?.t()?;
            let products: Vec<f32> = block.matmul(&others)?.flatten_all()?.to_vec1()?;
            let hits: Vec<(usize, usize)> = products
                .par_chunks(width)
                .enumerate()
                .flat_map_iter(|(row, line)| {
                    let row = start + row;
                    let near = line.iter().enumerate().filter(move |(_, cosine)| **cosine >= least);
                    near.map(move |(column, _)| (row, left + column)).filter(|(a, b)| a < b)
                })
                .collect();
            hits.into_iter().for_each(|(a, b)| pair(a, b));
        }
        progress((start + height) as u64);
    }
    Ok(())
}

/// Checks that each of these pictures' features have a direction, without which nothing is like them.
///
/// # Errors
/// If the features of a picture are all zero: the message names it.
pub fn ensure_directions(features: &Features, pictures: &[&Picture]) -> anyhow::Result<()> {
    for (index, picture) in pictures.iter().enumerate() {
        let is_zero = features.row(index).iter().all(|value| *value == 0.0);
        anyhow::ensure!(
            !is_zero,
            "the features of image {} are all zero: they have no direction",
            picture.id
        );
    }
    Ok(())
}

/// The rows, each of length 1.
///
/// # Errors
/// If one is all zero; the message has the image's hash. Names are known to [`ensure_directions`].
pub fn normalized(features: &Features) -> anyhow::Result<Vec<f32>> {
    let mut values = Vec::with_capacity(features.values.len());
    for index in 0..features.len() {
        let row = features.row(index);
        let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let scale = (length > 0.0).then(|| 1.0 / length);
        let scale = scale.with_context(|| {
            let hash = &features.digests[index];
            format!(
                "the features of the image of SHA-256 {hash} are all zero: they have no direction"
            )
        })?;
        values.extend(row.iter().map(|v| (f64::from(*v) * scale) as f32));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    fn features(rows: &[Vec<f32>]) -> Features {
        Features {
            width: rows.first().map_or(0, Vec::len),
            values: rows.concat(),
            digests: (0..rows.len()).map(|row| format!("hash{row}")).collect(),
        }
    }

    fn pairs(features: &Features, threshold: f64) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        near_duplicates(features, threshold, &mut |a, b| found.push((a, b)), &|_| {}).unwrap();
        found.sort_unstable();
        found
    }

    #[test]
    fn directions_count_and_lengths_do_not() {
        let rows = [vec![1.0, 0.0], vec![7.0, 0.0], vec![1.0, 0.1], vec![-1.0, 0.0]];
        // The cosine of rows 0 and 2 is 1 / sqrt(1.01) = 0.99504.
        assert_eq!(pairs(&features(&rows), 1.0), [(0, 1)]);
        assert_eq!(pairs(&features(&rows), 0.9951), [(0, 1)]);
        assert_eq!(pairs(&features(&rows), 0.995), [(0, 1), (0, 2), (1, 2)]);
    }

    #[test]
    fn every_block_is_compared_with_every_other() {
        let count = ROWS + COLUMNS + 100;
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut rows: Vec<Vec<f32>> =
            (0..count).map(|_| (0..32).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
        let mut planted = vec![(0, count - 1), (5, ROWS), (ROWS - 1, ROWS + COLUMNS), (7, 8)];
        for (a, b) in &planted {
            rows[*b] = rows[*a].clone();
        }
        planted.sort_unstable();
        assert_eq!(pairs(&features(&rows), 0.999), planted);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let refused = |rows: &[Vec<f32>], threshold| {
            near_duplicates(&features(rows), threshold, &mut |_, _| {}, &|_| {})
                .unwrap_err()
                .to_string()
        };
        assert!(refused(&[vec![1.0], vec![0.0]], 0.9).contains("SHA-256 hash1 are all zero"));
        let pictures = ["good.jpg", "dark.jpg"].map(|id| Picture::file(id.into(), id.into()));
        let pictures: Vec<&Picture> = pictures.iter().collect();
        let error = ensure_directions(&features(&[vec![1.0], vec![0.0]]), &pictures).unwrap_err();
        assert!(error.to_string().contains("image dark.jpg are all zero"), "{error}");
        ensure_directions(&features(&[vec![1.0], vec![-1.0]]), &pictures).unwrap();
        for threshold in [0.0, 1.1, -1.0, f64::NAN] {
            assert!(refused(&[vec![1.0]], threshold).contains("no cosine similarity"));
        }
        assert_eq!(pairs(&features(&[]), 0.9), []);
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            rows in proptest::collection::vec(proptest::collection::vec(-1.0_f32..1.0, 3), 1..40),
            threshold in 0.1..1.0_f64,
        ) {
            let rows: Vec<Vec<f32>> =
                rows.into_iter().map(|mut row| { row.push(0.5); row }).collect();
            let cosine = |a: &[f32], b: &[f32]| {
                let dot = |a: &[f32], b: &[f32]| -> f64 {
                    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
                };
                dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
            };
            let found = pairs(&features(&rows), threshold);
            for a in 0..rows.len() {
                for b in a + 1..rows.len() {
                    let cosine = cosine(&rows[a], &rows[b]);
                    if (cosine - threshold).abs() > 1e-4 {
                        prop_assert_eq!(found.contains(&(a, b)), cosine > threshold);
                    }
                }
            }
        }
    }
}
