//! Whether answers of 70 % are right in 70 % of cases: the reliability diagram, and the expected
//! calibration error that sums it up.

use serde::Serialize;

use super::figures::Scored;

/// How many bins there are unless told otherwise.
pub const BINS: usize = 15;

/// Answers by their probability of roadwork, in bins of equal width. A probability on the edge
/// between two bins belongs to the upper one, and 1 to the last.
#[derive(Clone, Debug)]
pub struct Reliability {
    cells: Vec<Cell>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    images: u64,
    roadwork: u64,
    probabilities: f64,
}

/// One bin of the diagram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Its lower edge.
    pub low: f64,
    /// Its upper edge.
    pub high: f64,
    /// Answers in it.
    pub images: u64,
    /// The mean of their probabilities; none if there are no answers.
    pub predicted: Option<f64>,
    /// The share of them that show roadwork; none if there are no answers.
    pub observed: Option<f64>,
}

impl Reliability {
    /// No answers yet, in `bins` bins, at least one.
    pub fn new(bins: usize) -> Self {
        Self { cells: vec![Cell::default(); bins.max(1)] }
    }

    /// Counts one answer.
    pub fn add(&mut self, scored: Scored) {
        let last = self.cells.len() - 1;
        let index = (scored.probability * self.cells.len() as f64).floor() as usize;
        let cell = &mut self.cells[index.min(last)];
        cell.images += 1;
        cell.roadwork += u64::from(scored.truth);
        cell.probabilities += scored.probability;
    }

    /// The bins, from 0 to 1.
    pub fn bins(&self) -> Vec<Bin> {
        let width = 1.0 / self.cells.len() as f64;
        let bin = |(index, cell): (usize, &Cell)| {
            let mean = |sum: f64| (cell.images > 0).then(|| sum / cell.images as f64);
            Bin {
                low: index as f64 * width,
                high: (index + 1) as f64 * width,
                images: cell.images,
                predicted: mean(cell.probabilities),
                observed: mean(cell.roadwork as f64),
            }
        };
        self.cells.iter().enumerate().map(bin).collect()
    }

    /// The expected calibration error: the distance between the mean probability of a bin and its
    /// share of roadwork, weighted by the answers in it; 0 if there are none.
    pub fn ece(&self) -> f64 {
        let images: u64 = self.cells.iter().map(|cell| cell.images).sum();
        let distances =
            self.cells.iter().map(|cell| (cell.probabilities - cell.roadwork as f64).abs());
        distances.sum::<f64>() / images.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reliability(bins: usize, scored: &[(bool, f64)]) -> Reliability {
        let mut reliability = Reliability::new(bins);
        for &(truth, probability) in scored {
            reliability.add(Scored { truth, probability });
        }
        reliability
    }

    #[test]
    fn edges_belong_to_the_upper_bin() {
        let found =
            reliability(4, &[(true, 0.0), (true, 0.25), (true, 0.5), (true, 0.99), (true, 1.0)]);
        let images: Vec<_> = found.bins().iter().map(|bin| bin.images).collect();
        assert_eq!(images, [1, 1, 1, 2]);
        assert_eq!((found.bins()[1].low, found.bins()[3].high), (0.25, 1.0));
    }

    #[test]
    fn the_error_is_the_weighted_distance() {
        // Two answers of 0.9, one right; two of 0.1, none roadwork: 0.5 * 0.4 + 0.5 * 0.1.
        let found = reliability(2, &[(true, 0.9), (false, 0.9), (false, 0.1), (false, 0.1)]);
        assert!((found.ece() - 0.25).abs() < 1e-12);
        let top = found.bins()[1];
        assert_eq!((top.predicted, top.observed), (Some(0.9), Some(0.5)));
    }

    #[test]
    fn nothing_has_no_error_and_no_means() {
        let empty = Reliability::new(0);
        assert_eq!((empty.ece(), empty.bins().len()), (0.0, 1));
        assert_eq!(empty.bins()[0].predicted, None);
    }
}
