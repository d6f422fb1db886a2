//! `roadcrew dataset` and `roadcrew select`, with scenes and with grey pictures.

use serde_json::json;

use super::*;
use crate::lab::dataset::{load, sha256};
use crate::lab::scenes::{DatasetSpec, write_dataset};

/// A room with `count` scenes.
fn scenes(count: u64) -> Room {
    let room = Room::new(SCRIPTED);
    write_dataset(&room.path("scenes"), &DatasetSpec::new(count, 2, 1), &|_| {}).unwrap();
    room
}

impl Room {
    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The lines of a JSONL file.
    fn lines(&self, name: &str) -> Vec<Value> {
        let text = fs_err::read_to_string(self.path(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Adds lines to the scenes' labels.
    fn label(&self, file: &str, label: u8) {
        let path = self.path("scenes/labels.jsonl");
        let text = fs_err::read_to_string(&path).unwrap();
        let line = json!({ "image": file, "label": label });
        fs_err::write(path, format!("{text}{line}\n")).unwrap();
    }

    fn json(&self, args: &[&str]) -> (Exit, Value) {
        let (exit, text) = self.run(args);
        (exit, serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

#[test]
fn help_of_every_dataset_command() {
    let mut command = Cli::command();
    command.build();
    let dataset = command.find_subcommand_mut("dataset").unwrap();
    for sub in dataset.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        let name = format!("help_dataset_{}", sub.get_name());
        insta::assert_snapshot!(name, sub.render_long_help().to_string());
    }
}

#[test]
fn stats_count_and_complain() {
    let room = scenes(6);
    let data = room.text("scenes");
    let (exit, stats) = room.json(&["dataset", "stats", &data, "--json"]);
    assert_eq!(exit, Exit::Ok);
    let roadwork = load(&room.path("scenes")).unwrap().iter().filter(|e| e.roadwork).count();
    assert_eq!(stats["images"], json!({ "roadwork": roadwork, "not_roadwork": 6 - roadwork }));
    assert_eq!(stats["origins"]["synthetic"], stats["images"]);
    assert_eq!(stats["scene_levels"]["1"], stats["images"]);
    assert_eq!(stats["sizes"]["320x180"], stats["images"]);
    assert_eq!(stats["warnings"], json!([]));
    fs_err::copy(room.path("scenes/images/000000.jpg"), room.path("scenes/same.jpg")).unwrap();
    fs_err::write(room.path("scenes/broken.jpg"), b"no picture").unwrap();
    let label = load(&room.path("scenes")).unwrap()[0].roadwork;
    room.label("same.jpg", u8::from(!label));
    room.label("broken.jpg", 0);
    let (exit, text) = room.run(&["dataset", "stats", &data]);
    assert_eq!(exit, Exit::Failure);
    for part in [
        "unreadable: broken.jpg: ",
        "different labels: images/000000.jpg, same.jpg",
        "1 sets of identical images have",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_split_is_complete_and_keeps_twins_together() {
    let room = scenes(40);
    let label = u8::from(load(&room.path("scenes")).unwrap()[7].roadwork);
    let twin = image::open(room.path("scenes/images/000007.jpg")).unwrap();
    twin.save(room.path("scenes/twin.png")).unwrap();
    room.label("twin.png", label);
    let (data, out, cache) = (room.text("scenes"), room.text("out"), room.text("cache"));
    let args = ["dataset", "split", &data, "--out", &out, "--cache", &cache, "--json"];
    let shares = ["--train", "0.5", "--val", "0.25", "--test", "0.25", "--dedup", "0.9999"];
    let args = [&args[..], &shares].concat();
    let (exit, report) = room.json(&args);
    assert_eq!((exit, &report["groups"]), (Exit::Ok, &json!(40)), "{report}");
    let parts = ["train", "val", "test"].map(|name| room.lines(&format!("out/{name}.jsonl")));
    assert_eq!(parts.each_ref().map(Vec::len).iter().sum::<usize>(), 41);
    let holders = parts.iter().filter(|part| {
        let has = |id: &str| part.iter().any(|line| line["id"] == id);
        assert_eq!(has("twin.png"), has("images/000007.jpg"));
        has("twin.png")
    });
    assert_eq!(holders.count(), 1);
    for (part, name) in parts.iter().zip(["train", "val", "test"]) {
        let loaded = load(&room.path("out").join(format!("{name}.jsonl"))).unwrap();
        assert_eq!(loaded.len(), part.len());
        for example in loaded {
            let bytes = example.picture.bytes().unwrap();
            assert_eq!(example.picture.sha256, Some(sha256(&bytes)));
            assert_eq!(example.picture.split.as_deref(), Some(name));
        }
    }
    assert_eq!(room.run(&args).0, Exit::Failure, "what is there is not written over");
    let (exit, again) = room.json(&[&args[..], &["--force"]].concat());
    assert_eq!((exit, again), (Exit::Ok, report));
    let without = ["dataset", "split", &data, "--out", &out, "--json", "--force"];
    let halves = ["--train", "0.5", "--val", "0", "--test", "0.5", "--seed", "7"];
    let (exit, _) = room.json(&[&without[..], &halves].concat());
    assert_eq!(exit, Exit::Ok);
    let files = fs_err::read_dir(room.path("out")).unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["test.jsonl", "train.jsonl"], "no part of the old split is left");
}

#[test]
fn a_transformed_set_is_counted_and_goes_to_an_empty_folder() {
    let room = scenes(3);
    let (data, out) = (room.text("scenes"), room.text("sent"));
    let args = ["dataset", "transform", &data, "--out", &out, "--levels", "3,0,3", "--json"];
    let (exit, report) = room.json(&args);
    let manifest = room.text("sent/manifest.jsonl");
    let expected = json!({ "manifest": manifest, "images": 6, "sources": 3, "levels": [0, 3] });
    assert_eq!((exit, report), (Exit::Ok, expected));
    assert_eq!(load(&room.path("sent")).unwrap().len(), 6);
    fs_err::remove_file(room.path("sent/manifest.jsonl")).unwrap();
    assert_eq!(room.run(&args).0, Exit::Failure, "images are there");
}

#[test]
fn twins_are_left_out_and_contradictions_refused() {
    let room = scenes(8);
    let label = u8::from(load(&room.path("scenes")).unwrap()[2].roadwork);
    let twin = image::open(room.path("scenes/images/000002.jpg")).unwrap();
    for (name, label) in [("like.png", label), ("unlike.png", 1 - label)] {
        twin.save(room.path("scenes").join(name)).unwrap();
        room.label(name, label);
    }
    let (data, out, cache) = (room.text("scenes"), room.text("kept.jsonl"), room.text("cache"));
    let args = ["dataset", "dedup", &data, "--out", &out, "--cache", &cache, "--json"];
    let args = [&args[..], &["--threshold", "0.9999"]].concat();
    // The two copies have the same bytes and different labels.
    assert_eq!(room.run(&args).0, Exit::Failure);
    assert!(!room.path("kept.jsonl").exists());
    let grey = image::RgbImage::from_pixel(1, 1, image::Rgb([0; 3]));
    let mut other = twin.to_rgb8();
    image::imageops::overlay(&mut other, &grey, 0, 0);
    other.save(room.path("scenes/unlike.png")).unwrap();
    let (exit, report) = room.json(&args);
    assert_eq!((exit, &report["kept"]), (Exit::Ok, &json!(9)), "{report}");
    assert_eq!(report["sets"], json!([["images/000002.jpg", "like.png"]]));
    assert_eq!(report["doubtful_pairs"], 2);
    assert_eq!(load(&room.path("kept.jsonl")).unwrap().len(), 9);
}

#[test]
fn labels_go_out_and_come_back() {
    let room = Room::new(SCRIPTED);
    fs_err::create_dir_all(room.path("pool")).unwrap();
    for level in [0, 40, 90, 128, 160, 250] {
        room.grey(&format!("pool/{level:03}.png"), level);
    }
    fs_err::copy(room.path("pool/128.png"), room.path("pool/999.png")).unwrap();
    let [data, out, tasks, cache] =
        ["pool", "selected.jsonl", "tasks.json", "cache"].map(|name| room.text(name));
    let args =
        ["select", "--data", &data, "--out", &out, "--cache", &cache, "--json", "--count", "3"];
    let more = ["--label-studio", &tasks, "--image-url", "https://x.example/", "--by", "margin"];
    let (exit, report) = room.json(&[&args[..], &more, &["--pool", "1"]].concat());
    assert_eq!((exit, &report["images"]), (Exit::Ok, &json!(6)), "{report}");
    // The first stage says how bright it is, the second 0.9: the darkest have a mean near one half.
    let chosen = room.lines("selected.jsonl");
    let mut ids: Vec<_> = chosen.iter().map(|line| line["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["000.png", "040.png", "090.png"]);
    assert_eq!(report["chosen"].as_array().unwrap(), &chosen);
    let first = &chosen[0];
    assert_eq!(first["stages"]["confirm"].as_f64().map(|p| (p * 10.0).round()), Some(9.0));
    assert_eq!(room.run(&[&args[..], &more].concat()).0, Exit::Failure, "nothing is written over");

    let interface = fs_err::read_to_string(room.path("tasks.xml")).unwrap();
    assert_eq!(interface.trim_end(), crate::lab::label_studio::CONFIG);
    let tasks: Vec<Value> =
        serde_json::from_str(&fs_err::read_to_string(room.path("tasks.json")).unwrap()).unwrap();
    assert_eq!(tasks[0]["data"]["picture"], first["id"]);
    let word = |n: usize| ["roadwork", "not_roadwork"][n % 2];
    let rows = tasks.iter().zip(1_usize..).map(|(task, n)| {
        json!({ "id": n, "picture": task["data"]["picture"], "sha256": task["data"]["sha256"],
                "roadwork": word(n), "annotator": 1 })
    });
    fs_err::write(room.path("export.json"), Value::from_iter(rows).to_string()).unwrap();
    fs_err::create_dir_all(room.path("deep")).unwrap();
    let [export, labelled] = ["export.json", "deep/labelled.jsonl"].map(|name| room.text(name));
    let import =
        ["dataset", "import-labels", "--label-studio", &export, "--manifest", &out, "--json"];
    let (exit, report) = room.json(&[&import[..], &["--out", &labelled]].concat());
    assert_eq!((exit, &report["labelled"]), (Exit::Ok, &json!(3)), "{report}");
    let examples = load(&room.path("deep/labelled.jsonl")).unwrap();
    for example in &examples {
        let place = tasks.iter().position(|t| t["data"]["picture"] == example.picture.id.as_str());
        assert_eq!(example.roadwork, word(place.unwrap() + 1) == "roadwork");
        example.picture.bytes().unwrap();
    }
    // What is labelled is not chosen again.
    let rest = ["--labelled", &labelled, "--force"];
    let (exit, report) = room.json(&[&args[..], &rest].concat());
    assert_eq!((exit, &report["images"]), (Exit::Ok, &json!(3)), "{report}");
}

#[test]
fn where_nothing_can_be_written_no_work_is_done() {
    let room = Room::new(SCRIPTED);
    fs_err::create_dir_all(room.path("pool")).unwrap();
    room.grey("pool/a.png", 9);
    let [data, out, lost, same, cache] =
        ["pool", "out.jsonl", "none/out.jsonl", "pool/../out.jsonl", "cache"]
            .map(|name| room.text(name));
    let select = ["select", "--data", &data, "--count", "1", "--force", "--cache", &cache, "--out"];
    for files in [
        &[lost.as_str()][..],
        &[out.as_str(), "--label-studio", lost.as_str()],
        &[out.as_str(), "--label-studio", same.as_str()],
    ] {
        assert_eq!(room.run(&[&select[..], files].concat()).0, Exit::Failure, "{files:?}");
        assert!(!room.path("cache").exists(), "{files:?} was found out too late");
        assert!(!room.path("out.jsonl").exists());
    }
}

#[test]
fn one_stage_cannot_disagree() {
    let room = Room::new(SCRIPTED);
    fs_err::create_dir_all(room.path("pool")).unwrap();
    room.grey("pool/a.png", 9);
    let [data, out] = ["pool", "out.jsonl"].map(|name| room.text(name));
    let args = ["select", "--data", &data, "--out", &out, "--count", "1", "--by", "disagreement"];
    let one = ["--set", "cascade.order=[\"screen\"]"];
    assert_eq!(room.run(&[&args[..], &one].concat()).0, Exit::Failure);
    assert!(!room.path("out.jsonl").exists());
}
