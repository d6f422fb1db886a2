//! What a frozen encoder says of images, computed once and kept on disk.
//!
//! A row is named by what it depends on: the encoder with its preprocessing
//! ([`ModelFiles::encoder_digest`]), the pooling, the revision of the code, the SHA-256 of the
//! image's bytes, and the name of the change if the image was varied. So the
//! cache may be shared by any number of data sets, and is right whatever is renamed or moved. A run that
//! is killed loses the batch it was at; a row is the same, bit for bit, whoever computed it with whom.

mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::dataset::{Picture, sha256};
use crate::image::{Image, ImageLimits};
use crate::models::{Encoder, Head, ModelFiles, Pooling, Preprocessor};
use store::{Key, Store};

/// Names the code that computes rows. Raise it with every change after which the same model and the same
/// image give another row: to decoding, resizing and normalising, to the encoder's arithmetic, to
/// pooling, or to a variation that keeps its name.
const REVISION: u32 = 1;
/// Images decoded and held at a time.
const CHUNK: usize = 64;
/// Images that go through the encoder at a time.
const BATCH: usize = 16;

/// One row of numbers for each picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// Numbers in a row.
    pub width: usize,
    /// The rows, one after the other.
    pub values: Vec<f32>,
    /// What names each row: SHA-256 of the picture's bytes, or of these and of a change; lower-case hex.
    pub digests: Vec<String>,
}

impl Features {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..][..self.width]
    }

    /// The rows with these numbers, in that order.
    pub fn pick(&self, indices: &[usize]) -> Self {
        Self {
            width: self.width,
            values: indices.iter().flat_map(|i| self.row(*i)).copied().collect(),
            digests: indices.iter().map(|i| self.digests[*i].clone()).collect(),
        }
    }
}

/// Whose features, and where they are kept.
#[derive(Clone, Copy, Debug)]
pub struct FeatureSpec<'a> {
    /// `embedded:NAME`, or the path of a model folder.
    pub model: &'a str,
    /// What is pooled; without it, what the model's head looks at.
    pub pooling: Option<Pooling>,
    /// Folder of the cache; made if it is not there.
    pub cache: &'a Path,
    /// What to decode.
    pub limits: ImageLimits,
}

/// How a picture is changed before it is looked at; what is random follows from the generator.
pub type Vary<'a> = dyn Fn(&Image, &mut ChaCha8Rng) -> anyhow::Result<Image> + Sync + 'a;

/// A picture, as it is or changed.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    /// The picture.
    pub picture: &'a Picture,
    /// The name of the change, and the change. The same name must always mean the same change: name
    /// and picture seed the generator and name the row.
    pub vary: Option<(&'a str, &'a Vary<'a>)>,
}

impl Item<'_> {
    /// What the row is named by, given the picture's own key.
    fn key(&self, picture: Key) -> Key {
        match self.vary {
            None => picture,
            Some((name, _)) => {
                Sha256::new().chain_update(picture).chain_update(name).finalize().into()
            }
        }
    }

    fn image(&self, key: &Key, limits: &ImageLimits) -> anyhow::Result<Image> {
        let image = self.picture.decode(limits)?;
        match self.vary {
            None => Ok(image),
            Some((_, vary)) => vary(&image, &mut ChaCha8Rng::from_seed(*key)),
        }
    }
}

/// The features of the pictures as they are; see [`compute_items`].
///
/// # Errors
/// As there.
pub fn compute(
    spec: &FeatureSpec<'_>,
    pictures: &[&Picture],
    progress: &dyn Fn(u64),
) -> anyhow::Result<Features> {
    let items: Vec<Item<'_>> =
        pictures.iter().map(|picture| Item { picture, vary: None }).collect();
    compute_items(spec, &items, progress)
}

/// The features of the items, computed where the cache has none. `progress` is told how many are
/// done.
///
/// A picture whose hash a manifest gives, and whose row is there, is not even read.
///
/// # Errors
/// If the model or an image cannot be read, or a feature is not finite: the message names the image.
pub fn compute_items(
    spec: &FeatureSpec<'_>,
    items: &[Item<'_>],
    progress: &dyn Fn(u64),
) -> anyhow::Result<Features> {
    let model = Model::load(spec).with_context(|| format!("model {}", spec.model))?;
    let mut store = Store::open(&spec.cache.join(&model.name), model.width)?;
    let pictures: Vec<&Picture> = items.iter().map(|item| item.picture).collect();
    let digests = digests(&pictures)?;
    let digests: Vec<Key> = items.iter().zip(digests).map(|(item, key)| item.key(key)).collect();
    let mut rows = store.read(&digests.iter().copied().collect())?;
    let missing: Vec<usize> = first_of_each(&digests)
        .into_iter()
        .filter(|index| !rows.contains_key(&digests[*index]))
        .collect();
    let mut done = (items.len() - missing.len()) as u64;
    progress(done);
    for chunk in missing.chunks(CHUNK) {
        let decode = |index: &usize| items[*index].image(&digests[*index], &spec.limits);
        let images: Vec<Image> = chunk.par_iter().map(decode).collect::<anyhow::Result<_>>()?;
        let batch = if model.preprocessor.size().is_some() { BATCH } else { 1 };
        for (indices, images) in chunk.chunks(batch).zip(images.chunks(batch)) {
            let batch = model.rows(images)?;
            for (index, row) in indices.iter().zip(&batch) {
                let id = &items[*index].picture.id;
                let is_finite = row.iter().all(|value| value.is_finite());
                anyhow::ensure!(is_finite, "the features of image {id} are not finite");
            }
            let named = indices.iter().map(|index| digests[*index]).zip(batch);
            let named: Vec<(Key, Vec<f32>)> = named.collect();
            store.append(&named)?;
            rows.extend(named);
            done += indices.len() as u64;
            progress(done);
        }
    }
    assemble(model.width, &digests, &rows)
}

fn assemble(
    width: usize,
    digests: &[Key],
    rows: &HashMap<Key, Vec<f32>>,
) -> anyhow::Result<Features> {
    let mut values = Vec::with_capacity(width * digests.len());
    for digest in digests {
        values.extend(rows.get(digest).context("a row of the cache is gone")?);
    }
    Ok(Features { width, values, digests: digests.iter().map(hex).collect() })
}

/// SHA-256 of each picture's bytes: what its manifest says, or of what is read.
fn digests(pictures: &[&Picture]) -> anyhow::Result<Vec<Key>> {
    let digest = |picture: &&Picture| {
        let text = match &picture.sha256 {
            Some(known) => known.clone(),
            None => sha256(&picture.bytes()?),
        };
        key(&text).with_context(|| format!("image {}: `{text}` is no SHA-256", picture.id))
    };
    pictures.par_iter().map(digest).collect()
}

/// SHA-256 of each picture's bytes in lower-case hex: what its manifest says, or of what is read.
///
/// # Errors
/// If an image cannot be read.
pub fn digests_hex(pictures: &[&Picture]) -> anyhow::Result<Vec<String>> {
    Ok(digests(pictures)?.iter().map(hex).collect())
}

fn key(text: &str) -> Option<Key> {
    let pairs = text.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> =
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    bytes?.try_into().ok()
}

fn hex(key: &Key) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first index of each digest.
fn first_of_each(digests: &[Key]) -> Vec<usize> {
    let mut seen = std::collections::HashSet::with_capacity(digests.len());
    (0..digests.len()).filter(|index| seen.insert(digests[*index])).collect()
}

/// A frozen encoder.
struct Model {
    preprocessor: Preprocessor,
    encoder: Encoder,
    pooling: Pooling,
    width: usize,
    /// The name of its folder in the cache.
    name: String,
}

impl Model {
    fn load(spec: &FeatureSpec<'_>) -> anyhow::Result<Self> {
        let files = ModelFiles::named(spec.model)?;
        let (preprocessor, encoder) = (Preprocessor::load(&files)?, Encoder::load(&files)?);
        let hidden = encoder.hidden_size();
        let pooling = match spec.pooling {
            Some(pooling) => pooling,
            None if files.contains("head.safetensors") => Head::load(&files, hidden)?.pooling(),
            None => anyhow::bail!("there is no head that says what to pool; name a pooling"),
        };
        let pooled = match pooling {
            Pooling::Cls => "cls",
            Pooling::ClsMean => "cls-mean",
            Pooling::ClsMeanMax => "cls-mean-max",
        };
        let name = format!("{}-{pooled}-r{REVISION}", &files.encoder_digest()?[..32]);
        let width = pooling.width(hidden);
        Ok(Self { preprocessor, encoder, pooling, width, name })
    }

    fn rows(&self, images: &[Image]) -> anyhow::Result<Vec<Vec<f32>>> {
        let images: Vec<&Image> = images.iter().collect();
        let features = self.encoder.forward(&self.preprocessor.tensor(&images)?)?;
        Ok(self.pooling.pool(&features)?.to_vec2()?)
    }
}
