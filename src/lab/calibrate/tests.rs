use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::overlay::{Provenance, overlay};
use super::*;
use crate::cascade::Condition;

const OPTIONS: Options = Options { epsilon: 0.02, delta: 0.1, fit_share: 1.0 / 3.0, seed: 1 };

fn stage(name: &str, device_ms: f64, exits: [f32; 2], scores: Vec<f32>) -> Stage {
    let [exit_below, exit_above] = exits;
    let rule = StageRule { exit_below, exit_above, when: Condition::default() };
    let cost = Cost { device_ms, latency_ms: 2.0 * device_ms };
    Stage { name: name.into(), rule, calibration: CalibrationSpec::default(), cost, scores }
}

/// Two stages that are mostly right: the first is unsure of a third of the images, and wrong where it
/// is sure for `misled` of them.
fn sample(images: usize, misled: usize) -> Sample {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let labels: Vec<bool> = (0..images).map(|image| image % 2 == 0).collect();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (image, label) in labels.iter().enumerate() {
        let sure: f32 = rng.random_range(0.9..0.99);
        let toward = |p: f32, label: bool| if label { p } else { 1.0 - p };
        let is_misled = image < misled;
        let unsure: f32 = rng.random_range(0.4..0.6);
        first.push(if image % 3 == 0 && !is_misled {
            unsure
        } else {
            toward(sure, *label != is_misled)
        });
        second.push(toward(rng.random_range(0.8..0.99), *label));
    }
    let stages =
        vec![stage("quick", 1.0, [0.15, 0.85], first), stage("slow", 9.0, [0.5, 0.5], second)];
    Sample { stages, exhausted: Exhausted::Last, groups: vec![None; images], labels }
}

fn certified(sample: &Sample) -> Report {
    match calibrate(sample, OPTIONS).unwrap() {
        Outcome::Certified(report) => *report,
        other => panic!("{other:?}"),
    }
}

fn refused(sample: &Sample, options: Options) -> String {
    calibrate(sample, options).unwrap_err().to_string()
}

#[test]
fn six_hundred_images_with_few_disagreements_are_enough() {
    let report = certified(&sample(600, 3));
    let outcome = report.outcome().unwrap();
    assert_eq!((report.fitted, report.tested), (200, 400));
    assert!(outcome.p_value <= 0.1 && outcome.harms <= 4);
    assert!(outcome.figures.cost.device_ms < 0.5 * report.full.cost.device_ms, "{outcome:?}");
    assert!(report.bound().unwrap() <= 0.02);
    let passed = report.settings.iter().filter(|setting| setting.certified);
    let costs = passed.map(|setting| setting.figures.cost.device_ms);
    assert_eq!(costs.fold(f64::INFINITY, f64::min), outcome.figures.cost.device_ms);
    let shares: f64 = outcome.figures.answered.iter().sum();
    assert!((shares - 1.0).abs() < 1e-9);
    assert!((outcome.figures.asked[0] - 1.0).abs() < 1e-9);
    let again = certified(&sample(600, 3));
    assert_eq!(serde_json::to_string(&again).unwrap(), serde_json::to_string(&report).unwrap());
}

#[test]
fn the_overlay_says_what_was_certified() {
    let report = certified(&sample(600, 3));
    let provenance = Provenance {
        data: "ab".repeat(32),
        order: vec!["quick".into(), "slow".into()],
        exhausted: "last".into(),
        stages: vec!["quick: scripted {}".into()],
    };
    let text = overlay(&report, &provenance).unwrap().unwrap();
    let table: toml::Table = text.parse().unwrap();
    let [below, above] = report.outcome().unwrap().exits[0];
    let quick = &table["stages"]["quick"];
    assert_eq!(quick["exit_below"].as_float().unwrap() as f32, below);
    assert_eq!(quick["exit_above"].as_float().unwrap() as f32, above);
    assert!(table["stages"]["slow"].get("exit_below").is_none());
    for stage in &report.stages {
        let told: CalibrationSpec =
            table["stages"][&stage.name]["calibration"].clone().try_into().unwrap();
        assert_eq!(told, stage.chosen.spec);
        assert_eq!(table["stages"][&stage.name]["calibration"].as_table().unwrap().len(), 5);
    }
    for part in [
        "0.9000",
        "# stage      quick: scripted {}\n",
        "at most 0.02",
        &"ab".repeat(32),
        "600: 200 to fit, 400 to test; seed 1",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    insta::assert_snapshot!("table", report.table());
}

#[test]
fn too_few_images_are_refused_with_the_number_that_is_needed() {
    let Outcome::TooFew(TooFew { images, tested, needed, needed_in_all, .. }) =
        calibrate(&sample(150, 0), OPTIONS).unwrap()
    else {
        panic!("not refused")
    };
    assert_eq!((images, tested, needed), (150, 100, 114));
    assert!((171..175).contains(&needed_in_all), "{needed_in_all}");
    let enough = calibrate(&sample(needed_in_all as usize, 0), OPTIONS).unwrap();
    assert!(matches!(enough, Outcome::Certified(_)), "{enough:?}");
}

#[test]
fn groups_count_once_however_large_they_are() {
    let mut some = sample(600, 3);
    // Four images, all of one class, make a group.
    some.groups = (0..600).map(|image| Some((image / 8 * 2 + image % 2).to_string())).collect();
    let Outcome::TooFew(few) = calibrate(&some, OPTIONS).unwrap() else { panic!("not refused") };
    assert_eq!((few.images, few.units, few.tested), (600, 150, 100));
    assert!(few.to_string().starts_with("150 groups are too few"), "{few}");
    let wider = Options { epsilon: 0.05, ..OPTIONS };
    let report = match calibrate(&some, wider).unwrap() {
        Outcome::Certified(report) | Outcome::Nothing { report, .. } => report,
        Outcome::TooFew(few) => panic!("{few}"),
    };
    assert_eq!((report.fitted, report.tested, report.aside), (200, 100, 300));
    assert!(report.table().contains("600 images in 150 groups"), "{}", report.table());
}

#[test]
fn where_every_exit_harms_nothing_is_certified() {
    // The first stage is sure and wrong on a quarter of the images.
    let Outcome::Nothing { report, needed_in_all } = calibrate(&sample(600, 150), OPTIONS).unwrap()
    else {
        panic!("certified")
    };
    assert!(report.after.is_none() && report.outcome().is_none() && report.bound().is_none());
    assert!(report.settings.iter().all(|setting| !setting.certified));
    assert!(needed_in_all.is_none_or(|images| images > 600), "{needed_in_all:?}");
    let (data, exhausted) = (String::new(), String::new());
    let provenance = Provenance { data, order: vec![], exhausted, stages: vec![] };
    assert!(overlay(&report, &provenance).unwrap().is_none());
}

#[test]
fn an_abstention_goes_to_the_next_stage() {
    let mut some = sample(600, 0);
    for score in some.stages[0].scores.iter_mut().skip(1).step_by(3) {
        *score = f32::NAN;
    }
    let report = certified(&some);
    let asked = report.outcome().unwrap().figures.asked[1];
    assert!(asked > 0.3 && asked < 0.9, "{asked}");
    some.stages[1].scores[0] = f32::NAN;
    some.stages[0].scores[0] = f32::NAN;
    certified(&some);
}

#[test]
fn every_rule_for_the_end_is_followed() {
    for exhausted in [Exhausted::Last, Exhausted::MostConfident, Exhausted::Mean] {
        certified(&Sample { exhausted, ..sample(600, 2) });
    }
}

#[test]
fn samples_that_prove_nothing_are_refused() {
    let one_class = Sample { labels: vec![true; 600], ..sample(600, 0) };
    assert!(refused(&one_class, OPTIONS).contains("all show roadwork"));
    let none = Sample { labels: vec![false; 600], ..sample(600, 0) };
    assert!(refused(&none, OPTIONS).contains("none shows roadwork"));
    let mut few = sample(600, 0);
    few.labels.iter_mut().skip(12).for_each(|label| *label = false);
    assert!(refused(&few, OPTIONS).contains("2 images with roadwork are too few"));
    let mut silent = sample(600, 0);
    silent.stages[1].scores.fill(f32::NAN);
    assert!(refused(&silent, OPTIONS).contains("slow abstained from every image"));
    let mut short = sample(600, 0);
    short.stages[1].scores.pop();
    assert!(refused(&short, OPTIONS).contains("599 scores for 600 images"));
    let mut many = sample(600, 0);
    many.stages.resize(9, many.stages[0].clone());
    assert!(refused(&many, OPTIONS).contains("9 stages for images are more than 8"));
    let mut single = sample(600, 0);
    single.stages.pop();
    assert!(refused(&single, OPTIONS).contains("no early exit"));
    for (epsilon, delta, fit_share) in
        [(0.0, 0.1, 0.3), (0.02, 0.5, 0.3), (0.02, 0.1, 0.95), (f64::NAN, 0.1, 0.3)]
    {
        let options = Options { epsilon, delta, fit_share, ..OPTIONS };
        assert!(calibrate(&sample(600, 0), options).is_err(), "{options:?}");
    }
}

#[test]
fn the_plot_holds_every_setting() {
    let report = certified(&sample(600, 3));
    let svg = report.plot().svg().unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("certified"));
    assert_eq!(report.plot().series[0].points.len(), report.settings.len() + 1);
}
