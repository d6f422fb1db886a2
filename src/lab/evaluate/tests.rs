use std::time::Duration;

use super::super::dataset::Picture;
use super::super::scores::Totals;
use super::*;
use crate::prediction::{Probability, Rejection, Verdict};

fn example(id: &str, roadwork: bool, origin: &str) -> Example {
    let mut picture = Picture::file(id.to_owned(), id.into());
    picture.origin = Some(origin.to_owned());
    Example { picture, roadwork }
}

fn answer(probability: f32, stage: &str, ms: u64) -> Answer {
    let probability = Probability::new(probability).unwrap();
    let verdict = Verdict { probability, stage: stage.into(), degraded: None, trace: Vec::new() };
    Answer { outcome: Ok(verdict), took: Duration::from_millis(ms) }
}

/// Three of four answered are right; one is not answered.
fn sample() -> (Vec<Example>, Vec<Facets>, Answers) {
    let examples = vec![
        example("a", true, "real"),
        example("b", false, "real"),
        example("c", true, "synthetic"),
        example("d", false, "synthetic"),
        example("e", true, "real"),
    ];
    let facets = examples.iter().map(|e| vec![("origin", e.picture.origin.clone().unwrap())]);
    let refused = Answer { outcome: Err(Rejection::Deadline), took: Duration::ZERO };
    let answers = vec![
        answer(0.9, "screen", 10),
        answer(0.2, "screen", 20),
        answer(0.4, "confirm", 30),
        answer(0.1, "screen", 40),
        refused,
    ];
    let engine = Duration::from_secs(2);
    let facets = facets.collect();
    (examples, facets, Answers { answers, engine, decode: Duration::ZERO })
}

#[test]
fn a_report_counts_what_was_answered() {
    let (examples, facets, answers) = sample();
    let found = report(&examples, &facets, &answers, Resampling::default());
    assert_eq!((found.images, found.unanswered, found.figures.accuracy), (5, 1, 0.75));
    assert_eq!((found.exits["screen"], found.images_per_s), (0.75, 2.0));
    assert_eq!(
        (found.latency_ms.mean, found.latency_ms.p50, found.latency_ms.p99),
        (25.0, 20.0, 40.0)
    );
    assert_eq!(found.reliability.iter().map(|bin| bin.images).sum::<u64>(), 4);
    let accuracy = found.intervals[&Figure::Accuracy];
    assert!(accuracy.low < 0.75 && accuracy.high <= 1.0, "{accuracy:?}");
}

#[test]
fn facets_divide_the_same_answers() {
    let (examples, facets, answers) = sample();
    let found = report(&examples, &facets, &answers, Resampling::default());
    let origin = &found.facets["origin"];
    assert_eq!(
        (origin["real"].images, origin["real"].accuracy, origin["real"].mcc),
        (2, 1.0, Some(1.0))
    );
    assert_eq!((origin["synthetic"].images, origin["synthetic"].accuracy), (2, 0.5));
    // One label only: no correlation, and not one of zero.
    assert_eq!(found.slices["roadwork"].mcc, None);
}

#[test]
fn json_keeps_the_names_of_its_figures() {
    let (examples, facets, answers) = sample();
    let found = report(&examples, &facets, &answers, Resampling::default());
    let json = serde_json::to_value(&found).unwrap();
    for key in
        ["accuracy", "mcc", "reward", "log_loss", "brier", "ece", "images_per_s", "decode_ms"]
    {
        assert!(json[key].is_f64(), "{key}: {json}");
    }
    assert!(json["intervals"]["log_loss"]["low"].is_f64());
    assert!(json["latency_ms"]["p99"].is_f64() && json["confusion"]["true_positives"] == 1);
}

#[test]
fn plots_show_every_answer() {
    let (examples, facets, answers) = sample();
    let found = report(&examples, &facets, &answers, Resampling::default());
    assert_eq!(reliability(&found.reliability).series.len(), 4);
    reliability(&found.reliability).svg().unwrap();
    let spread = histogram(&scored(&examples, &answers));
    let sums: Vec<f64> =
        spread.series.iter().map(|series| series.points.iter().map(|(_, y)| y).sum()).collect();
    assert_eq!(sums, [2.0, 2.0]);
    spread.svg().unwrap();
}

#[test]
fn no_answers_are_no_panic() {
    let found = report(&[], &[], &Answers::default(), Resampling::default());
    assert_eq!(found.figures, Figures::default());
    reliability(&found.reliability).svg().unwrap();
    reliability(&Totals::default().reliability.bins()).svg().unwrap();
    histogram(&[]).svg().unwrap();
}
