//! `roadcrew calibrate` from images to a server's decisions.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use image::{GrayImage, Luma};
use roadcrew::app::{Exit, Parts};
use roadcrew::cli::run_with;
use roadcrew::lab::calibrate::split::split;
use roadcrew::lab::dataset;
use serde_json::Value;

fn run(args: &[&str]) -> (Exit, String) {
    let mut out = Vec::new();
    let args = ["roadcrew"].iter().chain(args).map(OsString::from);
    let exit = run_with(args, Parts::default(), &mut out);
    (exit, String::from_utf8(out).unwrap())
}

struct Room(tempfile::TempDir);

impl Room {
    fn new(config: &str) -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        fs_err::write(room.path("config.toml"), config).unwrap();
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Grey pictures in two folders, those with roadwork the brighter ones, but for `misled`.
    fn greys(&self, count: usize, misled: usize) {
        for image in 0..count {
            let is_bright = image % 2 == 0;
            let folder = ["not_roadwork", "roadwork"][usize::from(is_bright != (image < misled))];
            let folder = self.path("data").join(folder);
            fs_err::create_dir_all(&folder).unwrap();
            let step = (image / 2) as u8 % 100;
            let level = if is_bright { 255 - step } else { step };
            let name = folder.join(format!("{image:04}.png"));
            GrayImage::from_pixel(2 + image as u32 % 7, 3, Luma([level])).save(name).unwrap();
        }
    }

    fn calibrate(&self, more: &[&str]) -> (Exit, String) {
        let (config, data, out) =
            (self.text("config.toml"), self.text("data"), self.text("out.toml"));
        let usual = ["calibrate", "--config", &config, "--data", &data, "--out", &out];
        run(&[&usual[..], &["--epsilon", "0.1", "--delta", "0.1"], more].concat())
    }

    fn has_written(&self) -> bool {
        let names =
            fs_err::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.into_iter().any(|name| name.to_string_lossy().starts_with("out."))
    }
}

/// Both stages answer by brightness; the second looks twice.
const SCRIPTED: &str = r#"
    [stages.screen]
    backend = "scripted"
    scripted = { answer = "mean" }
    [stages.confirm]
    backend = "tta"
    tta = { backend = "scripted", scales = [], scripted = { answer = "mean" } }
"#;

#[test]
fn certified_settings_load_and_are_not_written_over() {
    let room = Room::new(SCRIPTED);
    room.greys(90, 1);
    let (exit, out) = room.calibrate(&[]);
    assert_eq!(exit, Exit::Ok, "{out}");
    for part in ["screen", "confirm", "full cascade", "=>", "certified: ", "held-out"] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    let first = fs_err::read_to_string(room.path("out.toml")).unwrap();
    assert!(fs_err::read_to_string(room.path("out.svg")).unwrap().starts_with("<svg"));
    let (config, overlay) = (room.text("config.toml"), room.text("out.toml"));
    let (exit, told) = run(&["check", "--json", "--config", &config, "--config", &overlay]);
    assert_eq!(exit, Exit::Ok);
    let told: Value = serde_json::from_str(&told).unwrap();
    let table: toml::Table = first.parse().unwrap();
    for key in ["exit_below", "exit_above"] {
        let written = table["stages"]["screen"][key].as_float();
        assert_eq!(told[format!("stages.screen.{key}")]["value"].as_f64(), written);
    }
    assert_eq!(room.calibrate(&[]).0, Exit::Failure, "it is there already");
    assert_eq!(fs_err::read_to_string(room.path("out.toml")).unwrap(), first);
    let (exit, out) = room.calibrate(&["--force", "--json", "--seed", "3"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, report["report"]["options"]["seed"].as_u64()), (Exit::Ok, Some(3)));
    assert!(report["bound_uncorrected"].as_f64().unwrap() <= 0.1);
}

#[test]
fn what_proves_nothing_is_refused_and_nothing_is_written() {
    let room = Room::new(SCRIPTED);
    assert_eq!(room.calibrate(&[]), (Exit::Failure, String::new()), "no data");
    room.greys(30, 0);
    assert_eq!(room.calibrate(&[]).0, Exit::Failure, "too few");
    assert_eq!(room.calibrate(&["--epsilon", "0.7"]).0, Exit::Usage, "named twice");
    room.greys(90, 0);
    for wrong in [
        &["--fit-share", "0.95"][..],
        &["--set", "cascade.policy=committee"],
        &["--set", "cascade.order=[\"screen\"]"],
        &["--set", "stages.screen.scripted.answer=nan"],
        &["--set", "stages.screen.scripted.answer=0.9"],
        &[
            "--set",
            "stages.screen.scripted.fail_loads=99",
            "--set",
            "stages.screen.restart.max_restarts=0",
        ],
        &["--set", "stages.screen.scripted.batch.retry_every=1"],
    ] {
        assert_eq!(room.calibrate(wrong).0, Exit::Failure, "{wrong:?}");
    }
    fs_err::remove_dir_all(room.path("data/roadwork")).unwrap();
    fs_err::create_dir(room.path("data/roadwork")).unwrap();
    assert_eq!(room.calibrate(&[]).0, Exit::Failure, "one class only");
    assert!(!room.has_written());
}

#[test]
fn an_image_without_an_opinion_goes_to_the_next_stage() {
    let room = Room::new(SCRIPTED);
    room.greys(90, 0);
    let example = dataset::load(&room.path("data")).unwrap().remove(40);
    let digest = {
        let image = example.picture.decode(&roadcrew::image::ImageLimits::default()).unwrap();
        image.digest_hex()
    };
    let set = format!("stages.screen.scripted.answers.\"{digest}\"=nan");
    let (exit, out) = room.calibrate(&["--json", "--set", &set]);
    assert_eq!(exit, Exit::Ok, "{out}");
}

/// The probability, the stage that answered, and the first stage's own probability of each image.
fn served(config: &[&str], images: &[String]) -> Vec<(f64, String, f64)> {
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let (exit, out) =
        run(&[&["predict", "--json", "--deadline-ms", "600000"], config, &images].concat());
    assert_eq!(exit, Exit::Ok);
    let read = |line: &str| {
        let answer: Value = serde_json::from_str(line).unwrap();
        let stage = answer["stage"].as_str().unwrap().to_owned();
        let first = answer["trace"][0]["probability"].as_f64().unwrap();
        (answer["probability"].as_f64().unwrap(), stage, first)
    };
    out.lines().map(read).collect()
}

#[test]
fn the_embedded_cascade_is_served_as_it_was_certified() {
    let room = Room::new("");
    let (data, overlay) = (room.text("data"), room.text("out.toml"));
    let scenes = ["scenes", "--out", &data, "--count", "90", "--seed", "77", "--level", "1"];
    assert_eq!(run(&scenes).0, Exit::Ok);
    let (exit, out) = room.calibrate(&["--json"]);
    assert_eq!(exit, Exit::Ok, "{out}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let report = &report["report"];

    let examples = dataset::load(Path::new(&data)).unwrap();
    let labels: Vec<bool> = examples.iter().map(|example| example.roadwork).collect();
    let parts = split(&labels, &vec![None; labels.len()], 0.333, 0);
    assert_eq!(report["tested"].as_u64(), Some(parts.test.len() as u64));
    let images: Vec<String> = parts
        .test
        .iter()
        .map(|image| Path::new(&data).join(&examples[*image].picture.id).display().to_string())
        .collect();
    let with = ["--config", &overlay];
    let never = ["--set", "stages.screen.exit_below=0", "--set", "stages.screen.exit_above=1"];
    let (early, full) = (served(&with, &images), served(&[&with[..], &never].concat(), &images));

    let chosen = &report["settings"][report["chosen"].as_u64().unwrap() as usize];
    let [below, above] = [0, 1].map(|side| chosen["exits"][0][side].as_f64().unwrap());
    for (p, stage, first) in &early {
        let is_exit = *first < below || *first > above;
        assert_eq!(stage, if is_exit { "screen" } else { "confirm" }, "{p} {first}");
    }
    let is_right = |place: usize, p: f64| (p > 0.5) == labels[parts.test[place]];
    let harms = early.iter().zip(&full).enumerate();
    let harms = harms.filter(|(i, (early, full))| is_right(*i, full.0) && !is_right(*i, early.0));
    assert_eq!(Some(harms.count() as u64), chosen["harms"].as_u64());
    let exits = early.iter().filter(|(_, stage, _)| stage == "screen").count() as f64;
    let share = chosen["figures"]["answered"][0].as_f64().unwrap();
    assert!((exits / early.len() as f64 - share).abs() < 1e-9, "{exits} {share}");
}
