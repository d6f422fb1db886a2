//! `roadcrew dataset import-labels`

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::{ensure_free, unwritten};
use crate::app::Exit;
use crate::cli::failure::Failure;
use crate::cli::session::{Session, Usually, tell};
use crate::lab::dataset::{Picture, load_pictures, manifest};
use crate::lab::label_studio::{self, Import, Task};

/// Make a manifest of labelled images from what people said in Label Studio
///
/// EXPORT is a project's export as JSON or as JSON-MIN. The label is what most annotators said;
/// cancelled annotations do not count. Left out and told: pictures on which annotators are of two
/// minds, and tasks that are not of the manifest.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(in crate::cli) struct ImportLabels {
    /// Label Studio's export
    #[arg(long, value_name = "EXPORT")]
    label_studio: PathBuf,
    /// The manifest that `roadcrew select` wrote with the tasks
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// Manifest to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write over a manifest that is there
    #[arg(long)]
    force: bool,
    /// Print the counts as one JSON object
    #[arg(long)]
    json: bool,
}

/// A line of the new manifest.
#[derive(Serialize)]
struct Labelled {
    #[serde(flatten)]
    row: manifest::Row,
    votes: Votes,
}

#[derive(Serialize)]
struct Votes {
    roadwork: u64,
    not_roadwork: u64,
}

#[derive(Serialize)]
struct Report {
    labelled: usize,
    roadwork: usize,
    not_roadwork: usize,
    /// Numbers of tasks on which annotators are of two minds.
    ties: Vec<u64>,
    /// Numbers of tasks without an annotation that counts.
    unanswered: Vec<u64>,
    /// Numbers of tasks of other pictures.
    unknown: Vec<u64>,
    /// Pictures without a task.
    missing: usize,
}

impl ImportLabels {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        session.app(Usually::Quiet)?;
        ensure_free(&self.out, self.force)?;
        let next = "name the manifest that `roadcrew select --out` wrote";
        let pictures = load_pictures(&self.manifest).map_err(|e| Failure::new(e, next))?;
        let next = "export the project from Label Studio as JSON or as JSON-MIN";
        let import = self.read(&pictures).map_err(|e| Failure::new(e, next))?;
        let report = Report::new(&import);
        let all = [("of two minds", &report.ties), ("of other pictures", &report.unknown)];
        for (what, tasks) in all.iter().filter(|(_, tasks)| !tasks.is_empty()) {
            tell(&format!("warning: {} tasks left out, {what}: {tasks:?}", tasks.len()));
        }
        if import.labelled.is_empty() {
            let error = anyhow::anyhow!("no picture of the manifest has a label");
            return Err(Failure::new(error, "check that export and manifest belong together"));
        }
        let dir = self.out.parent().unwrap_or(Path::new(""));
        let rows = import.labelled.iter().map(|(index, roadwork, task)| {
            let label = Some(Value::from(u8::from(*roadwork)));
            let row = manifest::Row { label, ..manifest::row(&pictures[*index], dir)? };
            let votes = Votes { roadwork: task.roadwork, not_roadwork: task.not_roadwork };
            Ok(Labelled { row, votes })
        });
        manifest::write_lines(&self.out, rows).map_err(unwritten)?;
        report.print(self.json, session.out)?;
        Ok(Exit::Ok)
    }

    fn read(&self, pictures: &[Picture]) -> anyhow::Result<Import> {
        use anyhow::Context as _;
        let text = fs_err::read_to_string(&self.label_studio)?;
        let tasks =
            label_studio::read(&text).with_context(|| self.label_studio.display().to_string())?;
        Ok(label_studio::match_up(tasks, pictures))
    }
}

impl Report {
    fn new(import: &Import) -> Self {
        let numbers = |tasks: &[Task]| tasks.iter().map(|task| task.number).collect();
        let labelled = import.labelled.len();
        let roadwork = import.labelled.iter().filter(|(_, roadwork, _)| *roadwork).count();
        Self {
            labelled,
            roadwork,
            not_roadwork: labelled - roadwork,
            ties: numbers(&import.ties),
            unanswered: numbers(&import.unanswered),
            unknown: numbers(&import.unknown),
            missing: import.missing,
        }
    }

    fn print(&self, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            writeln!(out)?;
            return Ok(());
        }
        let Self { labelled, roadwork, not_roadwork, missing, .. } = self;
        writeln!(out, "{labelled} labelled: {roadwork} roadwork, {not_roadwork} none")?;
        let (ties, unanswered, unknown) =
            (self.ties.len(), self.unanswered.len(), self.unknown.len());
        writeln!(
            out,
            "left out: {ties} of two minds, {unanswered} unanswered, {missing} without a task, \
             {unknown} of other pictures"
        )?;
        Ok(())
    }
}
