//! Writes series of scenes as data sets: JPEG files and one line of JSON for each.

use std::io::Write as _;
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context as _, bail};
use fs_err as fs;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use super::dice::Dice;
use super::labels::{HardNegative, SceneLabel};
use super::shoot::render;
use super::{MAX_LEVEL, MIN_SIDE, SceneSpec};

/// Separates the draws of compression from those of plans and drawings.
const STREAM: u64 = 3;
/// Scenes rendered between two writes to the label file.
const BATCH: u64 = 256;

/// A data set to write.
#[derive(Clone, Debug)]
pub struct DatasetSpec {
    /// What its scenes have in common.
    pub scenes: SceneSpec,
    /// How many scenes.
    pub count: u64,
    /// JPEG qualities to draw from.
    pub quality: RangeInclusive<u8>,
}

impl DatasetSpec {
    /// A data set at the usual size and qualities.
    pub fn new(count: u64, seed: u64, level: u8) -> Self {
        Self { scenes: SceneSpec::new(seed, level), count, quality: 50..=92 }
    }
}

/// What a written data set holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Scenes written.
    pub scenes: u64,
    /// Of these, with roadwork.
    pub roadwork: u64,
    /// Of these, without roadwork and with a misleading subject, by kind.
    pub hard_negatives: std::collections::BTreeMap<HardNegative, u64>,
}

impl Summary {
    fn add(&mut self, label: &SceneLabel) {
        self.scenes += 1;
        self.roadwork += u64::from(label.label);
        if let Some(kind) = label.hard_negative {
            *self.hard_negatives.entry(kind).or_default() += 1;
        }
    }
}

/// The JPEG quality of scene `index`, drawn from a range.
pub fn quality(spec: &SceneSpec, index: u64, range: &RangeInclusive<u8>) -> u8 {
    let mut dice = Dice::new(&[STREAM, spec.seed, u64::from(spec.level), index]);
    dice.count(u32::from(*range.start()), u32::from(*range.end())) as u8
}

/// Compresses a picture.
pub fn encode_jpeg(image: &RgbImage, quality: u8) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(24 * 1024);
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode_image(image)
        .context("cannot compress a scene")?;
    Ok(bytes)
}

/// Writes `out/images/000000.jpg` and so on, and `out/labels.jsonl` with one line for each, in
/// order, on all threads of the current pool; the files do not depend on their number.
///
/// `progress` is told how many scenes are done. Fails, before it writes anything, if the level,
/// the size or the qualities are out of range, or if `out/labels.jsonl` already has content.
pub fn write_dataset(
    out: &Path,
    spec: &DatasetSpec,
    progress: &dyn Fn(u64),
) -> anyhow::Result<Summary> {
    check(spec)?;
    let labels = out.join("labels.jsonl");
    if fs::metadata(&labels).is_ok_and(|found| found.len() > 0) {
        bail!("{} already holds a data set; choose an empty folder", labels.display());
    }
    fs::create_dir_all(out.join("images"))?;
    let mut file = std::io::BufWriter::new(fs::File::create(&labels)?);
    let mut summary = Summary::default();
    let mut start = 0;
    while start < spec.count {
        let end = (start + BATCH).min(spec.count);
        let batch: anyhow::Result<Vec<SceneLabel>> =
            (start..end).into_par_iter().map(|index| write_scene(out, spec, index)).collect();
        for label in batch? {
            serde_json::to_writer(&mut file, &label)?;
            file.write_all(b"\n")?;
            summary.add(&label);
        }
        start = end;
        progress(start);
    }
    file.flush()?;
    Ok(summary)
}

fn check(spec: &DatasetSpec) -> anyhow::Result<()> {
    let SceneSpec { level, width, height, .. } = spec.scenes;
    if level > MAX_LEVEL {
        bail!("level {level} is not one of 0 to {MAX_LEVEL}");
    }
    if width.min(height) < MIN_SIDE {
        bail!("scenes of {width} by {height} pixels are too small; use {MIN_SIDE} or more");
    }
    let (low, high) = (*spec.quality.start(), *spec.quality.end());
    if low == 0 || low > high || high > 100 {
        bail!("JPEG qualities {low} to {high} are not a range within 1 to 100");
    }
    Ok(())
}

fn write_scene(out: &Path, spec: &DatasetSpec, index: u64) -> anyhow::Result<SceneLabel> {
    let scene = render(&spec.scenes, index);
    let quality = quality(&spec.scenes, index, &spec.quality);
    fs::write(out.join(&scene.label.file), encode_jpeg(&scene.image, quality)?)?;
    Ok(scene.label)
}
