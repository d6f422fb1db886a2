use super::*;
use crate::lab::records::Asked;

fn record(index: usize, right: bool, ms: f64) -> Record {
    let label = u8::from(index.is_multiple_of(2));
    let probability = Some(if right == (label == 1) { 0.8 } else { 0.2 });
    let asked = |stage: &str| Asked { stage: stage.into(), probability, latency_ms: ms, batch: 2 };
    Record {
        id: index.to_string(),
        label,
        probability,
        stage: Some("b".to_owned()),
        stages: vec![asked("a"), asked("b")],
        latency_ms: 2.0 * ms,
        degraded: None,
        rejection: None,
    }
}

/// A run over `images` images of which those are wrong that `wrong` says.
fn run(name: &str, images: usize, ms: f64, wrong: impl Fn(usize) -> bool) -> Run {
    let records: Vec<Record> = (0..images).map(|index| record(index, !wrong(index), ms)).collect();
    let engine = Duration::from_secs_f64(ms * images as f64 / 1e3);
    let alone = records[..images / 2].to_vec();
    Run { name: name.into(), records, engine, alone }
}

fn compared(runs: &[Run]) -> Experiment {
    compare(runs, Resampling::default(), 0.01).unwrap()
}

#[test]
fn a_clear_winner_is_named_with_its_price() {
    let worse = run("cheap", 400, 10.0, |index| index % 5 == 0);
    let better = run("dear", 400, 25.0, |index| index % 50 == 0);
    let found = compared(&[worse.clone(), better.clone()]);
    let pair = &found.pairs[0];
    assert_eq!((pair.mcnemar.only_first, pair.mcnemar.only_second), (0, 72));
    assert!((pair.differences[&Figure::Accuracy].value - 0.18).abs() < 1e-12);
    assert!((pair.cost_ratio - 2.5).abs() < 1e-9 && pair.is_shown());
    let said = &found.conclusions[0];
    assert!(said.starts_with("dear is more accurate than cheap by 18.0 points"), "{said}");
    assert!(said.contains("p below 0.001") && said.contains("2.50 times"), "{said}");
    // The other way round, the same winner and the same price.
    let swapped = compared(&[better, worse]);
    assert!((swapped.pairs[0].differences[&Figure::Accuracy].value + 0.18).abs() < 1e-12);
    let limits = |text: &str| text.split("interval").nth(1).unwrap().to_owned();
    assert!(swapped.conclusions[0].starts_with("dear is more accurate"));
    assert_eq!(limits(&swapped.conclusions[0]), limits(said));
}

#[test]
fn too_few_images_are_said_to_be_too_few() {
    let first = run("A", 60, 10.0, |index| index < 6);
    let second = run("B", 60, 10.0, |index| (4..9).contains(&index));
    let found = compared(&[first, second]);
    let needed = images_needed(7.0 / 60.0, 0.01);
    assert_eq!(found.pairs[0].images_needed, needed);
    let said = &found.conclusions[0];
    assert!(said.starts_with("No difference in accuracy between A and B"), "{said}");
    assert!(said.contains(&format!("about {} images", needed.unwrap())), "{said}");
}

#[test]
fn equals_are_never_told_apart() {
    let one = run("A", 100, 1.0, |index| index < 10);
    let found = compared(&[one.clone(), Run { name: "B".into(), ..one }]);
    assert_eq!(found.pairs[0].mcnemar.p, 1.0);
    assert_eq!(
        found.pairs[0].differences[&Figure::LogLoss].interval,
        Interval { low: 0.0, high: 0.0 }
    );
}

#[test]
fn images_that_one_did_not_answer_are_left_out_for_all() {
    let first = run("A", 50, 1.0, |_| false);
    let mut second = run("B", 50, 1.0, |_| false);
    second.records[3].probability = None;
    let found = compared(&[first.clone(), second.clone()]);
    assert_eq!((found.images, found.left_out), (49, 1));
    second.records.iter_mut().for_each(|record| record.probability = None);
    let error = compare(&[first, second], Resampling::default(), 0.01).unwrap_err().to_string();
    assert!(error.contains("no image was answered"), "{error}");
}

#[test]
fn a_cascade_is_summed_up() {
    let found = compared(&[run("A", 10, 4.0, |_| false), run("B", 10, 4.0, |_| true)]);
    let cascade = &found.cascades[0];
    assert_eq!((cascade.figures.accuracy, found.cascades[1].figures.accuracy), (1.0, 0.0));
    assert!(
        (cascade.images_per_s - 250.0).abs() < 1e-6 && (cascade.ms_per_image - 4.0).abs() < 1e-9
    );
    let (a, b) = (cascade.stages["a"], cascade.stages["b"]);
    assert!((a.asked - 1.0).abs() < 1e-9 && a.exits == 0.0 && (b.exits - 1.0).abs() < 1e-9);
    assert!((a.seconds_per_image - 0.004).abs() < 1e-9);
    assert_eq!(cascade.latency_ms.p50, 8.0);
}

#[test]
fn several_pairs_are_corrected_and_drawn() {
    let runs: Vec<Run> = [0_usize, 5, 6].map(|n| run(&format!("r{n}"), 100, 2.0, |i| i < n)).into();
    let found = compared(&runs);
    assert_eq!((found.pairs.len(), found.conclusions.len()), (2, 2));
    let (five, six) = (&found.pairs[0], &found.pairs[1]);
    // 5 to 0 is 0.0625 and 6 to 0 is 0.03125 alone, and not below 5 % of two.
    assert!((six.p_corrected - 0.0625).abs() < 1e-9 && !six.is_shown(), "{six:?}");
    assert!((five.p_corrected - 0.0625).abs() < 1e-9);
    assert_eq!(accuracy_over_cost(&found).series.len(), 6);
    accuracy_over_cost(&found).svg().unwrap();
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let one = run("A", 10, 1.0, |_| false);
    let other = run("B", 9, 1.0, |_| false);
    let with = |runs: &[Run]| compare(runs, Resampling::default(), 0.01).unwrap_err().to_string();
    assert!(with(std::slice::from_ref(&one)).contains("two cascades"));
    assert!(with(&[one, other]).contains("same images"));
}
