//! Model files: a folder in the Hugging Face layout, or the same files compiled in.
//!
//! `config.json`, `preprocessor_config.json`, and the weights as `<name>.safetensors` or in shards
//! listed by `<name>.safetensors.index.json`. Only the headers are read at first; each tensor is
//! read when a network asks for it and becomes f32 at once, so a large checkpoint is in memory
//! once. An error names the file and the tensor, what was expected and what was found.
//!
//! Must not know: what a tensor is for.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use safetensors::tensor::{Dtype, Metadata};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Why a model file is of no use.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The model's folder is not a folder.
    #[error("the model folder {0} does not exist (or is not a folder)")]
    NoFolder(PathBuf),
    /// A file is not there.
    #[error("{place} has no {missing}")]
    NoFile {
        /// The folder, or the name of the embedded model.
        place: String,
        /// The file, or the files any of which would do.
        missing: String,
    },
    /// A file could not be read. The cause names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A JSON file does not say what we need.
    #[error("{file}: {cause}")]
    Json {
        /// The file.
        file: String,
        /// What the parser said.
        cause: serde_json::Error,
    },
    /// A file contradicts itself.
    #[error("{file} is broken: {cause}")]
    Broken {
        /// The file.
        file: String,
        /// In what way.
        cause: String,
    },
    /// A tensor is not in the files.
    #[error("{file} has no tensor `{tensor}`{}", shape_hint(.expected))]
    NoTensor {
        /// The file, or the list of shards.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// The shape it should have, if that is known.
        expected: Option<Vec<usize>>,
    },
    /// A tensor has another shape than the configuration says.
    #[error("{file}: tensor `{tensor}` has shape {found:?}, the configuration says {expected:?}")]
    Shape {
        /// The file.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A tensor is not of a type that we read as f32.
    #[error("{file}: tensor `{tensor}` is {found}; read are F16, BF16, F32 and F64")]
    Type {
        /// The file.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// The type in the file.
        found: String,
    },
}

fn shape_hint(expected: &Option<Vec<usize>>) -> String {
    expected.as_ref().map(|shape| format!(" (expected with shape {shape:?})")).unwrap_or_default()
}

type Result<T> = std::result::Result<T, WeightsError>;

/// A file name and its bytes.
pub type EmbeddedFile = (&'static str, &'static [u8]);

/// Where the files of one model are.
#[derive(Clone, Debug)]
pub struct ModelFiles(Place);

#[derive(Clone)]
enum Place {
    Folder(PathBuf),
    Embedded { name: &'static str, files: &'static [EmbeddedFile] },
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_string())
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Embedded { name, .. } => write!(f, "the built-in model `{name}`"),
        }
    }
}

impl ModelFiles {
    /// A folder on disk; it must exist.
    pub fn folder(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        if path.is_dir() {
            Ok(Self(Place::Folder(path)))
        } else {
            Err(WeightsError::NoFolder(path))
        }
    }

    /// Files compiled into the program.
    pub fn embedded(name: &'static str, files: &'static [EmbeddedFile]) -> Self {
        Self(Place::Embedded { name, files })
    }

    /// True if there is a file of that name.
    pub fn contains(&self, name: &str) -> bool {
        match &self.0 {
            Place::Folder(path) => path.join(name).is_file(),
            Place::Embedded { files, .. } => files.iter().any(|(n, _)| *n == name),
        }
    }

    /// How messages name a file.
    pub fn label(&self, name: &str) -> String {
        match &self.0 {
            Place::Folder(path) => path.join(name).display().to_string(),
            place => format!("{name} of {place}"),
        }
    }

    /// A whole file.
    pub fn read(&self, name: &str) -> Result<Cow<'static, [u8]>> {
        match &self.0 {
            Place::Folder(path) if self.contains(name) => {
                Ok(Cow::Owned(fs_err::read(path.join(name))?))
            }
            Place::Folder(_) => Err(self.missing(name)),
            Place::Embedded { .. } => self.embedded_bytes(name).map(Cow::Borrowed),
        }
    }

    /// The files that a name in the settings means: `embedded:NAME`, or the path of a folder.
    pub fn named(model: &str) -> std::result::Result<Self, super::ModelError> {
        let Some(name) = model.strip_prefix("embedded:") else {
            return Ok(Self::folder(model)?);
        };
        super::embedded::find(name).ok_or_else(|| {
            let names = super::embedded::NAMES.join(", ");
            let message = format!("there is no embedded model `{name}`; there are {names}");
            super::ModelError::config(message)
        })
    }

    /// SHA-256 of everything that a model is made of: the names and contents of its JSON and
    /// safetensors files, in lower-case hex.
    pub fn digest(&self) -> Result<String> {
        self.digest_of(&self.names()?)
    }

    /// The same of what its features depend on: the encoder's configuration and weights and the
    /// preprocessing, and neither head nor calibration.
    pub fn encoder_digest(&self) -> Result<String> {
        const SETTINGS: [&str; 2] = ["config.json", "preprocessor_config.json"];
        const INDEX: &str = "model.safetensors.index.json";
        let mut names = self.names()?;
        names.retain(|name| SETTINGS.contains(&name.as_str()) || name.starts_with("model"));
        if self.contains(INDEX) && !self.contains("model.safetensors") {
            names.extend(self.weight_map(INDEX)?.into_values());
        }
        names.sort();
        names.dedup();
        self.digest_of(&names)
    }

    fn digest_of(&self, names: &[String]) -> Result<String> {
        let mut hasher = Sha256::new();
        for name in names {
            hasher.update((name.len() as u64).to_le_bytes());
            hasher.update(name);
            let mut content = Sha256::new();
            match &self.0 {
                Place::Folder(path) => {
                    io::copy(&mut fs_err::File::open(path.join(name))?, &mut content)?;
                }
                Place::Embedded { .. } => content.update(self.embedded_bytes(name)?),
            }
            hasher.update(content.finalize());
        }
        Ok(format!("{:x}", hasher.finalize()))
    }

    /// The names of the JSON and safetensors files, sorted.
    fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        match &self.0 {
            Place::Folder(path) => {
                for entry in fs_err::read_dir(path)? {
                    names.extend(entry?.file_name().into_string().ok());
                }
            }
            Place::Embedded { files, .. } => names.extend(files.iter().map(|(n, _)| (*n).into())),
        }
        let is_part = |name: &String| name.ends_with(".json") || name.ends_with(".safetensors");
        names.retain(|name| is_part(name) && self.contains(name));
        names.sort();
        Ok(names)
    }

    /// A whole JSON file.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        serde_json::from_slice(&self.read(name)?)
            .map_err(|cause| WeightsError::Json { file: self.label(name), cause })
    }

    /// The tensors of `<stem>.safetensors`, or of the shards in `<stem>.safetensors.index.json`.
    pub fn checkpoint(&self, stem: &str) -> Result<Checkpoint> {
        let single = format!("{stem}.safetensors");
        let index = format!("{single}.index.json");
        if self.contains(&single) {
            return Checkpoint::open(vec![self.open(&single)?]);
        }
        if !self.contains(&index) {
            return Err(self.missing(&format!("{single} (nor {index})")));
        }
        self.sharded(&index)
    }

    /// The files that [`checkpoint`](Self::checkpoint) reads, the index of shards among them.
    pub fn checkpoint_files(&self, stem: &str) -> Result<Vec<String>> {
        let checkpoint = self.checkpoint(stem)?;
        let mut names: Vec<String> =
            checkpoint.shards.iter().map(|shard| shard.name.clone()).collect();
        if !names.contains(&format!("{stem}.safetensors")) {
            names.push(format!("{stem}.safetensors.index.json"));
        }
        Ok(names)
    }

    /// The file that each tensor is in.
    fn weight_map(&self, index: &str) -> Result<BTreeMap<String, String>> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let Index { weight_map } = self.json(index)?;
        for name in weight_map.values() {
            if name.contains(['/', '\\']) || name == ".." {
                let cause = format!("`{name}` is not the name of a file beside it");
                return Err(WeightsError::Broken { file: self.label(index), cause });
            }
        }
        Ok(weight_map)
    }

    fn sharded(&self, index: &str) -> Result<Checkpoint> {
        let weight_map = self.weight_map(index)?;
        let names: HashSet<&String> = weight_map.values().collect();
        let shards = names.into_iter().map(|name| self.open(name));
        let checkpoint = Checkpoint::open(shards.collect::<Result<Vec<_>>>()?)?;
        for (tensor, shard) in &weight_map {
            let entry = checkpoint.tensors.get(tensor);
            if entry.is_none_or(|entry| checkpoint.shards[entry.shard].name != *shard) {
                let cause = format!("tensor `{tensor}` is not in {shard}");
                return Err(WeightsError::Broken { file: self.label(index), cause });
            }
        }
        Ok(checkpoint)
    }

    fn open(&self, name: &str) -> Result<Shard> {
        let bytes = match &self.0 {
            Place::Folder(path) if self.contains(name) => Bytes::File(path.join(name)),
            Place::Folder(_) => return Err(self.missing(name)),
            Place::Embedded { .. } => Bytes::Embedded(self.embedded_bytes(name)?),
        };
        Ok(Shard { name: name.to_owned(), label: self.label(name), bytes, data_start: 0 })
    }

    fn embedded_bytes(&self, name: &str) -> Result<&'static [u8]> {
        match &self.0 {
            Place::Embedded { files, .. } => {
                let file = files.iter().find(|(n, _)| *n == name);
                file.map(|(_, bytes)| *bytes).ok_or_else(|| self.missing(name))
            }
            Place::Folder(_) => Err(self.missing(name)),
        }
    }

    fn missing(&self, name: &str) -> WeightsError {
        WeightsError::NoFile { place: self.0.to_string(), missing: name.to_owned() }
    }
}

/// The tensors of one or more safetensors files, by name. Cheap to clone.
#[derive(Clone)]
pub struct Checkpoint {
    shards: Arc<Vec<Shard>>,
    tensors: Arc<HashMap<String, Entry>>,
}

struct Shard {
    name: String,
    label: String,
    bytes: Bytes,
    data_start: u64,
}

enum Bytes {
    File(PathBuf),
    Embedded(&'static [u8]),
}

struct Entry {
    shard: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    offset: u64,
    length: usize,
}

impl Checkpoint {
    /// The names of all tensors, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// The shape of a tensor.
    pub fn shape(&self, tensor: &str) -> Option<&[usize]> {
        self.tensors.get(tensor).map(|entry| &*entry.shape)
    }

    /// Reads a tensor as f32; with an expected shape, any other is an error.
    pub fn tensor(
        &self,
        tensor: &str,
        expected: Option<&[usize]>,
        device: &Device,
    ) -> Result<Tensor> {
        let Some(entry) = self.tensors.get(tensor) else {
            return Err(WeightsError::NoTensor {
                file: self.label(),
                tensor: tensor.to_owned(),
                expected: expected.map(<[usize]>::to_vec),
            });
        };
        let shard = &self.shards[entry.shard];
        let (file, tensor) = (shard.label.clone(), tensor.to_owned());
        if let Some(expected) = expected
            && entry.shape != expected
        {
            let (expected, found) = (expected.to_vec(), entry.shape.clone());
            return Err(WeightsError::Shape { file, tensor, expected, found });
        }
        let dtype = match entry.dtype {
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            other => return Err(WeightsError::Type { file, tensor, found: format!("{other:?}") }),
        };
        let bytes = shard.read(shard.data_start + entry.offset, entry.length)?;
        Tensor::from_raw_buffer(&bytes, dtype, &entry.shape, device)
            .and_then(|tensor| tensor.to_dtype(DType::F32))
            .map_err(|error| shard.broken(format!("tensor `{tensor}`: {error}")))
    }

    /// What a network is built from.
    pub fn var_builder(&self, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, device.clone())
    }

    fn open(mut shards: Vec<Shard>) -> Result<Self> {
        let mut tensors = HashMap::new();
        for (index, shard) in shards.iter_mut().enumerate() {
            for (name, entry) in shard.header(index)? {
                if tensors.insert(name.clone(), entry).is_some() {
                    return Err(shard.broken(format!("tensor `{name}` is in another shard too")));
                }
            }
        }
        Ok(Self { shards: Arc::new(shards), tensors: Arc::new(tensors) })
    }

    fn label(&self) -> String {
        self.shards.iter().map(|shard| shard.label.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Shard {
    /// Reads the header: 8 bytes of length, then JSON. Every tensor then lies in the file.
    fn header(&mut self, index: usize) -> Result<Vec<(String, Entry)>> {
        const HEADER_BYTES_MAX: u64 = 100_000_000;
        let total = self.len()?;
        let length = match *self.read(0, 8.min(total as usize))? {
            [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => return Err(self.broken("it is shorter than 8 bytes")),
        };
        if length > HEADER_BYTES_MAX || length > total - 8 {
            return Err(self.broken(format!("its header claims {length} bytes of {total}")));
        }
        self.data_start = 8 + length;
        let json = self.read(8, length as usize)?;
        let metadata: Metadata = serde_json::from_slice(&json)
            .map_err(|cause| WeightsError::Json { file: self.label.clone(), cause })?;
        // Parsing has checked that every tensor fills its bytes and that they follow each other.
        let (needed, found) = (metadata.data_len() as u64, total - self.data_start);
        if needed != found {
            let cause = format!("its tensors take {needed} bytes, but it holds {found}");
            return Err(self.broken(cause));
        }
        let mut entries = Vec::new();
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let (dtype, shape) = (info.dtype, info.shape.clone());
            let (offset, length) = (start as u64, end - start);
            entries.push((name, Entry { shard: index, dtype, shape, offset, length }));
        }
        Ok(entries)
    }

    fn len(&self) -> Result<u64> {
        match &self.bytes {
            Bytes::File(path) => Ok(fs_err::metadata(path)?.len()),
            Bytes::Embedded(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Bytes that are known to lie in the file.
    fn read(&self, start: u64, length: usize) -> Result<Cow<'static, [u8]>> {
        match &self.bytes {
            Bytes::File(path) => {
                let mut file = fs_err::File::open(path)?;
                file.seek(SeekFrom::Start(start))?;
                let mut bytes = vec![0; length];
                file.read_exact(&mut bytes)?;
                Ok(Cow::Owned(bytes))
            }
            Bytes::Embedded(bytes) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX);
                let range = bytes.get(start..).and_then(|rest| rest.get(..length));
                range.map(Cow::Borrowed).ok_or_else(|| self.broken("it is cut short"))
            }
        }
    }

    fn broken(&self, cause: impl Into<String>) -> WeightsError {
        WeightsError::Broken { file: self.label.clone(), cause: cause.into() }
    }
}

impl SimpleBackend for Checkpoint {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let tensor = self.tensor(name, Some(shape.dims()), device);
        tensor.map_err(candle_core::Error::wrap)?.to_dtype(dtype)
    }

    fn get_unchecked(
        &self,
        name: &str,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        self.tensor(name, None, device).map_err(candle_core::Error::wrap)?.to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}

#[cfg(test)]
mod tests;
