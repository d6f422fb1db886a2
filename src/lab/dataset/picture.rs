//! One image of a data set, and what is known of it besides its label.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::shard::Shard;
use crate::image::{Image, ImageLimits};
use crate::lab::scenes::SceneLabel;

/// Where an image's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// A row of a parquet file.
    Parquet {
        /// The file; its pictures share it.
        file: Arc<Shard>,
        /// The row, counted from 0.
        row: u64,
    },
}

impl Source {
    /// The file that the bytes are in.
    pub fn file(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Parquet { file, .. } => file.path(),
        }
    }
}

/// One image, and what is known of it besides its label.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Its name within the data set, unique there: a path below the folder.
    pub id: String,
    /// Where its bytes are.
    pub source: Source,
    /// Images of one group (one drive, one place) belong on the same side of every split.
    pub group: Option<String>,
    /// Where it comes from, such as `real` or `synthetic`.
    pub origin: Option<String>,
    /// The level of the subnet's transforms that it went through, 0 to 3.
    pub transform_level: Option<u8>,
    /// How hard it is, by whoever wrote the manifest; larger is harder.
    pub difficulty: Option<f64>,
    /// The part of a split that it was in, such as `train`.
    pub split: Option<String>,
    /// SHA-256 of its bytes, in lower-case hex, if a manifest says so.
    pub sha256: Option<String>,
    /// What else is known of it, if it is a scene.
    pub scene: Option<SceneLabel>,
}

impl Picture {
    /// An image of which nothing is known.
    pub fn new(id: String, source: Source) -> Self {
        Self {
            id,
            source,
            group: None,
            origin: None,
            transform_level: None,
            difficulty: None,
            split: None,
            sha256: None,
            scene: None,
        }
    }

    /// A file of which nothing is known.
    pub fn file(id: String, path: PathBuf) -> Self {
        Self::new(id, Source::File(path))
    }

    /// The bytes of the image file; those that the manifest's hash is of, if it has one.
    ///
    /// # Errors
    /// If they cannot be read, or are others than the manifest says; the message names the image.
    pub fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        let bytes = match &self.source {
            Source::File(path) => fs_err::read(path)?,
            Source::Parquet { file, row } => file.bytes(*row)?,
        };
        if let Some(expected) = &self.sha256 {
            let found = sha256(&bytes);
            anyhow::ensure!(
                found == *expected,
                "image {} has changed since its manifest was written: SHA-256 {found}, expected \
                 {expected}",
                self.id
            );
        }
        Ok(bytes)
    }

    /// The picture.
    ///
    /// # Errors
    /// If it cannot be read or decoded; the message names the image.
    pub fn decode(&self, limits: &ImageLimits) -> anyhow::Result<Image> {
        let image = Image::decode(&self.bytes()?, limits);
        image.with_context(|| format!("image {}", self.id))
    }
}

/// SHA-256 in lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}
