//! `roadcrew dataset stats`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::examples;
use crate::app::Exit;
use crate::cli::failure::Failure;
use crate::cli::session::{Session, Usually, progress};
use crate::lab::dataset::stats::{self, Count};

/// Most lines of a table, and most problems of a kind that are listed.
const LINES: usize = 10;

/// Count the images of a data set by class, origin, level and size, and find what is wrong with it
///
/// Reads and decodes every image. Exits with 1 if some cannot be read, if identical images have
/// different labels, or if all are of one class.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(in crate::cli) struct Stats {
    /// The data set
    data: PathBuf,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    stats: &'a stats::Stats,
    warnings: Vec<String>,
}

impl Stats {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        let app = session.app(Usually::Quiet)?;
        app.prepare_process();
        let examples = examples(&self.data)?;
        let bar = progress(examples.len() as u64);
        let stats = stats::stats(&examples, &app.config().image, &|done| bar.set_position(done));
        bar.finish_and_clear();
        if self.json {
            let printed = Printed { stats: &stats, warnings: stats.warnings() };
            serde_json::to_writer(&mut *session.out, &printed)?;
            writeln!(session.out)?;
        } else {
            print(&stats, session.out)?;
        }
        let Count { roadwork, not_roadwork } = stats.images;
        let is_sound = stats.unreadable.is_empty()
            && stats.contradictions.is_empty()
            && roadwork.min(not_roadwork) > 0;
        Ok(if is_sound { Exit::Ok } else { Exit::Failure })
    }
}

fn print(stats: &stats::Stats, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{:<24} {:>9} {:>9} {:>9}", "", "images", "roadwork", "none")?;
    row("all", &stats.images, out)?;
    table("origin", &stats.origins, out)?;
    table("transform level", &stats.transform_levels, out)?;
    table("scene level", &stats.scene_levels, out)?;
    table("split", &stats.splits, out)?;
    table("size", &stats.sizes, out)?;
    let megabytes = stats.bytes as f64 / 1e6;
    writeln!(out, "\n{} groups, {megabytes:.1} MB", stats.groups)?;
    for (id, error) in stats.unreadable.iter().take(LINES) {
        writeln!(out, "  unreadable: {id}: {error}")?;
    }
    for set in stats.contradictions.iter().take(LINES) {
        writeln!(out, "  identical, with different labels: {}", set.join(", "))?;
    }
    for warning in stats.warnings() {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}

/// The most frequent values of a property.
fn table<K: std::fmt::Display>(
    name: &str,
    counts: &BTreeMap<K, Count>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let mut rows: Vec<(&K, &Count)> = counts.iter().collect();
    let many = rows.len() > LINES;
    if many {
        rows.sort_by_key(|(_, count)| std::cmp::Reverse(count.total()));
    }
    for (value, count) in rows.iter().take(LINES) {
        row(&format!("{name} {value}"), count, out)?;
    }
    if many {
        writeln!(out, "{name}: {} more (--json has all)", rows.len() - LINES)?;
    }
    Ok(())
}

fn row(name: &str, count: &Count, out: &mut dyn Write) -> std::io::Result<()> {
    let Count { roadwork, not_roadwork } = count;
    writeln!(out, "{name:<24} {:>9} {roadwork:>9} {not_roadwork:>9}", count.total())
}
