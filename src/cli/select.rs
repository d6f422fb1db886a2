//! `roadcrew select`

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::dataset::{FeatureArgs, ensure_free, unwritten};
use super::failure::Failure;
use super::offline::{places, with_engine};
use super::session::{Session, Usually, progress, tell};
use crate::actors::Engine;
use crate::app::{App, Exit};
use crate::lab::answers::{Answer, Options, ask};
use crate::lab::dataset::{Picture, load_pictures, manifest};
use crate::lab::features::digests_hex;
use crate::lab::files::{write_json, write_whole};
use crate::lab::label_studio;
use crate::lab::select::informative::{By, Informative};
use crate::lab::select::{Choice, SelectSpec, candidates, choose};
use crate::prediction::Hop;

/// Choose the unlabelled images that are most worth labelling
///
/// Asks each stage of the configured cascade about every image, orders the images by what there is to
/// learn from them, and chooses among the best ones such that differ from each other. Writes a
/// manifest, and tasks for Label Studio if asked to; `roadcrew dataset import-labels` reads what
/// people said there. The same images and models give the same choice.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Select {
    /// Folder of images, or a data set in any form that `roadcrew dataset` reads; labels are ignored
    #[arg(long, value_name = "DATA")]
    data: PathBuf,
    /// How many to choose
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    count: usize,
    /// Manifest to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What there is to learn from an image
    #[arg(long, value_enum, default_value_t = Measure::Mixed)]
    by: Measure,
    /// Choose among so many times N of the best; 1 looks at no differences
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = at_least_one)]
    pool: usize,
    /// Images that are labelled already: they are not chosen, and what is like them comes last
    #[arg(long, value_name = "DATA")]
    labelled: Option<PathBuf>,
    /// Also write tasks for Label Studio, and its labelling interface beside them as .xml
    #[arg(long, value_name = "FILE")]
    label_studio: Option<PathBuf>,
    /// Put this before an image's path to make its address in those tasks
    #[arg(long, value_name = "PREFIX", default_value = "/data/local-files/?d=")]
    image_url: String,
    #[command(flatten)]
    features: FeatureArgs,
    /// Write over files that are there
    #[arg(long)]
    force: bool,
    /// Print the choices as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Measure {
    /// Entropy of the stages' mean probability
    Uncertainty,
    /// How near that is to one half; orders as uncertainty does, since there are two classes
    Margin,
    /// Jensen-Shannon divergence of the stages' probabilities
    Disagreement,
    /// Uncertainty plus disagreement
    Mixed,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n >= 1).ok_or_else(|| "it must be a whole number from 1".into())
}

/// A line of the manifest.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    row: manifest::Row,
    #[serde(flatten)]
    choice: &'a Choice,
}

#[derive(Serialize)]
struct Report<'a> {
    /// Images that could have been chosen.
    images: usize,
    /// Images without an answer from any stage.
    unanswered: usize,
    chosen: Vec<Row<'a>>,
}

impl Select {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        let app = session.app(Usually::Quiet)?;
        self.ensure_free()?;
        if matches!(self.by, Measure::Disagreement) && app.config().cascade.order.len() < 2 {
            let error = anyhow::anyhow!("one stage cannot disagree with itself");
            return Err(Failure::new(error, "choose another --by, or configure a second stage"));
        }
        let known = self.labelled.as_deref().map(pictures).transpose()?.unwrap_or_default();
        let pictures = fresh(pictures(&self.data)?, &known)?;
        let pool = self.informative(&app, &pictures)?;
        let spec = SelectSpec { count: self.count, by: self.by.into(), pool: self.pool };
        let order = candidates(&pool, &spec);
        let refs = |pictures: &[usize], all: &[Picture]| -> Vec<Picture> {
            pictures.iter().map(|i| all[*i].clone()).collect()
        };
        let best = refs(&order, &pictures);
        let limits = app.config().image;
        let rows = self.features.compute(&best.iter().collect::<Vec<_>>(), limits)?;
        let seen = (!known.is_empty())
            .then(|| self.features.compute(&known.iter().collect::<Vec<_>>(), limits))
            .transpose()?;
        let choices = choose(&pool, &order, &rows, seen.as_ref(), &spec)
            .map_err(|e| Failure::new(e, "name another --model"))?;
        self.write(&pictures, &choices)?;
        self.print(&pictures, &pool, &choices, session.out)?;
        Ok(Exit::Ok)
    }

    /// Refuses files that are there or cannot be, and one name for two of them.
    fn ensure_free(&self) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        let tasks = self.label_studio.iter();
        let theirs = tasks.flat_map(|tasks| [tasks.clone(), interface(tasks)]);
        for file in std::iter::once(self.out.clone()).chain(theirs) {
            ensure_free(&file, self.force)?;
            if !seen.insert(place(&file)?) {
                let error = anyhow::anyhow!("{} would be written twice", file.display());
                let next = "give --out and --label-studio names of their own";
                return Err(Failure::new(error, next));
            }
        }
        Ok(())
    }

    /// What each stage alone makes of each picture.
    fn informative(
        &self,
        app: &App,
        pictures: &[Picture],
    ) -> Result<Vec<Option<Informative>>, Failure> {
        let mut said = vec![Vec::new(); pictures.len()];
        for name in &app.config().cascade.order {
            let alone = app.with(|config| config.cascade.order = vec![name.clone()]);
            for (said, answer) in said.iter_mut().zip(answers(name, &alone, pictures)?) {
                if let Ok(verdict) = answer.outcome {
                    let mut hops = verdict.trace.iter().filter_map(Hop::probability);
                    said.extend(hops.next_back().map(|p| (name.clone(), f64::from(p.get()))));
                }
            }
        }
        let pool: Vec<_> = said.into_iter().map(Informative::new).collect();
        let unanswered = pool.iter().filter(|found| found.is_none()).count();
        if unanswered == pool.len() {
            let error = anyhow::anyhow!("no stage had an answer for any image");
            return Err(Failure::new(error, "see what `roadcrew predict` says of one of them"));
        }
        if unanswered > 0 {
            tell(&format!("warning: no stage had an answer for {unanswered} images"));
        }
        Ok(pool)
    }

    fn write(&self, pictures: &[Picture], choices: &[Choice]) -> Result<(), Failure> {
        let dir = self.out.parent().unwrap_or(Path::new(""));
        let rows = choices
            .iter()
            .map(|choice| Ok(Row { row: manifest::row(&pictures[choice.index], dir)?, choice }));
        if let Some(path) = &self.label_studio {
            let tasks = label_studio::tasks(pictures, choices, &self.image_url);
            write_json(path, &tasks.map_err(unwritten)?).map_err(unwritten)?;
            let text = format!("{}\n", label_studio::CONFIG);
            write_whole(&interface(path), text.as_bytes()).map_err(unwritten)?;
        }
        manifest::write_lines(&self.out, rows).map_err(unwritten)
    }

    fn print(
        &self,
        pictures: &[Picture],
        pool: &[Option<Informative>],
        choices: &[Choice],
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let dir = self.out.parent().unwrap_or(Path::new(""));
        let unanswered = pool.iter().filter(|found| found.is_none()).count();
        if self.json {
            let chosen = choices.iter().map(|choice| {
                let row = manifest::row(&pictures[choice.index], dir).map_err(unwritten)?;
                Ok(Row { row, choice })
            });
            let chosen = chosen.collect::<Result<_, Failure>>()?;
            let report = Report { images: pictures.len(), unanswered, chosen };
            serde_json::to_writer(&mut *out, &report)?;
            writeln!(out)?;
            return Ok(());
        }
        writeln!(out, "{:>6} {:>9} {:>9} {:>9}  image", "p", "uncert.", "disagr.", "distance")?;
        for choice in choices {
            let Informative { probability, uncertainty, disagreement, .. } = choice.informative;
            let far = choice.distance.map_or("-".into(), |far| format!("{far:.4}"));
            let id = &pictures[choice.index].id;
            writeln!(
                out,
                "{probability:>6.3} {uncertainty:>9.4} {disagreement:>9.4} {far:>9}  {id}"
            )?;
        }
        writeln!(
            out,
            "{} of {} images are in {}",
            choices.len(),
            pictures.len(),
            self.out.display()
        )?;
        Ok(())
    }
}

impl From<Measure> for By {
    fn from(measure: Measure) -> Self {
        match measure {
            Measure::Uncertainty => Self::Uncertainty,
            Measure::Margin => Self::Margin,
            Measure::Disagreement => Self::Disagreement,
            Measure::Mixed => Self::Mixed,
        }
    }
}

/// Where the labelling interface of these tasks goes.
fn interface(tasks: &Path) -> PathBuf {
    tasks.with_extension("xml")
}

/// The file's name in its folder, however the folder was named.
fn place(file: &Path) -> Result<PathBuf, Failure> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = fs_err::canonicalize(folder.unwrap_or(Path::new("."))).map_err(unwritten)?;
    Ok(folder.join(file.file_name().unwrap_or_default()))
}

fn pictures(data: &Path) -> Result<Vec<Picture>, Failure> {
    let next = "name a folder of images or a manifest";
    load_pictures(data).map_err(|error| Failure::new(error, next))
}

/// The pictures that are neither known nor there before, marked with their hashes.
fn fresh(pictures: Vec<Picture>, known: &[Picture]) -> Result<Vec<Picture>, Failure> {
    let hash = |pictures: &[Picture]| {
        let next = "restore the image, or take it out";
        digests_hex(&pictures.iter().collect::<Vec<_>>()).map_err(|e| Failure::new(e, next))
    };
    let (all, mut seen) = (hash(&pictures)?, hash(known)?.into_iter().collect::<HashSet<_>>());
    let count = pictures.len();
    let fresh: Vec<Picture> = pictures
        .into_iter()
        .zip(all)
        .filter(|(_, digest)| seen.insert(digest.clone()))
        .map(|(picture, digest)| Picture { sha256: Some(digest), ..picture })
        .collect();
    if fresh.len() < count {
        tell(&format!("{} images are labelled or there twice", count - fresh.len()));
    }
    if fresh.is_empty() {
        let error = anyhow::anyhow!("all images are labelled already");
        return Err(Failure::new(error, "name other images with --data"));
    }
    Ok(fresh)
}

/// What a stage says of the pictures.
fn answers(name: &str, app: &App, pictures: &[Picture]) -> Result<Vec<Answer>, Failure> {
    let options = Options {
        concurrency: places(app),
        deadline: Duration::from_secs(600),
        limits: app.config().image,
    };
    let bar = progress(pictures.len() as u64).with_message(name.to_owned());
    let asked = with_engine(app, async |engine: &Engine| {
        let answers = ask(engine, pictures, options, &|done| bar.set_position(done)).await;
        let next = "take the image out of the folder, or raise the limit that it meets";
        answers.map_err(|error| Failure::new(error, next))
    });
    bar.finish_and_clear();
    Ok(asked?.answers)
}
