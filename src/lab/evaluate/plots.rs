//! What people would rather look at: is 70 % right in 70 % of cases, and how do the answers spread.

use super::super::plot::{Kind, Plot, Series};
use super::super::scores::{Bin, Scored};

/// Columns of the histogram.
const COLUMNS: usize = 20;

/// The reliability diagram; with no answers, only its diagonal.
pub fn reliability(bins: &[Bin]) -> Plot {
    let images = bins.iter().map(|bin| bin.images).sum::<u64>().max(1) as f64;
    let share = |bin: &Bin| ((bin.low + bin.high) / 2.0, bin.images as f64 / images);
    let observed = bins.iter().filter_map(|bin| Some((bin.predicted?, bin.observed?)));
    plot(
        "Reliability",
        "mean probability of roadwork",
        "share that shows roadwork",
        vec![
            series("answers in the bin", Kind::Bars, bins.iter().map(share).collect()),
            series("perfectly calibrated", Kind::Line, vec![(0.0, 0.0), (1.0, 1.0)]),
            series("observed", Kind::Line, observed.clone().collect()),
            series("observed, by bin", Kind::Dots, observed.collect()),
        ],
    )
}

/// How the probabilities spread, by what is true.
pub fn histogram(scored: &[Scored]) -> Plot {
    let columns = |truth: bool| -> Vec<(f64, f64)> {
        let mut counts = [0.0; COLUMNS];
        for scored in scored.iter().filter(|scored| scored.truth == truth) {
            let index = (scored.probability * COLUMNS as f64) as usize;
            counts[index.min(COLUMNS - 1)] += 1.0;
        }
        let middle = |index: usize| (index as f64 + 0.5) / COLUMNS as f64;
        counts.iter().enumerate().map(|(index, count)| (middle(index), *count)).collect()
    };
    plot(
        "Answers by truth",
        "probability of roadwork",
        "images",
        vec![
            series("no roadwork", Kind::Bars, columns(false)),
            series("roadwork", Kind::Bars, columns(true)),
        ],
    )
}

/// Without the series that have nothing to show.
fn plot(title: &str, x: &str, y: &str, mut series: Vec<Series>) -> Plot {
    series.retain(|series| !series.points.is_empty());
    Plot { title: title.to_owned(), x: x.to_owned(), y: y.to_owned(), series }
}

fn series(name: &str, kind: Kind, points: Vec<(f64, f64)>) -> Series {
    Series { name: name.to_owned(), kind, points }
}
