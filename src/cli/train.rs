//! `roadcrew train`

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;

use super::failure::Failure;
use super::offline::{places, with_engine};
use super::session::{Session, Usually, progress, tell};
use crate::actors::Engine;
use crate::app::{App, Exit};
use crate::image::ImageLimits;
use crate::lab::answers::{Options, ask};
use crate::lab::plot::{Kind, Plot, Series};
use crate::lab::train::{
    Distillation, Epoch, Recipe, TrainSpec, Trained, Watcher, check, ensure_distinct, train,
    training_examples, write_scores,
};

/// Train a model on labelled images: a new head on a frozen backbone, or the whole network
///
/// How it is trained is a recipe, a TOML file; config/train/default.toml is the default and documents
/// every key. OUT becomes a model folder that a stage can name; it also holds metrics.json,
/// training.svg and the checkpoint that --resume goes on from. Without --validation a tenth of the
/// images is held out, groups and identical files undivided.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Train {
    /// Labelled images to learn from; may be repeated
    #[arg(long, value_name = "DATA", required = true)]
    data: Vec<PathBuf>,
    /// Labelled images to judge by; may be repeated
    #[arg(long, value_name = "DATA")]
    validation: Vec<PathBuf>,
    /// Model to start from: embedded:NAME, or a folder with config.json, preprocessor_config.json and
    /// weights
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Where the trained model folder goes
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How to train; keys that the file leaves out are as in the default recipe
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Most passes over the data, instead of the recipe's
    #[arg(long, value_name = "N", value_parser = count)]
    epochs: Option<usize>,
    /// Images per step, instead of the recipe's
    #[arg(long, value_name = "N", value_parser = count)]
    batch: Option<usize>,
    /// Highest learning rate, instead of the recipe's
    #[arg(long, value_name = "RATE", value_parser = rate)]
    learning_rate: Option<f64>,
    /// Seed of everything random, instead of the recipe's; repeated, the best run is kept
    #[arg(long, value_name = "S")]
    seed: Vec<u64>,
    /// Learn from this stage of the configuration too: its answers go to OUT/teacher.jsonl
    #[arg(long, value_name = "STAGE")]
    teacher: Option<String>,
    /// Where the features of a frozen backbone are kept, for other runs and commands too
    #[arg(long, value_name = "DIR", default_value = ".roadcrew-cache")]
    cache: PathBuf,
    /// Go on from the checkpoint in --out
    #[arg(long)]
    resume: bool,
    /// Print what came out as one JSON object
    #[arg(long)]
    json: bool,
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n >= 1).ok_or_else(|| "it must be a whole number from 1".into())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.0..=1.0).contains(rate));
    rate.ok_or_else(|| "it must be from 0 to 1".into())
}

impl Train {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        let app = session.app(Usually::Quiet)?;
        app.prepare_process();
        let (teacher, json) = (self.teacher.clone(), self.json);
        let next = "correct what is named above; config/train/default.toml documents every key";
        let mut spec = self.spec().map_err(|error| Failure::new(error, next))?;
        spec.limits = app.config().image;
        check(&spec).map_err(|error| Failure::new(error, next))?;
        if let Some(stage) = teacher {
            teach(&app, &stage, &spec)?;
        }
        let bar = Bar(progress(0));
        let trained = train(&spec, &bar);
        bar.0.finish_and_clear();
        let next = "correct what is named above; --resume goes on from the last epoch";
        let failed = |error| Failure::new(error, next);
        let trained = trained.map_err(failed)?;
        curves(&trained).write(&spec.out.join("training.svg")).map_err(failed)?;
        let out = session.out;
        if json {
            serde_json::to_writer(&mut *out, &trained)?;
            writeln!(out)?;
        } else {
            print(&trained, out)?;
        }
        let folder = spec.out.display();
        let next = "roadcrew evaluate DATA --set stages.screen.classifier.model";
        tell(&format!("the model is in {folder}; try it: {next}={folder}"));
        Ok(Exit::Ok)
    }

    fn spec(self) -> anyhow::Result<TrainSpec> {
        let mut recipe = Recipe::load(self.recipe.as_deref())?;
        recipe.epochs = self.epochs.unwrap_or(recipe.epochs);
        recipe.batch = self.batch.unwrap_or(recipe.batch);
        recipe.learning_rate = self.learning_rate.unwrap_or(recipe.learning_rate);
        if !self.seed.is_empty() {
            recipe.seeds = self.seed;
        }
        recipe.check()?;
        if self.teacher.is_some() {
            let teacher = self.out.join("teacher.jsonl");
            recipe.distillation = Some(match recipe.distillation {
                Some(settings) => Distillation { teacher, ..settings },
                None => Distillation::of(teacher),
            });
        }
        let Self { data, validation, model, out, cache, resume, .. } = self;
        let limits = ImageLimits::default();
        Ok(TrainSpec { data, validation, model, out, recipe, cache, limits, resume })
    }
}

/// One line for each epoch, and one for each seed if there are several.
fn print(trained: &Trained, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "epoch       loss  validation   accuracy        MCC    seconds")?;
    for epoch in &trained.history.epochs {
        let Epoch { epoch, train_loss, validation_loss, accuracy, mcc, seconds, .. } = epoch;
        let kept = if *epoch == trained.history.best { "  kept" } else { "" };
        write!(out, "{epoch:>5} {train_loss:>10.4}  {validation_loss:>10.4} {accuracy:>10.4}")?;
        writeln!(out, " {mcc:>10.4} {seconds:>10.1}{kept}")?;
    }
    if let [_, _, ..] = trained.mcc_by_seed[..] {
        for (seed, mcc) in &trained.mcc_by_seed {
            let kept = if *seed == trained.seed { "  kept" } else { "" };
            writeln!(out, "seed {seed}: MCC {mcc:.4}{kept}")?;
        }
    }
    Ok(())
}

/// Losses and MCC over the epochs.
fn curves(trained: &Trained) -> Plot {
    let curve = |name: &str, figure: fn(&Epoch) -> f64| Series {
        name: name.into(),
        kind: Kind::Line,
        points: trained.history.epochs.iter().map(|e| (e.epoch as f64, figure(e))).collect(),
    };
    Plot {
        title: "Training".into(),
        x: "epoch".into(),
        y: "loss, MCC".into(),
        series: vec![
            curve("loss", |e| e.train_loss),
            curve("validation loss", |e| e.validation_loss),
            curve("validation MCC", |e| e.mcc),
        ],
    }
}

/// Asks a stage about every training image, unless it has been asked already.
fn teach(app: &App, stage: &str, spec: &TrainSpec) -> Result<(), Failure> {
    let Some(Distillation { teacher, .. }) = &spec.recipe.distillation else { return Ok(()) };
    if spec.resume && teacher.exists() {
        return Ok(());
    }
    if !app.config().stages.contains_key(stage) {
        let error = anyhow::anyhow!("there is no stage `{stage}`");
        return Err(Failure::new(error, "name a stage of the configuration, such as confirm"));
    }
    let alone = app.with(|config| config.cascade.order = vec![stage.to_owned()]);
    let next = "correct what is named above";
    let failed = |error| Failure::new(error, next);
    let examples = training_examples(spec).map_err(failed)?;
    ensure_distinct(&examples).map_err(failed)?;
    let options = Options {
        concurrency: places(&alone),
        deadline: Duration::from_secs(600),
        limits: app.config().image,
    };
    let bar = progress(examples.len() as u64).with_message(stage.to_owned());
    let answers = with_engine(&alone, async |engine: &Engine| {
        let pictures = examples.iter().map(|example| &example.picture);
        ask(engine, pictures, options, &|done| bar.set_position(done)).await.map_err(failed)
    })?;
    bar.finish_and_clear();
    fs_err::create_dir_all(&spec.out).map_err(|error| failed(error.into()))?;
    write_scores(teacher, &examples, &answers).map_err(failed)
}

/// Shows the steps in a bar and tells of each epoch.
struct Bar(ProgressBar);

impl Watcher for Bar {
    fn features(&self, done: u64, of: u64) {
        self.0.set_length(of);
        self.0.set_position(done);
        self.0.set_message("features");
    }

    fn step(&self, epoch: usize, done: usize, of: usize, loss: f64) {
        self.0.set_length(of as u64);
        self.0.set_position(done as u64);
        self.0.set_message(format!("epoch {epoch}, loss {loss:.4}"));
    }

    fn epoch(&self, epoch: &Epoch) {
        let Epoch { epoch, train_loss, validation_loss, accuracy, mcc, seconds, .. } = epoch;
        self.0.suspend(|| {
            tell(&format!(
                "epoch {epoch}: loss {train_loss:.4}, validation {validation_loss:.4}, \
                 accuracy {accuracy:.4}, MCC {mcc:.4}, {seconds:.0} s"
            ));
        });
    }
}
