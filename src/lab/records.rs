//! What was said of each image, one line of JSON for each: written by `evaluate` and `experiment`,
//! read by `simulate-validator`.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answers::Answers;
use super::dataset::Example;
use super::files::write_whole;
use super::scores::Scored;
use crate::prediction::Hop;

/// One image, its label and its answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// The image's name in its data set.
    pub id: String,
    /// 1 where there is roadwork, else 0.
    pub label: u8,
    /// The cascade's probability of roadwork; none if there is no verdict.
    pub probability: Option<f64>,
    /// The stage whose score it is.
    pub stage: Option<String>,
    /// The stages that were asked, in order.
    pub stages: Vec<Asked>,
    /// From submission to the outcome, in milliseconds.
    pub latency_ms: f64,
    /// Why the verdict is less than usual, if it is.
    pub degraded: Option<&'static str>,
    /// Why there is no verdict, if there is none.
    pub rejection: Option<String>,
}

/// What one stage said.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Asked {
    /// Its name.
    pub stage: String,
    /// Its probability of roadwork; none if it abstained or failed.
    pub probability: Option<f64>,
    /// Waiting and computing there, in milliseconds.
    pub latency_ms: f64,
    /// The jobs that shared the batch.
    pub batch: usize,
}

impl Asked {
    fn of(hop: &Hop) -> Self {
        Self {
            stage: hop.stage.to_string(),
            probability: hop.probability().map(|p| f64::from(p.get())),
            latency_ms: hop.latency.as_secs_f64() * 1e3,
            batch: hop.batch_size,
        }
    }
}

impl Record {
    /// The answer with its truth, if there is an answer.
    pub fn scored(&self) -> Option<Scored> {
        Some(Scored { truth: self.label == 1, probability: self.probability? })
    }
}

/// One record for each example, in their order.
pub fn records(examples: &[Example], answers: &Answers) -> Vec<Record> {
    let record = |(example, answer): (&Example, &super::answers::Answer)| {
        let verdict = answer.outcome.as_ref().ok();
        Record {
            id: example.picture.id.clone(),
            label: u8::from(example.roadwork),
            probability: verdict.map(|v| f64::from(v.probability.get())),
            stage: verdict.map(|v| v.stage.to_string()),
            stages: verdict.map_or(Vec::new(), |v| v.trace.iter().map(Asked::of).collect()),
            latency_ms: answer.took.as_secs_f64() * 1e3,
            degraded: verdict.and_then(|v| v.degraded).map(|why| why.as_str()),
            rejection: answer.outcome.as_ref().err().map(ToString::to_string),
        }
    };
    examples.iter().zip(&answers.answers).map(record).collect()
}

/// Writes them, one line each, whole or not at all.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, records: &[Record]) -> Result<()> {
    let mut bytes = Vec::new();
    for record in records {
        serde_json::to_writer(&mut bytes, record)?;
        bytes.push(b'\n');
    }
    write_whole(path, &bytes)
}

/// What a log says of one image. Any number is taken for an answer, since validators do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logged {
    /// Whether there is roadwork.
    pub label: bool,
    /// The answer, if there is one.
    pub answer: Option<f64>,
}

/// Reads a log: lines of JSON with `label` (0 or 1) and `probability` (a number, or null where there
/// was no answer); whatever else they hold is left alone.
///
/// # Errors
/// If the file cannot be read, holds no lines, or a line is wrong: the message names it.
pub fn read(path: &Path) -> Result<Vec<Logged>> {
    let text = fs_err::read_to_string(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let logged = lines.map(|(index, line)| {
        logged(line).with_context(|| format!("{}, line {}", path.display(), index + 1))
    });
    let logged: Vec<Logged> = logged.collect::<Result<_>>()?;
    if logged.is_empty() {
        bail!("{} holds no lines", path.display());
    }
    Ok(logged)
}

fn logged(line: &str) -> Result<Logged> {
    #[derive(Deserialize)]
    struct Line {
        label: Value,
        /// Must be there: a log without it is another kind of file.
        #[serde(deserialize_with = "Option::deserialize")]
        probability: Option<f64>,
    }
    let line: Line = serde_json::from_str(line)?;
    let label = match (line.label.as_f64(), line.label.as_bool()) {
        (Some(1.0), _) | (_, Some(true)) => true,
        (Some(0.0), _) | (_, Some(false)) => false,
        _ => bail!("label is {}, and must be 0 or 1", line.label),
    };
    Ok(Logged { label, answer: line.probability })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, probability: Option<f64>) -> Record {
        let stages = vec![Asked { stage: "a".into(), probability, latency_ms: 2.0, batch: 4 }];
        Record {
            id: id.to_owned(),
            label: 1,
            probability,
            stage: None,
            stages,
            latency_ms: 3.0,
            degraded: None,
            rejection: None,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answers.jsonl");
        write(&path, &[record("a", Some(0.25)), record("b", None)]).unwrap();
        let answer = |answer| Logged { label: true, answer };
        assert_eq!(read(&path).unwrap(), [answer(Some(0.25)), answer(None)]);
    }

    #[test]
    fn other_programs_logs_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text = "{\"label\":true,\"probability\":1.7,\"x\":[1]}\n\n{\"label\":0.0,\"probability\":-1}\n";
        fs_err::write(&path, text).unwrap();
        let found = read(&path).unwrap();
        assert_eq!(found[0], Logged { label: true, answer: Some(1.7) });
        assert_eq!(found[1], Logged { label: false, answer: Some(-1.0) });
    }

    #[test]
    fn a_wrong_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let said = |line: &str| {
            fs_err::write(&path, format!("{{\"label\":1,\"probability\":1}}\n{line}\n")).unwrap();
            format!("{:#}", read(&path).unwrap_err())
        };
        for wrong in [
            "x",
            "{\"label\":2,\"probability\":1}",
            "{\"label\":1}",
            "{\"label\":1,\"probability\":NaN}",
        ] {
            assert!(said(wrong).contains("log, line 2"), "{}", said(wrong));
        }
        fs_err::write(&path, "\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("no lines"));
    }
}
