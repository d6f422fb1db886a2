//! evaluate, experiment and simulate-validator on pictures whose brightness is the truth.

use serde_json::Value;

use super::*;

/// The first stage answers by brightness, the second always 0.9; only the first is asked.
const SEES: &str = "[cascade]\norder = [\"screen\"]\n";
const BLIND: &str = "[cascade]\norder = [\"confirm\"]\n";

/// Ten bright pictures of roadwork and ten dark ones of none, one of each the wrong way round.
fn room() -> (Room, String) {
    let room = Room::new(SCRIPTED);
    for (folder, level) in [("roadwork", 230), ("not_roadwork", 25)] {
        fs_err::create_dir_all(room.path("data").join(folder)).unwrap();
        for index in 0..10 {
            let level = if index == 0 { 255 - level } else { level };
            room.grey(&format!("data/{folder}/{index}.png"), level);
        }
    }
    fs_err::write(room.path("sees.toml"), SEES).unwrap();
    fs_err::write(room.path("blind.toml"), BLIND).unwrap();
    let data = room.path("data").display().to_string();
    (room, data)
}

impl Room {
    fn name(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

fn json(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[test]
fn evaluate_writes_answers_and_plots() {
    let (room, data) = room();
    let (answers, plots, sees) = (room.name("a.jsonl"), room.name("plots"), room.name("sees.toml"));
    let args = ["evaluate", &data, "--config", &sees, "--out", &answers, "--plots", &plots];
    let (exit, out) = room.run(&[&args[..], &["--json"]].concat());
    // The room's configuration comes last and says nothing of the order.
    let cascade = &json(&out)["cascade"];
    assert_eq!((exit, &cascade["accuracy"]), (Exit::Ok, &0.9.into()), "{out}");
    assert!(cascade["log_loss"].as_f64().unwrap() > 0.0 && cascade["ece"].is_f64());
    assert!(cascade["intervals"]["accuracy"]["low"].as_f64().unwrap() < 0.9);
    assert_eq!(cascade["facets"]["label"]["roadwork"]["images"], 10);
    let lines = fs_err::read_to_string(&answers).unwrap();
    assert_eq!(lines.lines().count(), 20);
    let first = json(lines.lines().next().unwrap());
    assert_eq!((&first["id"], &first["label"]), (&"roadwork/0.png".into(), &1.into()));
    assert_eq!(first["stages"][0]["stage"], "screen");
    for plot in ["reliability.svg", "answers.svg"] {
        assert!(fs_err::read_to_string(room.path("plots").join(plot)).unwrap().contains("</svg>"));
    }
    // Nothing is written over.
    assert_eq!(room.run(&["evaluate", &data, "--out", &answers]).0, Exit::Failure);
    assert_eq!(room.run(&["evaluate", &data, "--plots", &plots]).0, Exit::Failure);
    let nowhere = room.name("nowhere/a.jsonl");
    assert_eq!(room.run(&["evaluate", &data, "--out", &nowhere]).0, Exit::Failure);
    assert_eq!(fs_err::read_to_string(&answers).unwrap(), lines);
}

#[test]
fn experiments_compare_cascades() {
    let (room, data) = room();
    let (sees, blind, out) = (room.name("sees.toml"), room.name("blind.toml"), room.name("found"));
    let args = ["experiment", &blind, &sees, "--data", &data, "--out", &out];
    let (exit, text) = room.run(&args);
    assert_eq!(exit, Exit::Ok, "{text}");
    let last = text.lines().last().unwrap();
    // 9 of none that only the one sees, 1 of roadwork that only the other has right.
    assert!(last.contains("sees.toml is more accurate than"), "{text}");
    let mut files: Vec<_> =
        fs_err::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
    files.sort();
    let expected = [
        "accuracy-over-cost.svg",
        "answers-1-blind.jsonl",
        "answers-2-sees.jsonl",
        "experiment.json",
    ];
    assert_eq!(files, expected);
    let found = json(&fs_err::read_to_string(room.path("found/experiment.json")).unwrap());
    let counts = &found["pairs"][0]["mcnemar"];
    assert_eq!((&counts["only_first"], &counts["only_second"]), (&1.into(), &9.into()));
    assert_eq!(found["cascades"][0]["stages"]["confirm"]["exits"], 1.0);
    assert_eq!(room.run(&args).0, Exit::Failure, "the folder is not empty");
    let (exit, printed) = room.run(&["experiment", &sees, &sees, "--data", &data, "--json"]);
    assert_eq!((exit, &json(&printed)["pairs"][0]["mcnemar"]["p"]), (Exit::Ok, &1.0.into()));
}

#[test]
fn experiments_refuse_what_cannot_be_compared() {
    let (room, data) = room();
    let (sees, none) = (room.name("sees.toml"), room.name("none.toml"));
    fs_err::write(&none, "[cascade]\norder = [\"nobody\"]\n").unwrap();
    assert_eq!(room.run(&["experiment", &sees, "--data", &data]).0, Exit::Usage);
    assert_eq!(room.run(&["experiment", &sees, &none, "--data", &data]).0, Exit::Config);
    let fails = room.name("fails.toml");
    let text = "[cascade]\norder = [\"screen\"]\n[stages.screen]\nbackend = \"classifier\"\n\
                restart = { backoff_ms = 1, max_restarts = 1 }\n";
    fs_err::write(&fails, text).unwrap();
    assert_eq!(room.run(&["experiment", &sees, &fails, "--data", &data]).0, Exit::Failure);
    let wrong = ["experiment", &sees, &sees, "--data", &data, "--difference", "0"];
    assert_eq!(room.run(&wrong).0, Exit::Usage);
}

#[test]
fn validators_are_simulated_over_answers() {
    let (room, data) = room();
    let (answers, plots, sees) = (room.name("a.jsonl"), room.name("plots"), room.name("sees.toml"));
    assert_eq!(room.run(&["evaluate", &data, "--config", &sees, "--out", &answers]).0, Exit::Ok);
    let short = ["--challenges", "300", "--runs", "20"];
    let args = ["simulate-validator", "--answers", &answers, "--json", "--plots", &plots];
    let (exit, out) = run(&[&args[..], &short].concat());
    let found = json(&out);
    assert_eq!((exit, &found["accuracy"]), (Exit::Ok, &0.9.into()));
    let steady = found["steady"].as_f64().unwrap();
    assert!((0.5..0.75).contains(&steady), "{steady}");
    assert_eq!(found["curve"]["mean"].as_array().unwrap().len(), 300);
    assert!(fs_err::read_to_string(room.path("plots/score.svg")).unwrap().contains("</svg>"));
    // The cascade itself gives the same answers, and so the same score.
    let args = ["simulate-validator", "--data", &data, "--config", &sees, "--json"];
    let again = room.run(&[&args[..], &short].concat()).1;
    assert_eq!(json(&again)["curve"], found["curve"]);
    let (exit, table) = run(&[&["simulate-validator", "--answers", &answers][..], &short].concat());
    assert_eq!((exit, table.contains("an outage of 1.0 h")), (Exit::Ok, true), "{table}");
}

#[test]
fn simulations_refuse_what_makes_no_sense() {
    let (room, _) = room();
    let answers = room.name("one.jsonl");
    fs_err::write(&answers, "{\"label\":1,\"probability\":0.9}\n").unwrap();
    assert_eq!(run(&["simulate-validator", "--answers", &answers]).0, Exit::Failure);
    assert_eq!(run(&["simulate-validator", "--answers", "nowhere"]).0, Exit::Failure);
    assert_eq!(run(&["simulate-validator"]).0, Exit::Usage);
    for wrong in
        [["--miss-rate", "2"], ["--challenges", "200"], ["--minutes", "0"], ["--data", "x"]]
    {
        let args = ["simulate-validator", "--answers", &answers];
        assert_eq!(run(&[&args[..], &wrong].concat()).0, Exit::Usage, "{wrong:?}");
    }
}
