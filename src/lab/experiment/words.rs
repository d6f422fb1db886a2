//! What follows from a comparison, as a sentence.

use super::Pair;
use crate::lab::scores::Figure;

/// Which of the two is better and how sure that is, or that nothing can be said yet.
pub(super) fn conclusion(pair: &Pair, images: u64) -> String {
    let Pair { first, second, p_corrected: p, .. } = pair;
    let Some(found) = pair.differences.get(&Figure::Accuracy) else { return String::new() };
    let sign = if found.value < 0.0 { -1.0 } else { 1.0 };
    let points = |share: f64| format!("{:.1}", 100.0 * share);
    if pair.is_shown() {
        let (better, worse) = if found.value < 0.0 { (first, second) } else { (second, first) };
        let limits = [found.interval.low * sign, found.interval.high * sign];
        let (low, high) = (limits[0].min(limits[1]), limits[0].max(limits[1]));
        let ratio =
            if found.value < 0.0 { 1.0 / pair.cost_ratio.max(1e-9) } else { pair.cost_ratio };
        return format!(
            "{better} is more accurate than {worse} by {} points (95 % interval {} to {}; McNemar's \
             p {}), at {ratio:.2} times the time for an image.",
            points(found.value.abs()),
            points(low),
            points(high),
            p_value(*p),
        );
    }
    let (low, high) = (points(found.interval.low), points(found.interval.high));
    let asked = points(pair.difference_asked);
    let needed = match pair.images_needed {
        Some(needed) if needed > images => {
            format!("about {needed} images would be needed for a difference of {asked} points")
        }
        Some(_) => format!("one of {asked} points would have been seen with 80 % probability"),
        None => "name a difference above 0 to learn how many images it needs".to_owned(),
    };
    format!(
        "No difference in accuracy between {first} and {second} could be shown with {images} images \
         (95 % interval {low} to {high} points; McNemar's p {}): {needed}.",
        p_value(*p),
    )
}

fn p_value(p: f64) -> String {
    if p < 0.001 { "below 0.001".to_owned() } else { format!("= {p:.3}") }
}
