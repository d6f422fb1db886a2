mod dataset;
mod measure;
mod wallet;

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use serde_json::Value;

use super::*;

/// A scripted cascade: the first stage answers by brightness, the second always 0.9.
const SCRIPTED: &str = r#"
    [stages.screen]
    backend = "scripted"
    scripted = { answer = "mean" }
    [stages.confirm]
    backend = "scripted"
    scripted = { answer = 0.9 }
"#;

/// A folder with a configuration and pictures.
struct Room {
    dir: tempfile::TempDir,
}

impl Room {
    fn new(config: &str) -> Self {
        let room = Self { dir: tempfile::tempdir().unwrap() };
        fs_err::write(room.path("config.toml"), config).unwrap();
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A grey picture; its brightness is what "mean" answers.
    fn grey(&self, name: &str, level: u8) -> String {
        let picture = image::GrayImage::from_pixel(4, 4, image::Luma([level]));
        picture.save(self.path(name)).unwrap();
        self.path(name).display().to_string()
    }

    /// Runs a command with this room's configuration.
    fn run(&self, args: &[&str]) -> (Exit, String) {
        let config = self.path("config.toml").display().to_string();
        run(&[args, &["--config", &config]].concat())
    }
}

/// The default configuration names the backend `classifier`; nothing here runs it.
fn parts() -> Parts {
    let mut parts = Parts::default();
    parts.backends.add("classifier", |_| anyhow::bail!("no model in tests of the commands"));
    parts
}

pub(in crate::cli) fn run(args: &[&str]) -> (Exit, String) {
    let mut out = Vec::new();
    let exit = run_with(["roadcrew"].iter().chain(args).map(OsString::from), parts(), &mut out);
    (exit, String::from_utf8(out).unwrap())
}

#[test]
fn the_arguments_are_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn help_of_every_command() {
    let mut command = Cli::command();
    command.build();
    insta::assert_snapshot!("help", command.render_long_help().to_string());
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        let name = format!("help_{}", sub.get_name());
        insta::assert_snapshot!(name, sub.render_long_help().to_string());
    }
}

#[test]
fn exit_codes_of_arguments() {
    assert_eq!(run(&["--help"]).0, Exit::Ok);
    assert!(run(&["--version"]).1.starts_with("roadcrew "));
    for wrong in [&["predict"][..], &["fly"], &["check", "--set", "no-equals-sign"], &[]] {
        assert_eq!(run(wrong), (Exit::Usage, String::new()), "{wrong:?}");
    }
}

#[test]
fn check_prints_a_configuration_that_means_the_same() {
    let room = Room::new("http.port = 1\n");
    let (exit, first) = room.run(&["check", "--set", "stages.screen.when.input=\"image\""]);
    assert_eq!(exit, Exit::Ok);
    assert!(first.contains("http.port = 1 "), "{first}");
    assert!(first.contains("# --set") && first.contains("# default"), "{first}");
    let again = Room::new(&first);
    let strip = |text: &str| {
        text.lines()
            .map(|l| l.split(" # ").next().unwrap().trim_end().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(strip(&again.run(&["check"]).1), strip(&first));
}

#[test]
fn check_as_json() {
    let (exit, text) = run(&["check", "--json", "--set", "http.port=1"]);
    let settings: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(exit, Exit::Ok);
    assert_eq!(settings["http.port"]["value"], 1);
    assert_eq!(settings["http.port"]["origin"], "--set");
    assert_eq!(settings["engine.max_lends"]["origin"], "default");
}

#[test]
fn a_wrong_configuration_is_78_and_prints_no_data() {
    let nowhere = Path::new("nowhere.toml").display().to_string();
    for command in ["check", "serve"] {
        assert_eq!(run(&[command, "--set", "http.prot=1"]), (Exit::Config, String::new()));
        assert_eq!(run(&[command, "--config", &nowhere]), (Exit::Config, String::new()));
    }
    assert_eq!(run(&["predict", "x", "--set", "cascade.order=[]"]).0, Exit::Config);
    assert_eq!(run(&["predict", "x", "--log", "loud"]).0, Exit::Usage);
}

#[test]
fn predict_answers_in_the_order_given_and_reports_what_it_cannot_read() {
    let room = Room::new(SCRIPTED);
    let (black, grey) = (room.grey("black.png", 0), room.grey("grey.png", 128));
    fs_err::write(room.path("text.jpg"), "not a picture").unwrap();
    let text = room.path("text.jpg").display().to_string();
    let missing = room.path("missing.jpg").display().to_string();
    let (exit, out) = room.run(&["predict", &grey, &text, &missing, &black]);
    assert_eq!(exit, Exit::Failure);
    let expected =
        format!("{grey}\troadwork\t0.9000\tconfirm\n{black}\tnot_roadwork\t0.0000\tscreen\n");
    assert_eq!(out, expected);
}

#[test]
fn predict_as_json_has_the_fields_of_the_api() {
    let room = Room::new(SCRIPTED);
    let grey = room.grey("grey.png", 102);
    let missing = room.path("missing.jpg").display().to_string();
    let (exit, out) = room.run(&["predict", "--json", &grey, &missing]);
    assert_eq!(exit, Exit::Failure);
    let mut lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut answer = lines.next().unwrap();
    assert_eq!(lines.next().unwrap()["file"], Value::from(missing));
    assert_eq!(answer["digest"].as_str().map(str::len), Some(64));
    answer["file"] = "grey.png".into();
    answer["digest"] = "…".into();
    for hop in answer["trace"].as_array_mut().unwrap() {
        hop["latency_ms"] = 1.into();
    }
    insta::assert_json_snapshot!(answer);
}

#[test]
fn predict_fills_batches() {
    let slow = SCRIPTED.replace("answer = \"mean\"", "answer = \"mean\", base_ms = 20")
        + "[engine]\nmax_in_flight = 4\n";
    let room = Room::new(&slow);
    let images: Vec<_> = (0..12).map(|n| room.grey(&format!("{n}.png"), n)).collect();
    let images: Vec<_> = images.iter().map(String::as_str).collect();
    let (exit, out) = room.run(&[&["predict", "--json"], &images[..]].concat());
    let sizes: Vec<_> = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["trace"][0]["batch_size"].as_u64())
        .collect();
    assert_eq!((exit, sizes.len()), (Exit::Ok, 12));
    assert!(sizes.iter().any(|size| *size > Some(1)), "{sizes:?}");
}

#[test]
fn predict_goes_round_a_stage_that_does_not_load() {
    let room = Room::new(
        "stages.screen.backend = \"scripted\"\n\
         stages.screen.scripted.answer = 0.6\n\
         stages.confirm.restart.max_restarts = 0\n",
    );
    let grey = room.grey("grey.png", 1);
    let (exit, out) = room.run(&["predict", &grey]);
    assert_eq!(exit, Exit::Ok);
    assert!(out.ends_with("roadwork\t0.6000\tscreen\tdegraded: stage_down\n"), "{out}");
}

#[test]
fn predict_without_any_stage_fails_at_once() {
    let room = Room::new(
        "stages.screen.restart.max_restarts = 0\nstages.confirm.restart.max_restarts = 0\n",
    );
    let (exit, out) = room.run(&["predict", &room.grey("grey.png", 1)]);
    assert_eq!((exit, out.as_str()), (Exit::Failure, ""));
}

/// A pipe whose reader has left.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_left_is_no_error() {
    let room = Room::new(SCRIPTED);
    let grey = room.grey("grey.png", 1);
    let config = room.path("config.toml").display().to_string();
    for args in [
        &["--help"][..],
        &["check"],
        &["check", "--json"],
        &["completions", "zsh"],
        &["predict", "--config", &config, &grey],
        &["predict", "--json", "--config", &config, &grey],
    ] {
        let args = ["roadcrew"].iter().chain(args).map(OsString::from);
        assert_eq!(run_with(args, parts(), &mut Closed), Exit::Ok);
    }
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (exit, script) = run(&["completions", shell]);
        assert_eq!(exit, Exit::Ok);
        assert!(script.contains("predict") && script.contains("config"), "{shell}");
    }
}

#[test]
fn scenes_are_written_and_evaluated() {
    let room = Room::new(SCRIPTED);
    let data = room.path("data").display().to_string();
    let (exit, out) = run(&["scenes", "--out", &data, "--count", "6", "--seed", "1"]);
    assert_eq!((exit, out.contains("6 scenes")), (Exit::Ok, true), "{out}");
    assert_eq!(run(&["scenes", "--out", &data, "--count", "6", "--seed", "1"]).0, Exit::Failure);
    let (exit, out) = room.run(&["evaluate", &data, "--json", "--limit", "4"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(exit, Exit::Ok);
    assert_eq!(report["cascade"]["images"], 4);
    assert_eq!(report["stages"]["confirm"]["exits"]["confirm"], 1.0);
    let (exit, out) = room.run(&["evaluate", &data, "--cascade-only"]);
    assert_eq!((exit, out.lines().nth(1).unwrap().starts_with("cascade ")), (Exit::Ok, true));
    assert_eq!(room.run(&["evaluate", "nowhere"]).0, Exit::Failure);
}

#[test]
fn train_refuses_what_makes_no_sense() {
    let base = ["train", "--data", "x", "--model", "x", "--out", "x"];
    for wrong in [["--batch", "0"], ["--dropout", "1"], ["--dropout", "nan"], ["--epochs", "-1"]] {
        assert_eq!(run(&[&base[..], &wrong].concat()).0, Exit::Usage, "{wrong:?}");
    }
}
