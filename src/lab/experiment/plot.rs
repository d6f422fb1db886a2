//! Accuracy against cost.

use super::Experiment;
use crate::lab::plot::{Kind, Plot, Series};
use crate::lab::scores::Figure;

/// A dot for each cascade, with the interval of its accuracy.
pub fn accuracy_over_cost(experiment: &Experiment) -> Plot {
    let mut series = Vec::new();
    for cascade in &experiment.cascades {
        let (name, x) = (cascade.name.clone(), cascade.ms_per_image);
        if let Some(limits) = cascade.intervals.get(&Figure::Accuracy) {
            let points = vec![(x, limits.low), (x, limits.high)];
            series.push(Series { name: format!("{name}, 95 %"), kind: Kind::Line, points });
        }
        let points = vec![(x, cascade.figures.accuracy)];
        series.push(Series { name, kind: Kind::Dots, points });
    }
    Plot {
        title: "Accuracy against cost".to_owned(),
        x: "milliseconds of the engine for an image".to_owned(),
        y: "accuracy".to_owned(),
        series,
    }
}
