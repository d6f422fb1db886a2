//! What is in a data set, and what is wrong with it.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::partition::{contradictions, identical};
use super::{Example, sha256};
use crate::image::{Image, ImageLimits};

/// Images decoded at a time.
const CHUNK: usize = 256;

/// How many of each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Images that show roadwork.
    pub roadwork: u64,
    /// Images that show none.
    pub not_roadwork: u64,
}

impl Count {
    fn add(&mut self, roadwork: bool) {
        *if roadwork { &mut self.roadwork } else { &mut self.not_roadwork } += 1;
    }

    /// Images of both classes.
    pub fn total(&self) -> u64 {
        self.roadwork + self.not_roadwork
    }
}

/// What is in a data set. Images of which something is not known are not counted there.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// All of them.
    pub images: Count,
    /// By origin.
    pub origins: BTreeMap<String, Count>,
    /// By the subnet's transform level.
    pub transform_levels: BTreeMap<u8, Count>,
    /// By the level of the scene.
    pub scene_levels: BTreeMap<u8, Count>,
    /// By the part of a split.
    pub splits: BTreeMap<String, Count>,
    /// By width and height, as `320x180`.
    pub sizes: BTreeMap<String, Count>,
    /// Groups named.
    pub groups: usize,
    /// Bytes of all image files.
    pub bytes: u64,
    /// Images whose bytes are the same, by their ids.
    pub duplicates: Vec<Vec<String>>,
    /// Those among them whose labels differ.
    pub contradictions: Vec<Vec<String>>,
    /// Images that cannot be read: id and reason.
    pub unreadable: Vec<(String, String)>,
}

impl Stats {
    /// What somebody should look at, for people.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |count: usize, what: &str| {
            if count > 0 {
                warnings.push(format!("{count} {what}"));
            }
        };
        warn(self.unreadable.len(), "images cannot be read");
        warn(self.contradictions.len(), "sets of identical images have different labels");
        warn(self.duplicates.len(), "sets of identical images");
        if self.images.roadwork == 0 || self.images.not_roadwork == 0 {
            warnings.push("all images are of one class: nothing can be learned or measured".into());
        }
        warnings
    }
}

/// What one image's file says.
type Seen = anyhow::Result<(String, u64, String)>;

/// Reads and decodes every image. `progress` is told how many are done.
pub fn stats(examples: &[Example], limits: &ImageLimits, progress: &dyn Fn(u64)) -> Stats {
    let mut stats = Stats::default();
    let mut digests = Vec::with_capacity(examples.len());
    for chunk in examples.chunks(CHUNK) {
        let seen: Vec<Seen> = chunk.par_iter().map(|example| look(example, limits)).collect();
        for (example, seen) in chunk.iter().zip(seen) {
            digests.push(stats.add(example, seen));
        }
        progress(digests.len() as u64);
    }
    let groups: std::collections::BTreeSet<_> =
        examples.iter().filter_map(|e| e.picture.group.as_ref()).collect();
    stats.groups = groups.len();
    let ids = |sets: Vec<Vec<usize>>| -> Vec<Vec<String>> {
        let names = |set: Vec<usize>| set.iter().map(|i| examples[*i].picture.id.clone()).collect();
        sets.into_iter().map(names).collect()
    };
    stats.contradictions = ids(contradictions(examples, &digests));
    stats.duplicates = ids(identical(&digests));
    stats
}

fn look(example: &Example, limits: &ImageLimits) -> Seen {
    let bytes = example.picture.bytes()?;
    let image = Image::decode(&bytes, limits)?;
    let size = format!("{}x{}", image.width(), image.height());
    Ok((sha256(&bytes), bytes.len() as u64, size))
}

impl Stats {
    /// Counts one image; its digest, or nothing if it cannot be read.
    fn add(&mut self, example: &Example, seen: Seen) -> Option<String> {
        let Example { picture, roadwork } = example;
        self.images.add(*roadwork);
        if let Some(origin) = &picture.origin {
            self.origins.entry(origin.clone()).or_default().add(*roadwork);
        }
        if let Some(level) = picture.transform_level {
            self.transform_levels.entry(level).or_default().add(*roadwork);
        }
        if let Some(scene) = &picture.scene {
            self.scene_levels.entry(scene.level).or_default().add(*roadwork);
        }
        if let Some(split) = &picture.split {
            self.splits.entry(split.clone()).or_default().add(*roadwork);
        }
        match seen {
            Ok((digest, bytes, size)) => {
                self.bytes += bytes;
                self.sizes.entry(size).or_default().add(*roadwork);
                Some(digest)
            }
            Err(error) => {
                self.unreadable.push((picture.id.clone(), format!("{error:#}")));
                None
            }
        }
    }
}
