//! `roadcrew dataset transform`

use std::path::PathBuf;

use clap::Args;

use super::examples;
use crate::app::Exit;
use crate::cli::failure::Failure;
use crate::cli::session::{Session, progress, tell};
use crate::lab::augment::subnet::Level;
use crate::lab::transform::write_transformed;

/// Write every image as validators of the subnet would send it
///
/// OUT/images/LEVEL holds each image after that transform level, 224 x 224, as a JPEG of quality 75:
/// 0 is a centre crop, 1 also turns it and crops at random, 2 and 3 distort it more and more.
/// OUT/manifest.jsonl says the levels, so that `roadcrew evaluate` can tell them apart.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(in crate::cli) struct Transform {
    /// Labelled images
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Folder to write to; must not hold a data set already
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Transform levels, 0 to 3
    #[arg(long, value_name = "LEVELS", value_delimiter = ',', default_value = "0,1,2,3",
          value_parser = clap::value_parser!(u8).range(0..=3))]
    levels: Vec<u8>,
    /// Seed of everything random
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

impl Transform {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        let examples = examples(&self.data)?;
        let levels = self.levels.iter().map(|level| Level::try_from(*level));
        let mut levels: Vec<Level> = levels
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::new(anyhow::anyhow!(error), "name levels from 0 to 3"))?;
        levels.sort_unstable();
        levels.dedup();
        let bar = progress((examples.len() * levels.len()) as u64);
        let progress = |done| bar.set_position(done);
        let written = write_transformed(&self.out, &examples, &levels, self.seed, &progress);
        bar.finish_and_clear();
        let next = "choose an empty folder on a disk with room for it";
        let written = written.map_err(|error| Failure::new(error, next))?;
        tell(&format!("{written} images are in {}", self.out.display()));
        writeln!(session.out, "{}", self.out.join("manifest.jsonl").display())?;
        Ok(Exit::Ok)
    }
}
