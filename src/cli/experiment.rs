//! `roadcrew experiment`

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;

use super::evaluate::{Asking, bad_image, load};
use super::failure::Failure;
use super::offline::with_engines;
use super::outputs::{new_folder, unwritten};
use super::session::{Session, Usually, progress};
use crate::actors::Engine;
use crate::app::{App, Exit};
use crate::lab::answers::Options;
use crate::lab::dataset::Example;
use crate::lab::experiment::{
    self as lab, Contender, Run, accuracy_over_cost, compare, interleave,
};
use crate::lab::files::write_json;
use crate::lab::records;
use crate::lab::scores::{Difference, Figure, Resampling};

/// Compare two or more cascades on the same images: accuracy, certainty, cost
///
/// Each FILE is a settings file that is read after every --config; the first is the one that the
/// others are compared with. All cascades are loaded together and asked in turns, chunk by chunk,
/// so that a noisy machine treats them alike.
///
/// Prints a table of the cascades, McNemar's test and the differences with intervals (paired
/// bootstrap) of each with the first, and what follows from them.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Experiment {
    /// Settings files, one for each cascade, at least two
    #[arg(value_name = "FILE", num_args = 2.., required = true)]
    cascades: Vec<PathBuf>,
    /// Folder of labelled images
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Write experiment.json, the plot of accuracy against cost, and every cascade's answers
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
    /// Take a sample of so many images, drawn by --seed, each class in its share
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
    /// The difference in accuracy that matters: how many images would it need?
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = difference)]
    difference: f64,
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

fn difference(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "it must be above 0 and at most 1".into())
}

impl Experiment {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        self.out.as_deref().map_or(Ok(()), new_folder)?;
        // Starts the logs, and finds what is wrong with every cascade.
        session.app(Usually::Quiet)?;
        let app = |path: &PathBuf| Ok((path.display().to_string(), session.app_with(path)?));
        let apps: Vec<(String, App)> =
            self.cascades.iter().map(app).collect::<Result<_, Failure>>()?;
        let examples = load(&self.data, self.limit, self.seed)?;
        let runs = self.measure(&apps, &examples)?;
        let resamples = self.resamples as usize;
        let resampling = Resampling { resamples, seed: self.seed, ..Resampling::default() };
        let compared = compare(&runs, resampling, self.difference);
        let next = "give every cascade time to answer (--deadline-ms), and name different images";
        let found = compared.map_err(|error| Failure::new(error, next))?;
        if let Some(dir) = &self.out {
            write(dir, &runs, &found).map_err(unwritten)?;
        }
        let out = session.out;
        if self.json {
            serde_json::to_writer(&mut *out, &found)?;
            writeln!(out)?;
        } else {
            print(&found, out)?;
        }
        // Figures with holes are not to be believed.
        Ok(if found.left_out == 0 { Exit::Ok } else { Exit::Failure })
    }

    /// The same number in flight for all: enough for each, and no more than any admits.
    fn concurrency(&self, apps: &[(String, App)]) -> usize {
        let enough = apps.iter().map(|(_, app)| self.asking.options(app).concurrency).max();
        let most = apps.iter().map(|(_, app)| app.config().engine.max_in_flight).min();
        enough.unwrap_or(1).min(most.unwrap_or(1))
    }

    fn measure(&self, apps: &[(String, App)], data: &[Example]) -> Result<Vec<Run>, Failure> {
        let bar = progress((data.len() * apps.len()) as u64).with_message("images by cascades");
        let runs = with_engines(apps, async |engines: &[Engine]| {
            let concurrency = self.concurrency(apps);
            let contender = |(engine, (name, app)): (_, &(String, App))| Contender {
                name: name.clone(),
                engine,
                options: Options { concurrency, ..self.asking.options(app) },
            };
            let contenders: Vec<_> = engines.iter().zip(apps).map(contender).collect();
            let done = |done| bar.set_position(done);
            interleave(&contenders, data, &done).await.map_err(bad_image)
        });
        bar.finish_and_clear();
        runs
    }
}

fn write(dir: &Path, runs: &[Run], found: &lab::Experiment) -> anyhow::Result<()> {
    for (index, run) in runs.iter().enumerate() {
        let stem = Path::new(&run.name).file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("answers-{}-{stem}.jsonl", index + 1);
        records::write(&dir.join(name), &run.records)?;
    }
    accuracy_over_cost(found).write(&dir.join("accuracy-over-cost.svg"))?;
    write_json(&dir.join("experiment.json"), found)
}

fn print(found: &lab::Experiment, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(
        out,
        "{} images; {} left out, since not every cascade answered",
        found.images, found.left_out
    )?;
    let width =
        found.cascades.iter().map(|cascade| cascade.name.chars().count()).max().unwrap_or(0);
    let width = width.clamp(16, 40);
    write!(out, "\n{:<width$}", "")?;
    let heads =
        ["accuracy", "MCC", "reward", "log-loss", "ECE", "ms/image", "mean ms", "p50 ms", "p99 ms"];
    heads.iter().try_for_each(|head| write!(out, " {head:>9}"))?;
    writeln!(out, " {:>9}", "images/s")?;
    for cascade in &found.cascades {
        let (f, latency) = (&cascade.figures, &cascade.latency_ms);
        write!(out, "{:<width$}", cascade.name)?;
        for figure in [f.accuracy, f.mcc, f.reward, f.log_loss, f.ece] {
            write!(out, " {figure:>9.4}")?;
        }
        for ms in
            [cascade.ms_per_image, latency.mean, latency.p50, latency.p99, cascade.images_per_s]
        {
            write!(out, " {ms:>9.1}")?;
        }
        writeln!(out)?;
    }
    found.cascades.iter().try_for_each(|cascade| print_stages(cascade, out))?;
    found.pairs.iter().try_for_each(|pair| print_pair(pair, out))?;
    writeln!(out)?;
    found.conclusions.iter().try_for_each(|sentence| writeln!(out, "{sentence}"))
}

fn print_stages(cascade: &lab::Cascade, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "\n{}, by stage: asked, answers, milliseconds of a lone image", cascade.name)?;
    for (name, stage) in &cascade.stages {
        let (asked, exits) = (100.0 * stage.asked, 100.0 * stage.exits);
        let ms = 1e3 * stage.seconds_per_image;
        writeln!(out, "  {name:<14} {asked:>6.1} % {exits:>6.1} % {ms:>9.2}")?;
    }
    Ok(())
}

fn print_pair(pair: &lab::Pair, out: &mut dyn Write) -> std::io::Result<()> {
    let lab::Pair { first, second, mcnemar, p_corrected, differences, .. } = pair;
    writeln!(out, "\n{second} less {first}:")?;
    let (only_second, only_first) = (mcnemar.only_second, mcnemar.only_first);
    write!(out, "  only the former right: {only_second}, only the latter: {only_first}; ")?;
    let test = if mcnemar.exact { "exact" } else { "with continuity correction" };
    writeln!(out, "McNemar's p {:.4} ({test}), {p_corrected:.4} after Holm", mcnemar.p)?;
    print_differences(differences, out)
}

fn print_differences(
    differences: &BTreeMap<Figure, Difference>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    for (figure, found) in differences {
        let (name, value) = (figure.as_str(), found.value);
        let (low, high) = (found.interval.low, found.interval.high);
        writeln!(out, "  {name:<9} {value:>+9.4}, within {low:+.4} and {high:+.4} (95 %)")?;
    }
    Ok(())
}
