//! Which keys there are. The names are the fields of each module's own Spec, asked for through
//! serde, so that there is no second list to keep.

use std::collections::BTreeMap;

use serde::de::value::Error;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};

use super::key::Key;
use super::{CALIBRATION, Config, ENABLED, Names};
use crate::actors::batching::BatchingSpec;
use crate::actors::restart::RestartSpec;
use crate::actors::{EngineSpec, StageSpec};
use crate::bittensor::{CallersSpec, MetagraphSpec, WalletSpec};
use crate::calibration::CalibrationSpec;
use crate::cascade::{CascadeSpec, Condition, StageRule};
use crate::http::HttpSpec;
use crate::http::axon::AxonSpec;
use crate::image::ImageLimits;
use crate::logging::LogSpec;
use crate::onnx::LibrarySpec;
use crate::video::ClipLimits;

/// What may stand at a place.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// A value.
    Value,
    /// A table of these keys.
    Table(BTreeMap<String, Shape>),
    /// A table of any keys: a backend's own settings.
    Free,
    /// A table of stages, each of this shape.
    Stages(Box<Shape>),
}

/// How a key fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It is a setting.
    Value,
    /// It is a setting of a backend's own, which only the backend can check.
    Free,
    /// It is a table, and wants keys.
    Table,
    /// There is no such key; the nearest known one, if one is near, and what is known beside it.
    Unknown { nearest: Option<Key>, siblings: Vec<String> },
}

impl Shape {
    /// Everything: the sections, the stages, and the tables of the backends.
    pub(super) fn of_config(names: &Names) -> Self {
        let mut stage = fields_of::<StageSpec>();
        stage.extend(fields_of::<StageRule>());
        stage.insert(ENABLED.into(), Self::Value);
        stage.insert("batching".into(), Self::Table(fields_of::<BatchingSpec>()));
        stage.insert("restart".into(), Self::Table(fields_of::<RestartSpec>()));
        stage.insert(CALIBRATION.into(), Self::Table(fields_of::<CalibrationSpec>()));
        stage.insert("when".into(), Self::Table(fields_of::<Condition>()));
        stage.extend(
            names.backends.iter().map(|name| (name.clone(), Self::of_backend(names, name))),
        );
        let mut root = fields_of::<Config>();
        root.insert("http".into(), Self::Table(fields_of::<HttpSpec>()));
        root.insert("axon".into(), Self::Table(fields_of::<AxonSpec>()));
        root.insert("callers".into(), Self::Table(fields_of::<CallersSpec>()));
        root.insert("metagraph".into(), Self::Table(fields_of::<MetagraphSpec>()));
        root.insert("wallet".into(), Self::Table(fields_of::<WalletSpec>()));
        root.insert("image".into(), Self::Table(fields_of::<ImageLimits>()));
        root.insert("clip".into(), Self::Table(fields_of::<ClipLimits>()));
        root.insert("engine".into(), Self::Table(fields_of::<EngineSpec>()));
        root.insert("cascade".into(), Self::Table(fields_of::<CascadeSpec>()));
        root.insert("log".into(), Self::Table(fields_of::<LogSpec>()));
        root.insert("onnx".into(), Self::Table(fields_of::<LibrarySpec>()));
        root.insert("stages".into(), Self::Stages(Box::new(Self::Table(stage))));
        Self::Table(root)
    }

    /// A backend's own settings. Their values only the backend can check; their names it may tell.
    /// Beside those of one that wraps others stand the tables of all that it can wrap.
    fn of_backend(names: &Names, backend: &str) -> Self {
        let Some(keys) = names.backend_keys.get(backend) else { return Self::Free };
        let mut known: BTreeMap<_, _> = keys.iter().map(|key| (key.clone(), Self::Free)).collect();
        if names.wrappers.iter().any(|name| name == backend) {
            let inner = names.backends.iter().filter(|name| !names.wrappers.contains(name));
            known.extend(inner.map(|name| (name.clone(), Self::of_backend(names, name))));
        }
        Self::Table(known)
    }

    /// How a key fits.
    pub(super) fn fit(&self, key: &Key) -> Fit {
        let (mut here, mut at) = (self, None::<Key>);
        for name in key.names() {
            let below = match here {
                Self::Free => return Fit::Free,
                Self::Value => None,
                Self::Stages(stage) => Some(&**stage),
                Self::Table(known) => known.get(name),
            };
            let Some(below) = below else {
                let siblings = here.names();
                return Fit::Unknown { nearest: self.nearest(key, at.as_ref()), siblings };
            };
            at = Some(at.map_or_else(|| Key::top(name), |at| at.child(name)));
            here = below;
        }
        match here {
            Self::Value => Fit::Value,
            Self::Free => Fit::Free,
            Self::Table(_) | Self::Stages(_) => Fit::Table,
        }
    }

    fn names(&self) -> Vec<String> {
        match self {
            Self::Table(known) => known.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// The known key that was probably meant: one spelt alike beside it, or one of the same name
    /// elsewhere.
    fn nearest(&self, key: &Key, parent: Option<&Key>) -> Option<Key> {
        let stage = key.stage().map_or("NAME", |(stage, _)| stage);
        let all = self.keys(stage);
        let depth = parent.map_or(0, |parent| parent.names().len());
        let wrong = &key.names()[depth];
        let is_beside = |known: &&Key| {
            known.names().len() > depth && parent.is_none_or(|parent| known.is_within(parent))
        };
        let alike = all.iter().filter(is_beside).map(|known| (&known.names()[depth], known));
        let spelt = alike.map(|(name, known)| (strsim::damerau_levenshtein(wrong, name), known));
        let (distance, known) = spelt.min_by_key(|(distance, _)| *distance)?;
        if distance <= 1.max(wrong.chars().count() / 3) {
            let below = key.names()[depth + 1..].iter();
            let renamed = known.names()[..=depth].iter().chain(below);
            let renamed = renamed.fold(None::<Key>, |key, name| {
                Some(key.map_or_else(|| Key::top(name), |key| key.child(name)))
            })?;
            return Some(if all.contains(&renamed) { renamed } else { cut(known, depth + 1) });
        }
        all.into_iter().find(|known| known.last() == key.last())
    }

    /// Every key of a fixed place, the stage being called `stage`.
    pub(super) fn keys(&self, stage: &str) -> Vec<Key> {
        let mut keys = Vec::new();
        if let Self::Table(root) = self {
            for (name, shape) in root {
                shape.collect(&Key::top(name), stage, &mut keys);
            }
        }
        keys
    }

    fn collect(&self, at: &Key, stage: &str, keys: &mut Vec<Key>) {
        match self {
            Self::Value | Self::Free => keys.push(at.clone()),
            Self::Stages(below) => below.collect(&at.child(stage), stage, keys),
            Self::Table(known) => {
                for (name, below) in known {
                    below.collect(&at.child(name), stage, keys);
                }
            }
        }
    }
}

/// The first `depth` names of a key.
fn cut(key: &Key, depth: usize) -> Key {
    let mut cut = key.clone();
    while cut.names().len() > depth {
        let Some(parent) = cut.parent() else { break };
        cut = parent;
    }
    cut
}

/// The fields of a struct, each taken for a value.
fn fields_of<T: DeserializeOwned>() -> BTreeMap<String, Shape> {
    fields::<T>().iter().map(|name| ((*name).to_owned(), Shape::Value)).collect()
}

/// The names of the fields of a struct, as serde knows them.
pub(super) fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &[&str] = &[];
    // A derived `Deserialize` says its fields before it asks for any; nothing is read.
    let _refused = T::deserialize(FieldNames(&mut names));
    names
}

/// A deserializer that listens to what it is asked for, and refuses.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        Err(Error::custom("only the names are wanted"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom("not a struct"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
