//! `roadcrew calibrate`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::failure::Failure;
use super::offline::{places, with_engine};
use super::session::{Session, Usually, progress, tell};
use crate::actors::Engine;
use crate::app::{App, Exit};
use crate::lab::answers;
use crate::lab::calibrate::measure::{digest, digests, measure};
use crate::lab::calibrate::overlay::{Provenance, overlay};
use crate::lab::calibrate::report::Report;
use crate::lab::calibrate::split::{count, grouped};
use crate::lab::calibrate::{
    Divided, Options, Outcome, Sample, Stage, TooFew, calibrate, divide, takes_images,
};
use crate::lab::dataset::{self, Example, Picture};
use crate::lab::files::write_whole;

/// Calibrate the configured cascade and choose its early exits, with a guarantee
///
/// DIR holds labels.jsonl, as `roadcrew scenes` writes it, or the folders roadwork/ and
/// not_roadwork/. Use images that no stage was trained on, like those that will be asked about.
///
/// Asks every stage alone about every image, and measures its cost. On one part of the images each
/// stage's probabilities are calibrated and settings drawn up; on the other they are tested. What is
/// written holds, with probability 1 - D over the sample: the cascade is wrong where the same stages
/// without early exits are right with probability E at most. Among such settings it is the cheapest.
///
/// Writes FILE, settings for `--config`, and beside it a plot of accuracy and cost, with .svg for its
/// ending. Writes nothing, and exits with 1, if the images are too few or no early exit can be
/// certified; it says how many are needed.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Calibrate {
    /// Folder of labelled images
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Most that the error may exceed that of the full cascade, such as 0.02
    #[arg(long, value_name = "E")]
    epsilon: f64,
    /// How often the guarantee may fail, over samples, such as 0.1
    #[arg(long, value_name = "D")]
    delta: f64,
    /// File to write the settings to; the plot goes beside it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write over files that are there
    #[arg(long)]
    force: bool,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
    /// Seed of the division into two parts
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Share of the images that is fitted to; the rest tests
    #[arg(long, value_name = "SHARE", default_value_t = 0.333)]
    fit_share: f64,
    /// Images in flight at the same time; by default, enough to fill every batch
    #[arg(long, value_name = "N")]
    concurrency: Option<usize>,
    /// Answer each image within so many milliseconds, or fail
    #[arg(long, value_name = "MS", default_value_t = 600_000,
          value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    deadline_ms: u64,
}

impl Calibrate {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        let app = session.app(Usually::Quiet)?;
        let plot = self.plot_file()?;
        warn_of_environment();
        let policy = &app.config().cascade.policy;
        if policy != "cascade" {
            let error = anyhow::anyhow!("cascade.policy is {policy}, which has no early exits");
            let next = "set cascade.policy to cascade: it is what is calibrated";
            return Err(Failure::new(error, next));
        }
        let next = "name a folder of labelled images; `roadcrew scenes` makes one";
        let examples = dataset::load(&self.data).map_err(|e| Failure::new(e, next))?;
        // Before anything is measured: it is the digest of what is asked about.
        let next = "check that the images can be read";
        let digests = digests(&examples).map_err(|e| Failure::new(e, next))?;
        let data = digest(&examples, &digests);
        let sample = self.sample(&app, &examples, &digests)?;
        let outcome = calibrate(&sample, self.options()).map_err(unfit)?;
        let out = session.out;
        match outcome {
            Outcome::TooFew(few) => Err(self.too_few(few)),
            Outcome::Nothing { report, needed_in_all } => {
                self.print(&report, None, out)?;
                Err(nothing(&report, needed_in_all))
            }
            Outcome::Certified(report) => {
                let written = self.write(&app, &report, data, &plot);
                written.map_err(|e| Failure::new(e, "write to a folder that is there"))?;
                self.print(&report, Some(&plot), out)?;
                Ok(Exit::Ok)
            }
        }
    }

    fn options(&self) -> Options {
        let Self { epsilon, delta, fit_share, seed, .. } = *self;
        Options { epsilon, delta, fit_share, seed }
    }

    /// Where the plot goes; an error if it, or the settings, would replace a file.
    fn plot_file(&self) -> Result<PathBuf, Failure> {
        let plot = self.out.with_extension("svg");
        let usage = |message: String, next: &str| Failure::Error {
            error: anyhow::anyhow!(message),
            next: next.to_owned(),
            exit: Exit::Usage,
        };
        if plot == self.out {
            let message = "--out is a file of settings, and the plot gets the ending .svg".into();
            return Err(usage(message, "name it FILE.toml"));
        }
        let folder = self.out.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let error = anyhow::anyhow!("{} is no folder", folder.display());
            return Err(Failure::new(error, "make it, or write to a folder that is there"));
        }
        for file in [&self.out, &plot] {
            if file.exists() && !self.force {
                let message = format!("{} is there already", file.display());
                return Err(Failure::new(
                    anyhow::anyhow!(message),
                    "choose another name, or add --force to write over it",
                ));
            }
        }
        Ok(plot)
    }

    /// What every stage says of every image, unless that cannot prove anything.
    fn sample(
        &self,
        app: &App,
        examples: &[Example],
        digests: &[String],
    ) -> Result<Sample, Failure> {
        let labels: Vec<bool> = examples.iter().map(|example| example.roadwork).collect();
        let groups: Vec<Option<String>> =
            examples.iter().map(|example| example.picture.group.clone()).collect();
        let groups = grouped(&groups, digests);
        let divided = divide(&labels, &groups, self.options()).map_err(unfit)?;
        if let Divided::TooFew(few) = divided {
            return Err(self.too_few(few));
        }
        if groups.iter().any(Option::is_some) {
            let (images, units) = (groups.len(), count(&groups));
            tell(&format!(
                "warning: {images} images come in {units} groups, equal files being one\n  next: \
                 nothing; groups are tested by one image each, and the guarantee is about a group drawn \
                 as these were"
            ));
        }
        let pictures: Vec<&Picture> = examples.iter().map(|example| &example.picture).collect();
        let config = app.config();
        let mut stages = Vec::new();
        for name in &config.cascade.order {
            let Some(stage) = config.stages.get(name) else { continue };
            if takes_images(&stage.rule) {
                stages.push(self.ask(app, name, &pictures)?);
            } else {
                tell(&format!(
                    "warning: stage {name} is for clips alone and stays as it is\n  next: its exits \
                     are not calibrated, since the data set holds images"
                ));
            }
        }
        Ok(Sample { stages, exhausted: config.cascade.exhausted, labels, groups })
    }

    /// What a stage says alone and uncalibrated, and what it costs.
    fn ask(&self, app: &App, name: &str, pictures: &[&Picture]) -> Result<Stage, Failure> {
        let alone = app.with(|config| {
            config.cascade.order = vec![name.to_owned()];
            if let Some(stage) = config.stages.get_mut(name) {
                stage.calibration = Default::default();
                stage.rule.when = Default::default();
            }
        });
        let most = alone.config().engine.max_in_flight;
        let options = answers::Options {
            concurrency: self.concurrency.unwrap_or_else(|| places(&alone)).clamp(1, most),
            deadline: Duration::from_millis(self.deadline_ms),
            limits: alone.config().image,
        };
        let bar = progress(pictures.len() as u64).with_message(name.to_owned());
        let asked = with_engine(&alone, async |engine: &Engine| {
            let done = |count| bar.set_position(count);
            let asked = measure(engine, name, pictures, options, &done).await;
            let next = "take the image out of the data set, or correct the stage's settings";
            asked.map_err(|error| Failure::new(error, next))
        });
        bar.finish_and_clear();
        let (scores, cost) = asked?;
        let configured = app.config().stages.get(name).cloned();
        let configured = configured
            .ok_or_else(|| Failure::internal(anyhow::anyhow!("stage {name} is not configured")))?;
        let (rule, calibration) = (configured.rule, configured.calibration);
        Ok(Stage { name: name.to_owned(), rule, calibration, cost, scores })
    }

    fn too_few(&self, few: TooFew) -> Failure {
        let next = format!(
            "label {} more, or ask for less: a larger --epsilon ({}) or --delta ({}), or a \
             smaller --fit-share ({})",
            few.needed_in_all.saturating_sub(few.units as u64).max(1),
            self.epsilon,
            self.delta,
            self.fit_share
        );
        Failure::new(few, &next)
    }

    fn write(&self, app: &App, report: &Report, data: String, plot: &Path) -> anyhow::Result<()> {
        let cascade = &app.config().cascade;
        let exhausted = serde_json::to_value(cascade.exhausted)?;
        let exhausted = exhausted.as_str().unwrap_or_default().to_owned();
        let mut stages = Vec::new();
        for name in report.stages.iter().map(|stage| &stage.name) {
            if let Some(stage) = app.config().stages.get(name) {
                let settings = serde_json::to_string(&stage.settings())?;
                stages.push(format!("{name}: {} {settings}", stage.spec.backend));
            }
        }
        let order = cascade.order.clone();
        let provenance = Provenance { data, order, exhausted, stages };
        if let Some(text) = overlay(report, &provenance)? {
            write_whole(&self.out, text.as_bytes())?;
        }
        report.plot().write(plot)
    }

    fn print(
        &self,
        report: &Report,
        plot: Option<&Path>,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        if self.json {
            let settings = plot.map(|_| self.out.display().to_string());
            let plot = plot.map(|path| path.display().to_string());
            let bound = report.bound();
            serde_json::to_writer(
                &mut *out,
                &json!({ "report": report, "bound_uncorrected": bound, "settings": settings, "plot": plot }),
            )?;
            writeln!(out)?;
            return Ok(());
        }
        write!(out, "{}", report.table())?;
        if let (Some(outcome), Some(plot)) = (report.outcome(), plot) {
            let Options { epsilon, delta, .. } = report.options;
            let (harms, tested) = (outcome.harms, report.tested);
            writeln!(
                out,
                "\ncertified: {harms} harms of {tested}, at most {epsilon} with confidence {}",
                1.0 - delta
            )?;
            writeln!(out, "{}\n{}", self.out.display(), plot.display())?;
        }
        Ok(())
    }
}

/// Variables that win over the file that is written.
fn warn_of_environment() {
    for name in ["CASCADE_THRESHOLD_LOW", "CASCADE_THRESHOLD_HIGH"] {
        if std::env::var_os(name).is_some() {
            tell(&format!(
                "warning: {name} is set in the environment, and wins over the exits in every file\n  \
                 next: unset it where you serve with what is written here"
            ));
        }
    }
}

/// The sample cannot be fitted to.
fn unfit(error: anyhow::Error) -> Failure {
    Failure::new(error, "correct the option, or name a data set with enough images of both classes")
}

/// No early exit is safe enough, as far as can be told.
fn nothing(report: &Report, needed_in_all: Option<u64>) -> Failure {
    let Options { epsilon, delta, .. } = report.options;
    let tested = report.tested;
    let Some(safest) = report.settings.first() else {
        let error = anyhow::anyhow!(
            "no early exit can be certified: no stage but the last tells the images apart"
        );
        return Failure::new(
            error,
            "train the early stages, or leave them out; nothing was written",
        );
    };
    let error = anyhow::anyhow!(
        "no early exit can be certified for epsilon {epsilon} and delta {delta}: even the safest was \
         wrong where the full cascade is right for {} of {tested} images",
        safest.harms
    );
    let units = report.units;
    let noun = if units == report.images() { "images" } else { "groups" };
    let more = match needed_in_all {
        Some(needed) => format!(
            "if that went on at the same rate, about {} {noun} more would certify it",
            needed.saturating_sub(units as u64)
        ),
        None => "more images like these would not help".to_owned(),
    };
    let next = format!(
        "{more}; or ask for less with a larger --epsilon or --delta. Nothing was written: exit_below \
         0 and exit_above 1 never exit early"
    );
    Failure::new(error, &next)
}
