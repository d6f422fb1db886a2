//! A data set as validators would send it: every image through the subnet's transform levels.

use std::path::Path;

use fs_err as fs;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use super::augment::subnet::{Level, to_jpeg, transform};
use super::dataset::Example;
use super::files::write_whole;
use crate::image::ImageLimits;

/// Images transformed between two reports of progress.
const CHUNK: usize = 64;

/// One line of the manifest.
#[derive(Serialize)]
struct Line<'a> {
    image: String,
    label: u8,
    /// The image that this one was made of: variations of one picture belong together.
    group: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'a str>,
    transform_level: Level,
}

/// Writes `out/images/LEVEL/NNNNNN.jpg` for every example and level, and `out/manifest.jsonl`. What is
/// random follows from the seed, the level and the example's place.
///
/// # Errors
/// If the folder holds a manifest already, an image cannot be read, or the disk is full.
pub fn write_transformed(
    out: &Path,
    examples: &[Example],
    levels: &[Level],
    seed: u64,
    progress: &dyn Fn(u64),
) -> anyhow::Result<u64> {
    let manifest = out.join("manifest.jsonl");
    anyhow::ensure!(
        !manifest.exists(),
        "{} holds a data set already; choose an empty folder",
        out.display()
    );
    let mut text = Vec::new();
    let mut written = 0;
    for level in levels {
        let folder = format!("images/{}", u8::from(*level));
        fs::create_dir_all(out.join(&folder))?;
        for (chunk, examples) in examples.chunks(CHUNK).enumerate() {
            let lines = examples.par_iter().enumerate().map(|(place, example)| {
                let index = chunk * CHUNK + place;
                let image = format!("{folder}/{index:06}.jpg");
                fs::write(out.join(&image), send(example, *level, seed, index as u64)?)?;
                let (label, picture) = (u8::from(example.roadwork), &example.picture);
                let (group, origin) =
                    (picture.group.as_deref().unwrap_or(&picture.id), picture.origin.as_deref());
                Ok(Line { image, label, group, origin, transform_level: *level })
            });
            for line in lines.collect::<anyhow::Result<Vec<_>>>()? {
                serde_json::to_writer(&mut text, &line)?;
                text.push(b'\n');
            }
            written += examples.len() as u64;
            progress(written);
        }
    }
    write_whole(&manifest, &text)?;
    Ok(written)
}

/// The file that a validator would send.
fn send(example: &Example, level: Level, seed: u64, index: u64) -> anyhow::Result<Vec<u8>> {
    let image = example.picture.decode(&ImageLimits::default())?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
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
        scenes::write_dataset(&data, &scenes::DatasetSpec::new(3, 5, 0), &|_| {}).unwrap();
        let examples = dataset::load(&data).unwrap();
        let write = |name: &str, seed| {
            let out = dir.path().join(name);
            write_transformed(&out, &examples, &Level::ALL, seed, &|_| {}).map(|n| (out, n))
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
    }
}
