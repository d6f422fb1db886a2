//! `roadcrew dataset split`

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{FeatureArgs, ensure_free, examples, hashed, unwritten, warn_of_chains};
use crate::app::Exit;
use crate::cli::failure::Failure;
use crate::cli::session::{Session, Usually, progress};
use crate::lab::dataset::partition::{Near, SplitSpec, divide, together};
use crate::lab::dataset::{Example, Picture, manifest};
use crate::lab::files::partial;

/// Divide a data set into images to train on and images to measure on
///
/// Writes OUT/train.jsonl, OUT/val.jsonl and OUT/test.jsonl: manifests with hashes, whose paths lead
/// to the images where they are. Each part has its share of both classes and of every origin. Images
/// of one group stay together, so do identical ones and, with --dedup, near-duplicates: no twin of a
/// training image is in the test set. The same seed gives the same parts. With --force, parts that are
/// there are replaced together, and one whose share is now 0 is deleted.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(in crate::cli) struct Split {
    /// The data set
    data: PathBuf,
    /// Folder for the manifests; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Share of the images to train on
    #[arg(long, value_name = "SHARE", default_value_t = 0.8)]
    train: f64,
    /// Share of the images to tune on
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    val: f64,
    /// Share of the images to measure on
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    test: f64,
    /// Seed of everything random
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Keep together what has at least this cosine similarity, such as 0.995
    #[arg(long, value_name = "COSINE")]
    dedup: Option<f64>,
    #[command(flatten)]
    features: FeatureArgs,
    /// Leave out identical images that have different labels
    #[arg(long)]
    drop_contradictions: bool,
    /// Write over manifests that are there
    #[arg(long)]
    force: bool,
    /// Print the counts as one JSON object
    #[arg(long)]
    json: bool,
}

/// One part, for people and programs.
#[derive(Serialize)]
struct Part {
    file: PathBuf,
    images: usize,
    roadwork: usize,
    not_roadwork: usize,
}

#[derive(Serialize)]
struct Report {
    parts: Vec<Part>,
    /// Units that were not separated.
    groups: usize,
    /// Images in the largest of them.
    largest_group: usize,
}

impl Split {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        let app = session.app(Usually::Quiet)?;
        app.prepare_process();
        let named = [("train", self.train), ("val", self.val), ("test", self.test)];
        let files = named.map(|(name, _)| self.out.join(format!("{name}.jsonl")));
        fs_err::create_dir_all(&self.out).map_err(unwritten)?;
        files.iter().try_for_each(|file| ensure_free(file, self.force))?;
        let examples = hashed(examples(&self.data)?, self.drop_contradictions)?;
        let groups = self.groups(&examples, app.config().image)?;
        if self.dedup.is_some() {
            warn_of_chains(groups.iter().map(Vec::len).max(), examples.len());
        }
        let spec = SplitSpec { shares: named.map(|(_, share)| share).to_vec(), seed: self.seed };
        let next = "choose shares that add up to 1 and that the images suffice for";
        let parts = divide(&examples, &groups, &spec).map_err(|e| Failure::new(e, next))?;
        let mut report = Report {
            parts: Vec::new(),
            groups: groups.len(),
            largest_group: groups.iter().map(Vec::len).max().unwrap_or(0),
        };
        let mut unwanted = Vec::new();
        for ((file, (name, share)), indices) in files.into_iter().zip(named).zip(parts) {
            if share > 0.0 {
                report.parts.push(write(file, name, &examples, &indices)?);
            } else {
                unwanted.push(file);
            }
        }
        replace(&report.parts, &unwanted)?;
        report.print(self.json, session.out)?;
        Ok(Exit::Ok)
    }

    /// What must stay together.
    fn groups(
        &self,
        examples: &[Example],
        limits: crate::image::ImageLimits,
    ) -> Result<Vec<Vec<usize>>, Failure> {
        let digests: Vec<_> = examples.iter().map(|e| e.picture.sha256.clone()).collect();
        let pictures: Vec<&Picture> = examples.iter().map(|e| &e.picture).collect();
        let features = self.dedup.map(|_| self.features.compute(&pictures, limits)).transpose()?;
        let near = features
            .as_ref()
            .zip(self.dedup)
            .map(|(features, threshold)| Near { features, threshold });
        let bar = progress(examples.len() as u64).with_message("near-duplicates");
        let groups = together(examples, &digests, near, &|done| bar.set_position(done));
        bar.finish_and_clear();
        groups.map_err(|error| Failure::new(error, "choose a --dedup such as 0.995"))
    }
}

/// Writes a part beside where it belongs; [`replace`] puts it there.
fn write(
    file: PathBuf,
    name: &str,
    examples: &[Example],
    indices: &[usize],
) -> Result<Part, Failure> {
    let part: Vec<Example> = indices
        .iter()
        .map(|index| {
            let mut example = examples[*index].clone();
            example.picture.split = Some(name.to_owned());
            example
        })
        .collect();
    manifest::write(&partial(&file), &part).map_err(unwritten)?;
    let roadwork = part.iter().filter(|e| e.roadwork).count();
    Ok(Part { file, images: part.len(), roadwork, not_roadwork: part.len() - roadwork })
}

/// Puts the written parts in the place of those that were there, and takes away what is no part any
/// more. All old parts go before the first new one comes: whenever this ends, parts of two splits do
/// not lie side by side.
fn replace(parts: &[Part], unwanted: &[PathBuf]) -> Result<(), Failure> {
    let files = parts.iter().map(|part| &part.file);
    for file in files.clone().chain(unwanted).filter(|file| file.exists()) {
        fs_err::remove_file(file).map_err(unwritten)?;
    }
    for file in files {
        fs_err::rename(partial(file), file).map_err(unwritten)?;
    }
    Ok(())
}

impl Report {
    fn print(&self, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            writeln!(out)?;
            return Ok(());
        }
        writeln!(out, "{:<32} {:>9} {:>9} {:>9}", "", "images", "roadwork", "none")?;
        for Part { file, images, roadwork, not_roadwork } in &self.parts {
            let file = file.display().to_string();
            writeln!(out, "{file:<32} {images:>9} {roadwork:>9} {not_roadwork:>9}")?;
        }
        let Self { groups, largest_group, .. } = self;
        writeln!(out, "{groups} groups were kept whole; the largest has {largest_group} images")?;
        Ok(())
    }
}
