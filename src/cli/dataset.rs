//! `roadcrew dataset`

mod dedup;
mod import;
mod split;
mod stats;
mod transform;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::failure::Failure;
use super::outputs::must_have_folder;
use super::session::{Session, progress, tell};
use crate::app::Exit;
use crate::image::ImageLimits;
use crate::lab::dataset::{Example, Picture, load, partition, twins};
use crate::lab::features::{self, FeatureSpec, Features};
use crate::models::Pooling;

/// Look at labelled images, divide them, and take out what is there twice
///
/// DATA is a folder with roadwork/ and not_roadwork/, with manifest.jsonl or labels.jsonl, or with
/// parquet files as Hugging Face writes them; or one .jsonl or .parquet file.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Dataset {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Stats(stats::Stats),
    Split(split::Split),
    Dedup(dedup::Dedup),
    Transform(transform::Transform),
    ImportLabels(import::ImportLabels),
}

impl Dataset {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        match self.command {
            Command::Stats(command) => command.run(session),
            Command::Split(command) => command.run(session),
            Command::Dedup(command) => command.run(session),
            Command::Transform(command) => command.run(session),
            Command::ImportLabels(command) => command.run(session),
        }
    }
}

/// Whose features tell how alike images are.
#[derive(Args, Debug)]
pub(super) struct FeatureArgs {
    /// Model whose features tell how alike images are: embedded:NAME, or a model folder
    #[arg(long, value_name = "MODEL", default_value = "embedded:confirm")]
    model: String,
    /// What is pooled of them; by default what the model's head looks at
    #[arg(long, value_enum)]
    pooling: Option<Pooled>,
    /// Folder where features are kept; commands over the same images share it
    #[arg(long, value_name = "DIR", default_value = ".roadcrew-cache")]
    cache: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Pooled {
    /// The class token
    Cls,
    /// The class token and the mean of the patches
    ClsMean,
    /// The class token, the mean and the maximum of the patches
    ClsMeanMax,
}

impl FeatureArgs {
    pub(super) fn compute(
        &self,
        pictures: &[&Picture],
        limits: ImageLimits,
    ) -> Result<Features, Failure> {
        let pooling = self.pooling.map(|pooling| match pooling {
            Pooled::Cls => Pooling::Cls,
            Pooled::ClsMean => Pooling::ClsMean,
            Pooled::ClsMeanMax => Pooling::ClsMeanMax,
        });
        let spec = FeatureSpec { model: &self.model, pooling, cache: &self.cache, limits };
        let bar = progress(pictures.len() as u64).with_message("features");
        let computed = features::compute(&spec, pictures, &|done| bar.set_position(done));
        bar.finish_and_clear();
        let checked = computed.and_then(|features| {
            twins::ensure_directions(&features, pictures)?;
            Ok(features)
        });
        let next = "take the image out of the data set, or name another --model or --cache; what is \
                    computed is kept";
        checked.map_err(|error| Failure::new(error, next))
    }
}

/// The labelled images of a path.
fn examples(data: &Path) -> Result<Vec<Example>, Failure> {
    let next =
        "correct what is named above; `roadcrew dataset --help` lists the forms of a data set";
    load(data).map_err(|error| Failure::new(error, next))
}

/// The SHA-256 of each image, with which the examples are marked. Identical images with different
/// labels are refused, or taken out.
fn hashed(examples: Vec<Example>, drop: bool) -> Result<Vec<Example>, Failure> {
    let pictures: Vec<&Picture> = examples.iter().map(|e| &e.picture).collect();
    let digests = features::digests_hex(&pictures).map_err(|error| {
        Failure::new(error, "restore the image, or take it out of the data set")
    })?;
    let found: Vec<Option<String>> = digests.iter().cloned().map(Some).collect();
    let wrong = partition::contradictions(&examples, &found);
    let mut keep = vec![true; examples.len()];
    for set in &wrong {
        set.iter().for_each(|index| keep[*index] = false);
        let ids: Vec<&str> = set.iter().map(|i| examples[*i].picture.id.as_str()).collect();
        tell(&format!("warning: the same image has different labels: {}", ids.join(", ")));
    }
    if !wrong.is_empty() && !drop {
        let error = anyhow::anyhow!("{} images contradict each other", wrong.len());
        let next = "correct their labels, or leave all of them out with --drop-contradictions";
        return Err(Failure::new(error, next));
    }
    let marked = examples.into_iter().zip(digests).zip(keep).filter(|(_, keep)| *keep);
    Ok(marked
        .map(|((mut example, digest), _)| {
            example.picture.sha256 = Some(digest);
            example
        })
        .collect())
}

/// Warns if a set of near-duplicates is so large that the threshold must be too low for the model.
fn warn_of_chains(largest: Option<usize>, images: usize) {
    let largest = largest.unwrap_or(0);
    if largest > 10 && largest * 10 > images {
        tell(&format!(
            "warning: one set of near-duplicates has {largest} of {images} images\n  next: unless \
             that is so, raise the threshold: to this model's features most images look alike"
        ));
    }
}

/// Refuses to write over a file, unless that is wanted, and to write where there is no folder; to be
/// asked before the work and not after it.
pub(super) fn ensure_free(path: &Path, force: bool) -> Result<(), Failure> {
    must_have_folder(path)?;
    if force || !path.exists() {
        return Ok(());
    }
    let error = anyhow::anyhow!("{} is already there", path.display());
    Err(Failure::new(error, "name another, or write over it with --force"))
}

/// A failure to write.
pub(super) fn unwritten(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(error, "choose a folder that can be written to, on a disk with room for it")
}
