//! `roadcrew train`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use super::failure::Failure;
use super::session::{Session, Usually, progress, tell};
use crate::app::Exit;
use crate::lab::train::{Epoch, Scope, TrainSpec, Watcher, train};
use crate::models::Pooling;

/// Train a model on labelled images: a new head on a frozen backbone, or the whole network
///
/// OUT becomes a model folder that a stage can name; it also holds metrics.json and the checkpoint
/// that --resume goes on from.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Train {
    /// Folder of labelled images to learn from
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder of labelled images to judge by; by default every tenth image of --data
    #[arg(long, value_name = "DIR")]
    validation: Option<PathBuf>,
    /// Model folder to start from: config.json, preprocessor_config.json and weights
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Where the trained model folder goes
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What is trained
    #[arg(long, value_enum, default_value_t = What::Head)]
    scope: What,
    /// Which features a new head looks at
    #[arg(long, value_enum, default_value_t = Features::ClsMean)]
    pooling: Features,
    /// Width of a new head
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = count)]
    hidden: usize,
    /// Share of the hidden values dropped while training
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = share)]
    dropout: f32,
    /// Most passes over the data
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = count)]
    epochs: usize,
    /// Images per step
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = count)]
    batch: usize,
    /// Highest learning rate
    #[arg(long, value_name = "RATE", default_value_t = 1e-3, value_parser = rate)]
    learning_rate: f64,
    /// Decoupled weight decay of matrices
    #[arg(long, value_name = "RATE", default_value_t = 0.01, value_parser = rate)]
    weight_decay: f64,
    /// Stop after so many epochs without a better MCC
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = count)]
    patience: usize,
    /// Seed of everything random
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Go on from the checkpoint in --out
    #[arg(long)]
    resume: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// A new head; the backbone stays as it is
    Head,
    /// Backbone and head together
    All,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Features {
    /// The class token
    Cls,
    /// The class token and the mean of the patches
    ClsMean,
    /// The class token, the mean and the maximum of the patches
    ClsMeanMax,
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n >= 1).ok_or_else(|| "it must be a whole number from 1".into())
}

fn share(text: &str) -> Result<f32, String> {
    let share = text.parse().ok().filter(|share| (0.0..1.0).contains(share));
    share.ok_or_else(|| "it must be from 0 to below 1".into())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.0..=1.0).contains(rate));
    rate.ok_or_else(|| "it must be from 0 to 1".into())
}

impl Train {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        session.app(Usually::Quiet)?.prepare_process();
        let spec = self.spec();
        let bar = Bar(progress(0));
        let trained = train(&spec, &bar);
        bar.0.finish_and_clear();
        let next = "correct the argument named above; --resume goes on from the last epoch";
        let history = trained.map_err(|error| Failure::new(error, next))?;
        let out = session.out;
        serde_json::to_writer(&mut *out, &history)?;
        writeln!(out)?;
        let folder = spec.out.display();
        let next = "roadcrew evaluate DIR --set stages.screen.classifier.model";
        tell(&format!("epoch {} is in {folder}; try it: {next}={folder}", history.best));
        Ok(Exit::Ok)
    }

    fn spec(self) -> TrainSpec {
        TrainSpec {
            data: self.data,
            validation: self.validation,
            model: self.model,
            out: self.out,
            scope: match self.scope {
                What::Head => Scope::Head,
                What::All => Scope::All,
            },
            pooling: match self.pooling {
                Features::Cls => Pooling::Cls,
                Features::ClsMean => Pooling::ClsMean,
                Features::ClsMeanMax => Pooling::ClsMeanMax,
            },
            hidden: self.hidden,
            dropout: self.dropout,
            epochs: self.epochs,
            batch: self.batch,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            patience: self.patience,
            seed: self.seed,
            resume: self.resume,
        }
    }
}

/// Shows the steps in a bar and tells of each epoch.
struct Bar(ProgressBar);

impl Watcher for Bar {
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
