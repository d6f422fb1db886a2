//! `roadcrew evaluate`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::offline::{places, with_engine};
use super::session::{Session, Usually, progress};
use crate::actors::Engine;
use crate::app::{App, Exit};
use crate::lab::answers::Options;
use crate::lab::dataset::{self, Example};
use crate::lab::evaluate::{Report, evaluate};

/// Measure the configured cascade on labelled images, and each of its stages alone
///
/// DIR holds labels.jsonl, as `roadcrew scenes` writes it, or the folders roadwork/ and
/// not_roadwork/.
///
/// Prints accuracy, Matthews' correlation coefficient (MCC), the subnet's reward, latency and
/// throughput; of the cascade also the share of verdicts by stage and the accuracy by slice.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Evaluate {
    /// Folder of labelled images
    #[arg(value_name = "DIR")]
    data: PathBuf,
    /// Print the reports as one JSON object
    #[arg(long)]
    json: bool,
    /// Take only the first so many images
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Measure the cascade as a whole, and no stage alone
    #[arg(long)]
    cascade_only: bool,
    /// Images in flight at the same time; by default, enough to fill every batch
    #[arg(long, value_name = "N")]
    concurrency: Option<usize>,
    /// Answer each image within so many milliseconds, as good as is possible by then
    #[arg(long, value_name = "MS", default_value_t = 600_000,
          value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    deadline_ms: u64,
}

/// What came out.
#[derive(Debug, Serialize)]
struct Reports {
    cascade: Report,
    /// Each stage alone, if there is more than one.
    stages: BTreeMap<String, Report>,
}

impl Evaluate {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        let app = session.app(Usually::Quiet)?;
        let next = "name a folder of labelled images; `roadcrew scenes` makes one";
        let mut examples = dataset::load(&self.data).map_err(|e| Failure::new(e, next))?;
        examples.truncate(self.limit.unwrap_or(usize::MAX));
        let cascade = self.measure("cascade", &app, &examples)?;
        let order = &app.config().cascade.order;
        let mut stages = BTreeMap::new();
        for name in order.iter().filter(|_| order.len() > 1 && !self.cascade_only) {
            let alone = app.with(|config| config.cascade.order = vec![name.clone()]);
            stages.insert(name.clone(), self.measure(name, &alone, &examples)?);
        }
        let (reports, out) = (Reports { cascade, stages }, session.out);
        if self.json {
            serde_json::to_writer(&mut *out, &reports)?;
            writeln!(out)?;
        } else {
            reports.print(order, out)?;
        }
        // Figures with holes are not to be believed.
        Ok(if reports.cascade.unanswered == 0 { Exit::Ok } else { Exit::Failure })
    }

    fn measure(&self, name: &str, app: &App, examples: &[Example]) -> Result<Report, Failure> {
        let most = app.config().engine.max_in_flight;
        let options = Options {
            concurrency: self.concurrency.unwrap_or_else(|| places(app)).clamp(1, most),
            deadline: Duration::from_millis(self.deadline_ms),
            limits: app.config().image,
        };
        let bar = progress(examples.len() as u64).with_message(name.to_owned());
        let report = with_engine(app, async |engine: &Engine| {
            let report = evaluate(engine, examples, options, &|done| bar.set_position(done)).await;
            let next = "take the image out of the data set, or raise the limit that it meets";
            report.map_err(|error| Failure::new(error, next))
        });
        bar.finish_and_clear();
        report
    }
}

impl Reports {
    fn print(&self, order: &[String], out: &mut dyn Write) -> std::io::Result<()> {
        let heads = ["images", "accuracy", "MCC", "reward", "p50 ms", "p99 ms", "images/s"];
        write!(out, "{:<16}", "")?;
        heads.iter().try_for_each(|head| write!(out, " {head:>9}"))?;
        writeln!(out)?;
        row("cascade", &self.cascade, out)?;
        for name in order {
            if let Some(report) = self.stages.get(name) {
                row(name, report, out)?;
            }
        }
        let Report { unanswered, degraded, exits, slices, decode_ms, .. } = &self.cascade;
        writeln!(out, "\nof the cascade: {degraded} degraded, {unanswered} unanswered")?;
        for (stage, share) in exits {
            writeln!(out, "  answered by {stage:<18} {:>5.1} %", share * 100.0)?;
        }
        for (name, slice) in slices {
            let (percent, images) = (slice.accuracy * 100.0, slice.images);
            writeln!(out, "  right on {name:<21} {percent:>5.1} % of {images}")?;
        }
        writeln!(out, "decoding: {decode_ms:.2} ms per image and core")
    }
}

fn row(name: &str, report: &Report, out: &mut dyn Write) -> std::io::Result<()> {
    let Report { images, accuracy, mcc, reward, images_per_s, .. } = report;
    let (p50, p99) = (report.latency_ms.p50, report.latency_ms.p99);
    write!(out, "{name:<16} {images:>9} {accuracy:>9.4} {mcc:>9.4} {reward:>9.4}")?;
    writeln!(out, " {p50:>9.1} {p99:>9.1} {images_per_s:>9.1}")
}
