//! k-center: rows that leave no row far from all of them. Pure.
//!
//! Greedy, farthest first (Gonzalez 1985; Sener and Savarese 2018 for active learning): no row is
//! farther from its nearest center than twice what the best choice of centers could achieve.

use rayon::prelude::*;

/// Chooses `count` of the rows: the first one, or, where rows are known already, the one farthest from
/// those; then always the one that is farthest from all chosen and known. Of equals the earlier.
///
/// The rows have length 1; the distance is 1 minus the cosine similarity. Returned with each choice is
/// its distance when it was chosen.
pub fn farthest_first(
    rows: &[f32],
    known: &[f32],
    width: usize,
    count: usize,
) -> Vec<(usize, Option<f64>)> {
    let total = rows.len().checked_div(width).unwrap_or(0);
    let row = |index: usize| &rows[index * width..][..width];
    let mut nearest = vec![f32::INFINITY; total];
    nearest.par_iter_mut().enumerate().for_each(|(index, nearest)| {
        for known in known.chunks_exact(width) {
            *nearest = nearest.min(distance(row(index), known));
        }
    });
    let mut chosen: Vec<(usize, Option<f64>)> = Vec::with_capacity(count.min(total));
    while chosen.len() < count.min(total) {
        let mut next = 0;
        for index in 1..total {
            if nearest[index] > nearest[next] {
                next = index;
            }
        }
        let far = nearest[next];
        chosen.push((next, far.is_finite().then(|| f64::from(far))));
        nearest.par_iter_mut().enumerate().for_each(|(index, nearest)| {
            *nearest = nearest.min(distance(row(index), row(next)));
        });
        // Below every distance, so it is not chosen again, even where all rows are alike.
        nearest[next] = f32::NEG_INFINITY;
    }
    chosen
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    // Never below zero, which rounding could do.
    (1.0 - a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>()).max(0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn circle(degrees: &[f32]) -> Vec<f32> {
        degrees.iter().flat_map(|d| [d.to_radians().cos(), d.to_radians().sin()]).collect()
    }

    fn indices(chosen: &[(usize, Option<f64>)]) -> Vec<usize> {
        chosen.iter().map(|(index, _)| *index).collect()
    }

    #[test]
    fn farthest_first_then_between() {
        let rows = circle(&[0.0, 10.0, 80.0, 45.0, 90.0]);
        let chosen = farthest_first(&rows, &[], 2, 9);
        assert_eq!(indices(&chosen), [0, 4, 3, 1, 2]);
        assert_eq!(chosen[0].1, None);
        assert!((chosen[1].1.unwrap() - 1.0).abs() < 1e-6);
        let chosen = farthest_first(&rows, &circle(&[0.0]), 2, 2);
        assert_eq!(indices(&chosen), [4, 3]);
        assert_eq!(farthest_first(&[], &[], 2, 3), []);
        assert_eq!(farthest_first(&rows, &[], 2, 0), []);
    }

    #[test]
    fn equal_rows_are_each_chosen_once() {
        let chosen = farthest_first(&circle(&[5.0; 4]), &[], 2, 4);
        let mut indices = indices(&chosen);
        indices.sort_unstable();
        assert_eq!(indices, [0, 1, 2, 3]);
    }

    proptest! {
        #[test]
        fn every_row_is_as_near_to_a_center_as_the_next_choice_would_be(
            degrees in proptest::collection::vec(0.0..360.0_f32, 2..40), count in 1_usize..10,
        ) {
            let rows = circle(&degrees);
            let chosen = farthest_first(&rows, &[], 2, count);
            prop_assert_eq!(chosen.len(), count.min(degrees.len()));
            let distances: Vec<_> = chosen.iter().filter_map(|(_, d)| *d).collect();
            prop_assert!(distances.windows(2).all(|pair| pair[1] <= pair[0] + 1e-6));
            if let Some(last) = distances.last() {
                for row in rows.chunks_exact(2) {
                    let near = chosen.iter().map(|(c, _)| distance(row, &rows[c * 2..][..2]));
                    prop_assert!(near.fold(f32::INFINITY, f32::min) as f64 <= last + 1e-5);
                }
            }
        }
    }
}
