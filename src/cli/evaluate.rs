//! `roadcrew evaluate`

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::offline::{places, with_engine};
use super::session::{Session, Usually, progress};
use crate::actors::Engine;
use crate::app::Exit;
use crate::lab::dataset;
use crate::lab::evaluate::{Options, Report, evaluate};

/// Measure how good and how fast the configured cascade is on labelled images
///
/// DIR holds labels.jsonl, as `roadcrew scenes` writes it, or the folders roadwork/ and
/// not_roadwork/.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Evaluate {
    /// Folder of labelled images
    #[arg(value_name = "DIR")]
    data: PathBuf,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
    /// Images in flight at the same time; by default, enough to fill every batch
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    concurrency: Option<u64>,
    /// Answer each image within so many milliseconds, as good as is possible by then
    #[arg(long, value_name = "MS", default_value_t = 600_000,
          value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    deadline_ms: u64,
}

impl Evaluate {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        let app = session.app(Usually::Quiet)?;
        let failed =
            |error| Failure::new(error, "check the folder; every image in it must be readable");
        let examples = dataset::load(&self.data).map_err(failed)?;
        let most = app.config().engine.max_in_flight;
        let wanted = self.concurrency.and_then(|n| usize::try_from(n).ok());
        let options = Options {
            concurrency: wanted.unwrap_or_else(|| places(&app)).min(most),
            deadline: Duration::from_millis(self.deadline_ms),
            limits: app.config().image,
        };
        let bar = progress(examples.len() as u64);
        let report = with_engine(&app, async |engine: &Engine| {
            let report = evaluate(engine, &examples, options, &|done| bar.set_position(done)).await;
            report.map_err(failed)
        });
        bar.finish_and_clear();
        let report = report?;
        if self.json {
            serde_json::to_writer(&mut *session.out, &report)?;
            writeln!(session.out)?;
        } else {
            print(&report, session.out)?;
        }
        // Without an answer there is no figure to believe.
        Ok(if report.unanswered == 0 { Exit::Ok } else { Exit::Failure })
    }
}

fn print(report: &Report, out: &mut dyn Write) -> std::io::Result<()> {
    let Report { images, unanswered, degraded, accuracy, mcc, reward, .. } = report;
    writeln!(out, "images      {images} ({unanswered} unanswered, {degraded} degraded)")?;
    writeln!(out, "accuracy    {accuracy:.4}")?;
    writeln!(out, "MCC         {mcc:.4}")?;
    writeln!(out, "reward      {reward:.4}")?;
    for (name, slice) in &report.slices {
        writeln!(out, "  {name:<18} {:.4} of {}", slice.accuracy, slice.images)?;
    }
    for (stage, share) in &report.exits {
        writeln!(out, "answered by {stage:<12} {:.1} %", share * 100.0)?;
    }
    let latency = report.latency_ms;
    let (mean, p50, p99) = (latency.mean, latency.p50, latency.p99);
    writeln!(out, "latency     mean {mean:.1} ms, p50 {p50:.1} ms, p99 {p99:.1} ms")?;
    writeln!(out, "throughput  {:.1} images/s", report.images_per_s)?;
    writeln!(out, "decoding    {:.2} ms per image and core", report.decode_ms)
}
