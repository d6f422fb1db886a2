//! Labelled images, wherever they come from: two folders, a JSONL manifest, parquet files with the
//! images embedded, or scenes.

pub mod clusters;
mod folder;
mod label;
pub mod manifest;
pub mod mix;
pub mod partition;
mod picture;
mod sample;
mod shard;
pub mod split;
pub mod stats;
#[cfg(test)]
mod tests;
pub mod twins;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

pub use picture::{Picture, Source, sha256};
pub use sample::sample;
pub use shard::Shard;

/// One labelled image.
#[derive(Clone, Debug)]
pub struct Example {
    /// The image.
    pub picture: Picture,
    /// Whether it shows roadwork.
    pub roadwork: bool,
}

impl Example {
    /// The slice this example belongs to in a report: the kind of hard negative, or the class.
    pub fn slice(&self) -> &'static str {
        let hard = self.picture.scene.as_ref().and_then(|scene| scene.hard_negative);
        match (self.roadwork, hard) {
            (true, _) => "roadwork",
            (false, Some(kind)) => kind.class(),
            (false, None) => "plain_negative",
        }
    }
}

/// One image as it was found.
struct Entry {
    picture: Picture,
    roadwork: Option<bool>,
    /// File and line, for messages.
    place: String,
}

/// The manifests that a folder may hold.
const MANIFESTS: [&str; 2] = ["manifest.jsonl", "labels.jsonl"];

/// Reads labelled images, in a fixed order.
///
/// `path` is a folder with `manifest.jsonl` or `labels.jsonl`, with parquet files, or with the folders
/// `roadwork/` and `not_roadwork/` (looked for in this order); or one `.jsonl` or `.parquet` file.
///
/// # Errors
/// If there are none, one has no label, an image file is missing, or two have the same id: the
/// message names file and line.
pub fn load(path: &Path) -> anyhow::Result<Vec<Example>> {
    let entries = match listed(path)? {
        Some(entries) => entries,
        None => classes(path)?,
    };
    anyhow::ensure!(
        !entries.is_empty(),
        "{} holds no labelled images: expected manifest.jsonl, labels.jsonl (see `roadcrew \
         scenes`), *.parquet, or images in roadwork/ and not_roadwork/",
        path.display()
    );
    ensure_unique(&entries)?;
    let labelled = entries.into_iter().map(|Entry { picture, roadwork, place }| {
        let roadwork = roadwork
            .with_context(|| format!("{place}: there is no label; expected {}", label::EXPECTED))?;
        Ok(Example { picture, roadwork })
    });
    labelled.collect()
}

/// Reads images whose labels do not matter: in the forms of [`load`], or a folder of images.
///
/// # Errors
/// As [`load`], except that no label is missed.
pub fn load_pictures(path: &Path) -> anyhow::Result<Vec<Picture>> {
    let entries = match listed(path)? {
        Some(entries) => entries,
        None => tree(path, path, None)?,
    };
    anyhow::ensure!(!entries.is_empty(), "{} holds no images", path.display());
    ensure_unique(&entries)?;
    Ok(entries.into_iter().map(|entry| entry.picture).collect())
}

/// The images that manifests or parquet files list; none if the path is a folder without either.
fn listed(path: &Path) -> anyhow::Result<Option<Vec<Entry>>> {
    if path.is_dir() {
        let found = MANIFESTS.map(|name| path.join(name));
        let found: Vec<&PathBuf> = found.iter().filter(|path| path.is_file()).collect();
        return match found[..] {
            [manifest] => manifest::read(manifest).map(Some),
            [] => {
                let shards = folder::with_extension(path, "parquet")?;
                if shards.is_empty() { Ok(None) } else { from_shards(path, &shards).map(Some) }
            }
            _ => anyhow::bail!(
                "{} holds {}: name the one that you mean",
                path.display(),
                MANIFESTS.join(" and ")
            ),
        };
    }
    match folder::extension(path).as_deref() {
        Some("jsonl") => manifest::read(path).map(Some),
        Some("parquet") => {
            let dir = path.parent().unwrap_or(Path::new(""));
            from_shards(dir, &[path.to_owned()]).map(Some)
        }
        _ if path.exists() => {
            anyhow::bail!("{} is neither a folder nor a .jsonl or .parquet file", path.display())
        }
        _ => anyhow::bail!("there is no {}", path.display()),
    }
}

fn from_shards(dir: &Path, paths: &[PathBuf]) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for path in paths {
        let shard = Arc::new(Shard::open(path)?);
        let name = folder::below(dir, path);
        let part = part_in_name(path);
        for (row, cells) in (0..).zip(shard::cells(&shard)?) {
            let source = Source::Parquet { file: Arc::clone(&shard), row };
            let picture = Picture {
                group: cells.group,
                origin: cells.origin,
                transform_level: cells.transform_level,
                difficulty: cells.difficulty,
                split: cells.split.or_else(|| part.clone()),
                sha256: cells.sha256.map(|hash| hash.to_ascii_lowercase()),
                ..Picture::new(format!("{name}#{row}"), source)
            };
            let place = format!("{}, row {row}", path.display());
            manifest::check(&picture).with_context(|| place.clone())?;
            entries.push(Entry { picture, roadwork: cells.label, place });
        }
    }
    Ok(entries)
}

/// The part of a split that a file is named after, as in `train-00000-of-00002.parquet`.
fn part_in_name(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_string_lossy();
    let first = stem.split(['-', '.', '_']).next()?;
    ["train", "validation", "val", "test"].contains(&first).then(|| first.to_owned())
}

/// The images below `roadwork/` and `not_roadwork/`.
fn classes(dir: &Path) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (name, roadwork) in [("roadwork", true), ("not_roadwork", false)] {
        let class = dir.join(name);
        if class.is_dir() {
            entries.extend(tree(dir, &class, Some(roadwork))?);
        }
    }
    Ok(entries)
}

fn tree(root: &Path, dir: &Path, roadwork: Option<bool>) -> anyhow::Result<Vec<Entry>> {
    let images = folder::images(dir)?.into_iter().map(|path| {
        let place = path.display().to_string();
        let picture = Picture::file(folder::below(root, &path), path);
        Entry { picture, roadwork, place }
    });
    Ok(images.collect())
}

/// Refuses two images of one name: what is said of one would be taken for the other.
fn ensure_unique(entries: &[Entry]) -> anyhow::Result<()> {
    let mut seen: HashMap<&str, &str> = HashMap::with_capacity(entries.len());
    for Entry { picture, place, .. } in entries {
        if let Some(first) = seen.insert(&picture.id, place) {
            anyhow::bail!("{place}: the image `{}` is also at {first}", picture.id);
        }
    }
    Ok(())
}
