//! JSONL manifests: one JSON object for each image.
//!
//! | key | is |
//! |---|---|
//! | `image` (or `file`) | path of the image from the manifest's folder, or `PATH.parquet#ROW` |
//! | `label` | 0, 1, true, false, "roadwork", "not_roadwork" |
//! | `id` | the image's name; without it, what `image` says |
//! | `group`, `origin`, `transform_level`, `difficulty`, `split`, `sha256` | as in [`Picture`] |
//! | `scene` | what is known of a rendered scene |
//!
//! Other keys are ignored. A line of `roadcrew scenes` is understood too.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::label::{self, EXPECTED};
use super::picture::{Picture, Source};
use super::shard::Shard;
use super::{Entry, Example};
use crate::lab::files::write_whole;
use crate::lab::scenes::{MAX_LEVEL, SceneLabel};

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Path of the image from the manifest's folder, or `PATH.parquet#ROW`.
    #[serde(alias = "file")]
    pub image: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What it shows, in any of the forms of a label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Value>,
    /// As in [`Picture`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "word")]
    pub group: Option<String>,
    /// As in [`Picture`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// As in [`Picture`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform_level: Option<u8>,
    /// As in [`Picture`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difficulty: Option<f64>,
    /// As in [`Picture`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// As in [`Picture`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// As in [`Picture`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scene: Option<SceneLabel>,
}

/// A text, or a number as text.
fn word<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(from)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        _ => Err(serde::de::Error::custom("`group` must be a text or a number")),
    }
}

/// Reads a manifest.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let text = fs_err::read_to_string(path)?;
    let dir = path.parent().unwrap_or(Path::new(""));
    let mut shards = Shards::default();
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let place = format!("{}, line {}", path.display(), index + 1);
        let row = parse(line).with_context(|| place.clone())?;
        entries.push(entry(row, dir, &place, &mut shards).with_context(|| place)?);
    }
    Ok(entries)
}

/// A line of a manifest or of `roadcrew scenes`.
fn parse(line: &str) -> anyhow::Result<Row> {
    let value: Value = serde_json::from_str(line)?;
    let object = value.as_object().context("a line must be a JSON object")?;
    if object.contains_key("weather") && object.contains_key("objects") {
        let scene: SceneLabel = serde_json::from_value(value)?;
        return Ok(Row {
            image: scene.file.clone(),
            label: Some(scene.label.into()),
            origin: Some("synthetic".into()),
            scene: Some(scene),
            ..Row::default()
        });
    }
    let keys: Vec<&str> = object.keys().map(String::as_str).collect();
    if !object.contains_key("label")
        && let Some(near) = keys.iter().find(|key| strsim::damerau_levenshtein(key, "label") <= 2)
    {
        anyhow::bail!("there is a key `{near}`; did you mean `label`?");
    }
    anyhow::ensure!(
        object.contains_key("image") || object.contains_key("file"),
        "there is no key `image`; found: {}",
        keys.join(", ")
    );
    Ok(serde_json::from_value(value)?)
}

fn entry(row: Row, dir: &Path, place: &str, shards: &mut Shards) -> anyhow::Result<Entry> {
    let source = shards.source(dir, &row.image)?;
    let roadwork = match &row.label {
        None | Some(Value::Null) => None,
        Some(value) => Some(
            label::from_json(value)
                .with_context(|| format!("label {value} is none; expected {EXPECTED}"))?,
        ),
    };
    let picture = Picture {
        group: row.group,
        origin: row.origin,
        transform_level: row.transform_level,
        difficulty: row.difficulty,
        split: row.split,
        sha256: row.sha256.map(|hash| hash.to_ascii_lowercase()),
        scene: row.scene,
        ..Picture::new(row.id.unwrap_or(row.image), source)
    };
    check(&picture)?;
    Ok(Entry { picture, roadwork, place: place.to_owned() })
}

/// Refuses what no manifest can mean.
pub(super) fn check(picture: &Picture) -> anyhow::Result<()> {
    if let Some(level) = picture.transform_level {
        anyhow::ensure!(level <= MAX_LEVEL, "transform_level {level} is not one of 0 to 3");
    }
    if let Some(difficulty) = picture.difficulty {
        anyhow::ensure!(difficulty.is_finite(), "difficulty {difficulty} is no number");
    }
    if let Some(hash) = &picture.sha256 {
        let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        anyhow::ensure!(is_hash, "sha256 `{hash}` is not 64 hexadecimal digits");
    }
    Ok(())
}

/// The parquet files that a manifest names, each opened once.
#[derive(Default)]
struct Shards(BTreeMap<PathBuf, Arc<Shard>>);

impl Shards {
    fn source(&mut self, dir: &Path, image: &str) -> anyhow::Result<Source> {
        if let Some((file, row)) = image.rsplit_once(".parquet#") {
            let path = dir.join(format!("{file}.parquet"));
            let row = row.parse().with_context(|| format!("image `{image}` has no row number"))?;
            let file = match self.0.get(&path) {
                Some(shard) => Arc::clone(shard),
                None => Arc::new(Shard::open(&path)?),
            };
            self.0.insert(path, Arc::clone(&file));
            anyhow::ensure!(row < file.rows(), "image `{image}`: there are {} rows", file.rows());
            return Ok(Source::Parquet { file, row });
        }
        let path = dir.join(image);
        anyhow::ensure!(path.is_file(), "there is no image file {}", path.display());
        Ok(Source::File(path))
    }
}

/// The line of a picture in a manifest that lies in `dir`.
///
/// # Errors
/// If the folder or the image's is not there.
pub fn row(picture: &Picture, dir: &Path) -> anyhow::Result<Row> {
    let path = relative(dir, picture.source.file())?;
    let image = match &picture.source {
        Source::File(_) => path,
        Source::Parquet { row, .. } => format!("{path}#{row}"),
    };
    Ok(Row {
        image,
        id: Some(picture.id.clone()),
        label: None,
        group: picture.group.clone(),
        origin: picture.origin.clone(),
        transform_level: picture.transform_level,
        difficulty: picture.difficulty,
        split: picture.split.clone(),
        sha256: picture.sha256.clone(),
        scene: picture.scene.clone(),
    })
}

/// Writes a manifest of labelled images.
///
/// # Errors
/// If its folder is not there or the disk is full.
pub fn write<'a>(
    path: &Path,
    examples: impl IntoIterator<Item = &'a Example>,
) -> anyhow::Result<()> {
    let dir = path.parent().unwrap_or(Path::new(""));
    let rows = examples.into_iter().map(|example| {
        let label = Some(Value::from(u8::from(example.roadwork)));
        Ok(Row { label, ..row(&example.picture, dir)? })
    });
    write_lines(path, rows)
}

/// Writes one JSON object a line.
///
/// # Errors
/// If one of them is an error, or the file cannot be written.
pub fn write_lines<T: Serialize>(
    path: &Path,
    rows: impl IntoIterator<Item = anyhow::Result<T>>,
) -> anyhow::Result<()> {
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, &row?)?;
        text.push(b'\n');
    }
    write_whole(path, &text)
}

/// How a file is reached from a folder. Links in the folders' names are followed first.
fn relative(dir: &Path, file: &Path) -> anyhow::Result<String> {
    let whole = |dir: &Path| {
        fs_err::canonicalize(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })
    };
    let from = whole(dir)?;
    let to = whole(file.parent().unwrap_or(Path::new("")))?;
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(to.components().skip(shared)).collect();
    let path = path.join(file.file_name().unwrap_or_default());
    let path = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(path.to_owned())
}
