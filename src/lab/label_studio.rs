//! Label Studio: tasks for people, and what they said.
//!
//! The shapes are those of Label Studio 1.23, whose own exports are among the fixtures. A task's data
//! has `image`, an address for the browser, and `picture` and `sha256`, by which the task is known again
//! (not `id`: the short export uses that name for the task's number).

use std::collections::{BTreeMap, HashMap};

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::dataset::{Picture, Source};
use super::select::Choice;

/// The labelling interface of a project.
pub const CONFIG: &str = "<View><Image name=\"image\" value=\"$image\"/><Choices name=\"roadwork\" \
     toName=\"image\" choice=\"single\"><Choice value=\"roadwork\"/><Choice \
     value=\"not_roadwork\"/></Choices></View>";

/// The name of the control in [`CONFIG`].
const CONTROL: &str = "roadwork";

/// A task for each choice, in their order. `prefix` goes before a file's id to make its address; an
/// image inside a parquet file, which no web server can give, is written into the task.
///
/// # Errors
/// If such an image cannot be read.
pub fn tasks(pictures: &[Picture], choices: &[Choice], prefix: &str) -> anyhow::Result<Vec<Value>> {
    let task = |choice: &Choice| {
        let picture = &pictures[choice.index];
        let image = match &picture.source {
            Source::File(_) => format!("{prefix}{}", escaped(&picture.id)),
            Source::Parquet { .. } => embedded(&picture.bytes()?),
        };
        let p = choice.informative.probability;
        let label = if p > 0.5 { "roadwork" } else { "not_roadwork" };
        let stages: Vec<&str> =
            choice.informative.stages.iter().map(|(name, _)| name.as_str()).collect();
        Ok(json!({
            "data": { "image": image, "picture": picture.id, "sha256": picture.sha256,
                      "probability": p, "why": choice.why },
            "predictions": [{
                "model_version": format!("roadcrew {}", stages.join("+")),
                "score": p.max(1.0 - p),
                "result": [{ "from_name": CONTROL, "to_name": "image", "type": "choices",
                             "value": { "choices": [label] } }],
            }],
        }))
    };
    choices.iter().map(task).collect()
}

/// A path in an address: what is not a letter, a digit or one of `-_.~/` becomes `%XX`.
fn escaped(path: &str) -> String {
    let mut address = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                address.push(char::from(byte));
            }
            _ => address.push_str(&format!("%{byte:02X}")),
        }
    }
    address
}

fn embedded(bytes: &[u8]) -> String {
    let kind = match bytes {
        [0x89, b'P', ..] => "png",
        [b'R', b'I', b'F', b'F', ..] => "webp",
        _ => "jpeg",
    };
    format!("data:image/{kind};base64,{}", BASE64_STANDARD.encode(bytes))
}

/// What people said of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Its number in Label Studio.
    pub number: u64,
    /// The id of the picture, if the task says so.
    pub picture: Option<String>,
    /// SHA-256 of the picture, if the task says so.
    pub sha256: Option<String>,
    /// Annotations that say roadwork.
    pub roadwork: u64,
    /// Annotations that say none.
    pub not_roadwork: u64,
    /// Annotations that were cancelled (skipped) or say nothing.
    pub empty: u64,
}

/// Reads an export, `JSON` or `JSON_MIN`. Which one it is shows in its first task.
///
/// # Errors
/// If it is neither, or an annotation says something else than roadwork or not_roadwork.
pub fn read(text: &str) -> anyhow::Result<Vec<Task>> {
    let rows: Vec<Value> = serde_json::from_str(text)
        .context("not a list of tasks; export from Label Studio as JSON or JSON-MIN")?;
    let mut tasks = BTreeMap::<u64, Task>::new();
    for row in &rows {
        let number = row["id"].as_u64().context("a task has no `id`")?;
        let is_full = row.get("annotations").is_some();
        let data = if is_full { &row["data"] } else { row };
        let text = |key: &str| data[key].as_str().map(str::to_owned);
        let task = tasks.entry(number).or_insert_with(|| Task {
            number,
            picture: text("picture"),
            sha256: text("sha256"),
            ..Task::default()
        });
        let count = if is_full { count_full(row, task) } else { count_min(row, task) };
        count.with_context(|| format!("task {number}"))?;
    }
    Ok(tasks.into_values().collect())
}

/// A row of `JSON` is a task with all its annotations.
fn count_full(row: &Value, task: &mut Task) -> anyhow::Result<()> {
    let annotations = row["annotations"].as_array().context("`annotations` is no list")?;
    for annotation in annotations {
        let results = annotation["result"].as_array().map_or(&[][..], Vec::as_slice);
        let result = results.iter().find(|result| result["from_name"] == CONTROL);
        let is_cancelled = annotation["was_cancelled"].as_bool() == Some(true);
        let said = result.filter(|_| !is_cancelled).map(|result| &result["value"]["choices"]);
        task.add(said)?;
    }
    Ok(())
}

/// A row of `JSON_MIN` is one annotation; cancelled ones are left out by Label Studio.
fn count_min(row: &Value, task: &mut Task) -> anyhow::Result<()> {
    task.add(row.get(CONTROL))
}

impl Task {
    /// Counts an annotation: a choice, a list of one, or nothing.
    fn add(&mut self, said: Option<&Value>) -> anyhow::Result<()> {
        let said = match said {
            Some(Value::Array(list)) if list.len() == 1 => list.first(),
            Some(Value::Array(list)) if list.is_empty() => None,
            other => other,
        };
        match said {
            None | Some(Value::Null) => self.empty += 1,
            Some(word) if word == "roadwork" => self.roadwork += 1,
            Some(word) if word == "not_roadwork" => self.not_roadwork += 1,
            Some(other) => anyhow::bail!(
                "an annotation says {other}; understood are the choices roadwork and \
                 not_roadwork of a control named `{CONTROL}`"
            ),
        }
        Ok(())
    }

    /// What most said; `None` at a tie or if nobody said anything.
    pub fn majority(&self) -> Option<bool> {
        (self.roadwork != self.not_roadwork).then_some(self.roadwork > self.not_roadwork)
    }
}

/// What came of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// Index of a picture, its label, and the task that says so; by picture.
    pub labelled: Vec<(usize, bool, Task)>,
    /// Tasks on which people are of two minds.
    pub ties: Vec<Task>,
    /// Tasks that nobody answered.
    pub unanswered: Vec<Task>,
    /// Tasks of pictures that are not in the manifest.
    pub unknown: Vec<Task>,
    /// Pictures without a task.
    pub missing: usize,
}

/// Finds the picture of each task: by its hash, or by its id where the task has no hash.
pub fn match_up(tasks: Vec<Task>, pictures: &[Picture]) -> Import {
    let by = |key: fn(&Picture) -> Option<&str>| -> HashMap<&str, usize> {
        pictures.iter().enumerate().filter_map(|(i, p)| Some((key(p)?, i))).collect()
    };
    let (by_hash, by_id) = (by(|p| p.sha256.as_deref()), by(|p| Some(&p.id)));
    let mut found = BTreeMap::<usize, Task>::new();
    let mut import = Import::default();
    for task in tasks {
        let index = match (&task.sha256, &task.picture) {
            (Some(hash), _) => by_hash.get(hash.as_str()),
            (None, Some(id)) => by_id.get(id.as_str()),
            (None, None) => None,
        };
        let Some(index) = index else {
            import.unknown.push(task);
            continue;
        };
        // A picture that was imported twice has two tasks; their votes count together.
        let entry = found.entry(*index).or_insert_with(|| Task {
            roadwork: 0,
            not_roadwork: 0,
            empty: 0,
            ..task.clone()
        });
        entry.roadwork += task.roadwork;
        entry.not_roadwork += task.not_roadwork;
        entry.empty += task.empty;
    }
    import.missing = pictures.len() - found.len();
    for (index, task) in found {
        match task.majority() {
            Some(roadwork) => import.labelled.push((index, roadwork, task)),
            None if task.roadwork > 0 => import.ties.push(task),
            None => import.unanswered.push(task),
        }
    }
    import
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::select::informative::Informative;

    const FULL: &str = include_str!("../../tests/fixtures/lab/label_studio/export.json");
    const MIN: &str = include_str!("../../tests/fixtures/lab/label_studio/export_min.json");

    fn picture(number: usize) -> Picture {
        let id = format!("images/{number}.jpg");
        let sha256 = Some(number.to_string().repeat(64));
        Picture { sha256, ..Picture::file(id.clone(), id.into()) }
    }

    #[test]
    fn the_real_exports_say_the_same_in_both_forms() {
        // One yes, one no, one cancelled, one of two minds, two to one, one without a choice.
        let votes = |tasks: &[Task]| -> Vec<_> {
            tasks.iter().map(|t| (t.number, t.roadwork, t.not_roadwork, t.empty)).collect()
        };
        let full = read(FULL).unwrap();
        let expected =
            [(1, 1, 0, 0), (2, 0, 1, 0), (3, 0, 0, 1), (4, 1, 1, 0), (5, 2, 1, 0), (6, 0, 0, 1)];
        assert_eq!(votes(&full), expected);
        let min = read(MIN).unwrap();
        let without: Vec<_> = expected.into_iter().filter(|task| task.0 != 3).collect();
        assert_eq!(votes(&min), without, "the short form leaves cancelled ones out");
        assert_eq!(full[0].picture.as_deref(), Some("images/0.jpg"));
        assert_eq!(min[0].sha256, full[0].sha256);
        let majorities: Vec<_> = full.iter().map(Task::majority).collect();
        assert_eq!(majorities, [Some(true), Some(false), None, None, Some(true), None]);
    }

    #[test]
    fn tasks_find_their_pictures_and_what_is_left_is_told() {
        let pictures: Vec<Picture> = [9, 4, 3, 2, 1].map(picture).into();
        let import = match_up(read(FULL).unwrap(), &pictures);
        let labelled: Vec<_> = import.labelled.iter().map(|(i, r, _)| (*i, *r)).collect();
        assert_eq!(labelled, [(1, true), (4, false)]);
        let numbers = |tasks: &[Task]| tasks.iter().map(|t| t.number).collect::<Vec<_>>();
        assert_eq!(numbers(&import.ties), [4]);
        assert_eq!(numbers(&import.unanswered), [3]);
        assert_eq!(numbers(&import.unknown), [1, 6]);
        assert_eq!(import.missing, 1);
    }

    #[test]
    fn a_picture_in_two_tasks_has_the_votes_of_both() {
        let task = |number, roadwork, not_roadwork| Task {
            number,
            picture: Some("images/1.jpg".into()),
            roadwork,
            not_roadwork,
            ..Task::default()
        };
        let import = match_up(vec![task(1, 1, 0), task(2, 1, 1)], &[picture(1)]);
        let [(0, true, votes)] = &import.labelled[..] else { panic!("{import:?}") };
        assert_eq!((votes.roadwork, votes.not_roadwork), (2, 1));
    }

    #[test]
    fn what_is_no_export_is_refused() {
        for (text, part) in [
            ("{}", "list of tasks"),
            ("[{}]", "no `id`"),
            (r#"[{"id": 4, "roadwork": "maybe"}]"#, "task 4"),
            (r#"[{"id": 4, "roadwork": {"choices": ["roadwork", "not_roadwork"]}}]"#, "task 4"),
            (r#"[{"id": 4, "annotations": 1}]"#, "task 4"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn tasks_have_the_shape_that_label_studio_imports() {
        let odd = Picture {
            sha256: Some("ab".into()),
            ..Picture::file("a b/ü&?.jpg".into(), "x".into())
        };
        let stages = vec![("screen".into(), 0.2), ("confirm".into(), 0.4)];
        let choice = Choice {
            index: 0,
            informative: Informative::new(stages).unwrap(),
            informative_rank: 1,
            distance: None,
            why: "because".into(),
        };
        let tasks = tasks(&[odd], &[choice], "https://pictures.example/").unwrap();
        let task = &tasks[0];
        assert_eq!(task["data"]["image"], "https://pictures.example/a%20b/%C3%BC%26%3F.jpg");
        assert_eq!(task["data"]["sha256"], "ab");
        let prediction = &task["predictions"][0];
        assert_eq!(prediction["model_version"], "roadcrew screen+confirm");
        assert!((prediction["score"].as_f64().unwrap() - 0.7).abs() < 1e-9);
        assert_eq!(prediction["result"][0]["value"]["choices"], json!(["not_roadwork"]));
        assert!(CONFIG.contains("<Choices name=\"roadwork\" toName=\"image\""));
        assert_eq!(embedded(b"\x89PNG"), "data:image/png;base64,iVBORw==");
    }
}
