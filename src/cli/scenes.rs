//! `roadcrew scenes`

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::session::{Session, Usually, progress};
use crate::app::Exit;
use crate::lab::scenes::{DatasetSpec, write_dataset};

/// Write labelled synthetic road scenes, to train and to evaluate on
///
/// Writes OUT/images/*.jpg and OUT/labels.jsonl. The same seed gives the same files, whatever the
/// number of threads.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Scenes {
    /// Folder to write to; must not hold a data set already
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Number of scenes, half of them with roadwork
    #[arg(long, value_name = "N", default_value_t = 1000)]
    count: u64,
    /// Seed of the series
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Difficulty, 0 (large and clean) to 3 (small, hidden, dark)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=3))]
    level: u8,
}

impl Scenes {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        session.app(Usually::Quiet)?.prepare_process();
        let bar = progress(self.count);
        let spec = DatasetSpec::new(self.count, self.seed, self.level);
        let written = write_dataset(&self.out, &spec, &|done| bar.set_position(done));
        bar.finish_and_clear();
        let summary = written.map_err(|error| {
            Failure::new(error, "choose an empty folder on a disk with room for it")
        })?;
        let (out, scenes, roadwork) = (self.out.display(), summary.scenes, summary.roadwork);
        writeln!(session.out, "{out}\t{scenes} scenes\t{roadwork} with roadwork")?;
        Ok(Exit::Ok)
    }
}
