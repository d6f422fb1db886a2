//! `roadcrew evaluate`

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::offline::{places, with_engine};
use super::outputs::{must_be_new, new_folder, unwritten};
use super::session::{Session, Usually, progress, tell};
use crate::actors::Engine;
use crate::app::{App, Exit};
use crate::lab::answers::{Answers, Options, ask};
use crate::lab::calibrate::takes_images;
use crate::lab::dataset::{self, Example};
use crate::lab::evaluate::{Report, Slice, histogram, reliability, report, scored};
use crate::lab::facets::{Facets, facets};
use crate::lab::records;
use crate::lab::scores::{Figure, Resampling};

/// Measure the configured cascade on labelled images, and each of its stages alone
///
/// DIR holds labels.jsonl, as `roadcrew scenes` writes it, or the folders roadwork/ and
/// not_roadwork/.
///
/// Prints accuracy, Matthews' correlation coefficient (MCC), the subnet's reward, log-loss, the
/// calibration error (ECE), latency and throughput; of the cascade also intervals, the share of
/// verdicts by stage, and tables by what is known of the images.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Evaluate {
    /// Folder of labelled images
    #[arg(value_name = "DIR")]
    data: PathBuf,
    /// Print the reports as one JSON object
    #[arg(long)]
    json: bool,
    /// Take a sample of so many images, drawn by --seed, each class in its share
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
    /// Measure the cascade as a whole, and no stage alone
    #[arg(long)]
    cascade_only: bool,
    /// Write what the cascade answers to each image, one line of JSON each
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the reliability diagram and the histogram of the answers, as SVG
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Draw the images again so many times for the intervals
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    resamples: u32,
    /// Seed of these draws, and of --limit
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    asking: Asking,
}

/// How the images are asked about.
#[derive(Args, Clone, Debug)]
pub(super) struct Asking {
    /// Images in flight at the same time; by default, enough to fill every batch
    #[arg(long, value_name = "N")]
    concurrency: Option<usize>,
    /// Answer each image within so many milliseconds, as good as is possible by then
    #[arg(long, value_name = "MS", default_value_t = 600_000,
          value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    deadline_ms: u64,
}

impl Asking {
    /// The options for the engine of this app.
    pub(super) fn options(&self, app: &App) -> Options {
        let most = app.config().engine.max_in_flight;
        Options {
            concurrency: self.concurrency.unwrap_or_else(|| places(app)).clamp(1, most),
            deadline: Duration::from_millis(self.deadline_ms),
            limits: app.config().image,
        }
    }

    /// Asks the cascade of this app about every image.
    pub(super) fn ask(&self, name: &str, app: &App, data: &[Example]) -> Result<Answers, Failure> {
        let bar = progress(data.len() as u64).with_message(name.to_owned());
        let answers = with_engine(app, async |engine: &Engine| {
            let pictures = data.iter().map(|example| &example.picture);
            let done = |done| bar.set_position(done);
            ask(engine, pictures, self.options(app), &done).await.map_err(bad_image)
        });
        bar.finish_and_clear();
        answers
    }
}

/// The labelled images of a folder, or a sample of `limit` of them.
pub(super) fn load(
    data: &Path,
    limit: Option<NonZeroUsize>,
    seed: u64,
) -> Result<Vec<Example>, Failure> {
    let next = "name a folder of labelled images; `roadcrew scenes` makes one";
    let examples = dataset::load(data).map_err(|e| Failure::new(e, next))?;
    Ok(dataset::sample(examples, limit.map_or(usize::MAX, NonZeroUsize::get), seed))
}

/// An image cannot be read or is refused.
pub(super) fn bad_image(error: anyhow::Error) -> Failure {
    Failure::new(error, "take the image out of the data set, or raise the limit that it meets")
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
        self.out.as_deref().map_or(Ok(()), must_be_new)?;
        self.plots.as_deref().map_or(Ok(()), new_folder)?;
        let app = session.app(Usually::Quiet)?;
        let examples = load(&self.data, self.limit, self.seed)?;
        let facets = facets(&examples, &app.config().image).map_err(bad_image)?;
        let answers = self.asking.ask("cascade", &app, &examples)?;
        let cascade = self.report(&examples, &facets, &answers);
        self.write(&examples, &answers, &cascade)?;
        let order = &app.config().cascade.order;
        let mut stages = BTreeMap::new();
        for name in order.iter().filter(|_| order.len() > 1 && !self.cascade_only) {
            let stage = app.config().stages.get(name);
            if stage.is_some_and(|stage| !takes_images(&stage.rule)) {
                tell(&format!("stage {name} is for clips alone, and is not measured on images"));
                continue;
            }
            let alone = app.with(|config| config.cascade.order = vec![name.clone()]);
            let answers = self.asking.ask(name, &alone, &examples)?;
            stages.insert(name.clone(), self.report(&examples, &facets, &answers));
        }
        let (reports, out) = (Reports { cascade, stages }, session.out);
        if self.json {
            serde_json::to_writer(&mut *out, &reports)?;
            writeln!(out)?;
        } else {
            reports.print(order, out)?;
        }
        // Figures with holes are not to be believed.
        Ok(if reports.unanswered() == 0 { Exit::Ok } else { Exit::Failure })
    }

    fn report(&self, examples: &[Example], facets: &[Facets], answers: &Answers) -> Report {
        let resamples = self.resamples as usize;
        let resampling = Resampling { resamples, seed: self.seed, ..Resampling::default() };
        report(examples, facets, answers, resampling)
    }

    /// The files that were asked for.
    fn write(
        &self,
        examples: &[Example],
        answers: &Answers,
        report: &Report,
    ) -> Result<(), Failure> {
        if let Some(path) = &self.out {
            let records = records::records(examples, answers);
            records::write(path, &records).map_err(unwritten)?;
        }
        if let Some(dir) = &self.plots {
            let diagram = reliability(&report.reliability);
            diagram.write(&dir.join("reliability.svg")).map_err(unwritten)?;
            let spread = histogram(&scored(examples, answers));
            spread.write(&dir.join("answers.svg")).map_err(unwritten)?;
        }
        Ok(())
    }
}

impl Reports {
    /// Images without an answer, by the cascade and by each stage alone.
    fn unanswered(&self) -> u64 {
        std::iter::once(&self.cascade).chain(self.stages.values()).map(|r| r.unanswered).sum()
    }

    fn print(&self, order: &[String], out: &mut dyn Write) -> std::io::Result<()> {
        let heads = ["images", "accuracy", "MCC", "reward", "log-loss", "ECE", "p50 ms", "p99 ms"];
        write!(out, "{:<16}", "")?;
        heads.iter().try_for_each(|head| write!(out, " {head:>9}"))?;
        writeln!(out, " {:>9}", "images/s")?;
        row("cascade", &self.cascade, out)?;
        for name in order {
            if let Some(report) = self.stages.get(name) {
                row(name, report, out)?;
            }
        }
        let Report { unanswered, degraded, exits, intervals, decode_ms, .. } = &self.cascade;
        writeln!(out, "\nof the cascade: {degraded} degraded, {unanswered} unanswered")?;
        for (name, report) in self.stages.iter().filter(|(_, report)| report.unanswered > 0) {
            writeln!(out, "of {name} alone: {} unanswered", report.unanswered)?;
        }
        for (stage, share) in exits {
            writeln!(out, "  answered by {stage:<18} {:>5.1} %", share * 100.0)?;
        }
        for (figure, limits) in intervals.iter().filter(|(figure, _)| **figure != Figure::Brier) {
            let (name, low, high) = (figure.as_str(), limits.low, limits.high);
            writeln!(out, "  {name:<9} is within {low:.4} and {high:.4} (95 %)")?;
        }
        self.cascade.print_slices(out)?;
        writeln!(out, "\ndecoding: {decode_ms:.2} ms per image and core")
    }
}

impl Report {
    /// A table for each kind of knowledge that divides the images.
    fn print_slices(&self, out: &mut dyn Write) -> std::io::Result<()> {
        for (facet, values) in self.facets.iter().filter(|(_, values)| values.len() > 1) {
            writeln!(
                out,
                "\n{facet:<24} {:>9} {:>9} {:>9} {:>9}",
                "images", "accuracy", "MCC", "log-loss"
            )?;
            for (value, Slice { images, accuracy, mcc, log_loss }) in values {
                let mcc = mcc.map_or("-".to_owned(), |mcc| format!("{mcc:.4}"));
                writeln!(
                    out,
                    "  {value:<22} {images:>9} {accuracy:>9.4} {mcc:>9} {log_loss:>9.4}"
                )?;
            }
        }
        Ok(())
    }
}

fn row(name: &str, report: &Report, out: &mut dyn Write) -> std::io::Result<()> {
    let Report { images, images_per_s, figures, .. } = report;
    write!(out, "{name:<16} {images:>9}")?;
    let figures = [figures.accuracy, figures.mcc, figures.reward, figures.log_loss, figures.ece];
    figures.iter().try_for_each(|figure| write!(out, " {figure:>9.4}"))?;
    let (p50, p99) = (report.latency_ms.p50, report.latency_ms.p99);
    writeln!(out, " {p50:>9.1} {p99:>9.1} {images_per_s:>9.1}")
}
