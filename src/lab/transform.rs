//! A data set as validators would send it: every image through the subnet's transform levels.

use std::path::Path;

use fs_err as fs;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde_json::Value;

use super::augment::subnet::{Level, SIDE, to_jpeg, transform};
use super::dataset::manifest::{self, Row};
use super::dataset::{Example, sha256};
use super::files::write_whole;
use super::scenes::SceneLabel;
use crate::image::ImageLimits;

/// Images transformed between two reports of progress.
const CHUNK: usize = 64;

/// What to make of the images.
#[derive(Clone, Copy, Debug)]
pub struct TransformSpec<'a> {
    /// The levels that every image goes through.
    pub levels: &'a [Level],
    /// Seed of everything random.
    pub seed: u64,
    /// What to decode.
    pub limits: ImageLimits,
}

/// Writes `out/images/LEVEL/NNNNNN.jpg` for every example and level, and `out/manifest.jsonl`, which is
/// written last. What is random follows from the seed, the level and the example's place.
///
/// # Errors
/// If the folder holds a manifest already, an image cannot be read, or the disk is full.
pub fn write_transformed(
    out: &Path,
    examples: &[Example],
    spec: &TransformSpec<'_>,
    progress: &dyn Fn(u64),
) -> anyhow::Result<u64> {
    let path = out.join("manifest.jsonl");
    anyhow::ensure!(
        !path.exists(),
        "{} holds a data set already; choose an empty folder",
        out.display()
    );
    let mut rows: Vec<Row> = Vec::new();
    for level in spec.levels {
        let folder = format!("images/{}", u8::from(*level));
        fs::create_dir_all(out.join(&folder))?;
        for (chunk, examples) in examples.chunks(CHUNK).enumerate() {
            let written = examples.par_iter().enumerate().map(|(place, example)| {
                let index = chunk * CHUNK + place;
                let image = format!("{folder}/{index:06}.jpg");
                let bytes = send(example, *level, spec, index as u64)?;
                write_whole(&out.join(&image), &bytes)?;
                Ok(row(example, *level, image, sha256(&bytes)))
            });
            rows.extend(written.collect::<anyhow::Result<Vec<_>>>()?);
            progress(rows.len() as u64);
        }
    }
    let written = rows.len() as u64;
    manifest::write_lines(&path, rows.into_iter().map(Ok))?;
    Ok(written)
}

/// The line of an image in the manifest: what is known of the picture that it was made of, and what is
/// new. Variations of one picture belong together.
fn row(example: &Example, level: Level, image: String, hash: String) -> Row {
    let picture = &example.picture;
    Row {
        id: None,
        label: Some(Value::from(u8::from(example.roadwork))),
        group: Some(picture.group.clone().unwrap_or_else(|| picture.id.clone())),
        origin: picture.origin.clone(),
        transform_level: Some(level.into()),
        difficulty: picture.difficulty,
        split: picture.split.clone(),
        sha256: Some(hash),
        scene: picture.scene.as_ref().map(|scene| sent(scene, &image)),
        image,
    }
}

/// What still holds of a scene: its level, weather and subject, and not where its objects are.
fn sent(scene: &SceneLabel, image: &str) -> SceneLabel {
    SceneLabel {
        file: image.to_owned(),
        width: SIDE,
        height: SIDE,
        objects: Vec::new(),
        ..scene.clone()
    }
}

/// The file that a validator would send.
fn send(
    example: &Example,
    level: Level,
    spec: &TransformSpec<'_>,
    index: u64,
) -> anyhow::Result<Vec<u8>> {
    let image = example.picture.decode(&spec.limits)?;
    let mut rng = ChaCha8Rng::seed_from_u64(spec.seed);
    rng.set_stream(index * 4 + u64::from(u8::from(level)));
    to_jpeg(&transform(&image, level, &mut rng))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{dataset, scenes};

    #[test]
    fn every_image_comes_out_at_every_level_and_the_seed_decides_how() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        scenes::write_dataset(&data, &scenes::DatasetSpec::new(3, 5, 2), &|_| {}).unwrap();
        let mut examples = dataset::load(&data).unwrap();
        (examples[2].picture.split, examples[2].picture.difficulty) =
            (Some("test".into()), Some(0.5));
        let write = |name: &str, seed| {
            let out = dir.path().join(name);
            let limits = ImageLimits::default();
            let spec = TransformSpec { levels: &Level::ALL, seed, limits };
            write_transformed(&out, &examples, &spec, &|_| {}).map(|n| (out, n))
        };
        let (a, written) = write("a", 1).unwrap();
        assert_eq!(written, 12);
        assert!(write("a", 1).unwrap_err().to_string().contains("holds a data set already"));
        let ((b, _), (c, _)) = (write("b", 1).unwrap(), write("c", 2).unwrap());
        let read = |out: &Path, name: &str| fs::read(out.join(name)).unwrap();
        let third = "images/3/000002.jpg";
        assert_eq!(read(&a, third), read(&b, third));
        assert_ne!(read(&a, third), read(&c, third));
        let lines = String::from_utf8(read(&a, "manifest.jsonl")).unwrap();
        let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!(last["transform_level"], 3);
        assert_eq!(last["group"], "images/000002.jpg");
        assert_eq!(last["label"], u8::from(examples[2].roadwork));
        let loaded = dataset::load(&a).unwrap();
        assert_eq!(loaded.len(), 12);
        for (place, found) in loaded.iter().enumerate() {
            let (was, picture) = (&examples[place % 3], &found.picture);
            assert_eq!(found.roadwork, was.roadwork);
            assert_eq!(usize::from(picture.transform_level.unwrap()), place / 3);
            assert_eq!(picture.group.as_deref(), Some(was.picture.id.as_str()));
            assert_eq!(picture.origin.as_deref(), Some("synthetic"));
            assert_eq!(picture.split, was.picture.split);
            assert_eq!(picture.difficulty, was.picture.difficulty);
            assert_eq!(picture.sha256, Some(dataset::sha256(&picture.bytes().unwrap())));
            let image = picture.decode(&ImageLimits::default()).unwrap();
            let (scene, before) =
                (picture.scene.as_ref().unwrap(), was.picture.scene.as_ref().unwrap());
            assert_eq!((scene.level, scene.hard_negative), (2, before.hard_negative));
            assert_eq!(scene.weather, before.weather);
            assert_eq!((scene.width, scene.height), (image.width(), image.height()));
            assert_eq!((&scene.file, scene.objects.len()), (&picture.id, 0));
        }
    }
}
