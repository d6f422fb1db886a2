//! `roadcrew dataset transform`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::examples;
use crate::app::Exit;
use crate::cli::failure::Failure;
use crate::cli::outputs::new_folder;
use crate::cli::session::{Session, Usually, progress, tell};
use crate::lab::augment::subnet::Level;
use crate::lab::transform::{TransformSpec, write_transformed};

/// Write every image as validators of the subnet would send it
///
/// OUT/images/LEVEL holds each image after that transform level, 224 x 224, as a JPEG of quality 75:
/// 0 is a centre crop, 1 also turns it and crops at random, 2 and 3 distort it more and more.
/// OUT/manifest.jsonl says the levels, so that `roadcrew evaluate` can tell them apart, and what was
/// known of each image before.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(in crate::cli) struct Transform {
    /// Labelled images
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Folder to write to; made if it is missing, refused if it holds anything
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Transform levels, 0 to 3
    #[arg(long, value_name = "LEVELS", value_delimiter = ',', default_value = "0,1,2,3",
          value_parser = clap::value_parser!(u8).range(0..=3))]
    levels: Vec<u8>,
    /// Seed of everything random
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Print the counts as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    manifest: PathBuf,
    /// Images written, of all levels.
    images: u64,
    /// Images that they were made of.
    sources: usize,
    levels: Vec<Level>,
}

impl Transform {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        let app = session.app(Usually::Quiet)?;
        app.prepare_process();
        new_folder(&self.out)?;
        let examples = examples(&self.data)?;
        let levels = self.levels()?;
        let spec = TransformSpec { levels: &levels, seed: self.seed, limits: app.config().image };
        let bar = progress((examples.len() * levels.len()) as u64);
        let progress = |done| bar.set_position(done);
        let written = write_transformed(&self.out, &examples, &spec, &progress);
        bar.finish_and_clear();
        let next = "correct what is named above, or choose an empty folder on a disk with room";
        let images = written.map_err(|error| Failure::new(error, next))?;
        let manifest = self.out.join("manifest.jsonl");
        if self.json {
            let report = Report { manifest, images, sources: examples.len(), levels };
            serde_json::to_writer(&mut *session.out, &report)?;
            writeln!(session.out)?;
            return Ok(Exit::Ok);
        }
        tell(&format!("{images} images are in {}", self.out.display()));
        writeln!(session.out, "{}", manifest.display())?;
        Ok(Exit::Ok)
    }

    /// The levels, mildest first, each once.
    fn levels(&self) -> Result<Vec<Level>, Failure> {
        let levels = self.levels.iter().map(|level| Level::try_from(*level));
        let mut levels: Vec<Level> = levels
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::new(anyhow::anyhow!(error), "name levels from 0 to 3"))?;
        levels.sort_unstable();
        levels.dedup();
        Ok(levels)
    }
}
