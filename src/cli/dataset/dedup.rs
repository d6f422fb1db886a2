//! `roadcrew dataset dedup`

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{FeatureArgs, ensure_free, examples, hashed, unwritten, warn_of_chains};
use crate::app::Exit;
use crate::cli::failure::Failure;
use crate::cli::session::{Session, Usually, progress};
use crate::lab::dataset::partition::{Near, Twins, twins};
use crate::lab::dataset::{Example, Picture, manifest};

/// Find near-duplicates and write a manifest without them
///
/// Two images are near-duplicates if the cosine similarity of their features is at least the
/// threshold (FiftyOne and others take a distance instead: 1 minus it). Of images that are joined by
/// such pairs and have the same label, the first is kept. Near-duplicates with different labels are
/// kept and listed: one of the labels may be wrong.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(in crate::cli) struct Dedup {
    /// The data set
    data: PathBuf,
    /// Least cosine similarity of near-duplicates, above 0 and at most 1
    #[arg(long, value_name = "COSINE", default_value_t = 0.995)]
    threshold: f64,
    /// Manifest to write; without it, only the sets are listed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    features: FeatureArgs,
    /// Leave out identical images that have different labels
    #[arg(long)]
    drop_contradictions: bool,
    /// Write over a manifest that is there
    #[arg(long)]
    force: bool,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    images: usize,
    kept: usize,
    /// The ids of each set; the first is kept.
    sets: Vec<Vec<&'a str>>,
    /// Near-duplicates with different labels, at most a thousand of them.
    doubtful: Vec<(&'a str, &'a str)>,
    doubtful_pairs: u64,
}

impl Dedup {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        let app = session.app(Usually::Quiet)?;
        app.prepare_process();
        if let Some(out) = &self.out {
            ensure_free(out, self.force)?;
        }
        let examples = hashed(examples(&self.data)?, self.drop_contradictions)?;
        let pictures: Vec<&Picture> = examples.iter().map(|e| &e.picture).collect();
        let features = self.features.compute(&pictures, app.config().image)?;
        let near = Near { features: &features, threshold: self.threshold };
        let bar = progress(examples.len() as u64).with_message("near-duplicates");
        let found = twins(&examples, near, &|done| bar.set_position(done));
        bar.finish_and_clear();
        let found = found.map_err(|e| Failure::new(e, "choose a --threshold such as 0.995"))?;
        warn_of_chains(found.sets.iter().map(Vec::len).max(), examples.len());
        let kept = found.kept(examples.len());
        if let Some(out) = &self.out {
            manifest::write(out, kept.iter().map(|i| &examples[*i])).map_err(unwritten)?;
        }
        print(&Report::new(&examples, &found, kept.len()), self.json, session.out)?;
        Ok(Exit::Ok)
    }
}

impl<'a> Report<'a> {
    fn new(examples: &'a [Example], found: &Twins, kept: usize) -> Self {
        let id = |index: &usize| examples[*index].picture.id.as_str();
        Self {
            images: examples.len(),
            kept,
            sets: found.sets.iter().map(|set| set.iter().map(id).collect()).collect(),
            doubtful: found.doubtful.iter().map(|(a, b)| (id(a), id(b))).collect(),
            doubtful_pairs: found.doubtful_pairs,
        }
    }
}

fn print(report: &Report<'_>, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if json {
        serde_json::to_writer(&mut *out, report)?;
        writeln!(out)?;
        return Ok(());
    }
    for set in &report.sets {
        writeln!(out, "{}", set.join("\t"))?;
    }
    for (a, b) in &report.doubtful {
        writeln!(out, "different labels: {a}\t{b}")?;
    }
    let Report { images, kept, sets, doubtful_pairs, .. } = report;
    writeln!(
        out,
        "{images} images, {} sets of near-duplicates, {kept} kept; {doubtful_pairs} pairs with \
         different labels",
        sets.len()
    )?;
    Ok(())
}
