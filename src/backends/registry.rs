//! Backends by name. A researcher registers a factory and names it in the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Backend;
use crate::onnx::LibrarySpec;

/// What a factory is given.
#[derive(Clone, Debug, Default)]
pub struct BackendContext {
    /// The stage this instance belongs to.
    pub stage: String,
    /// The largest batch the instance will be asked for.
    pub max_batch: usize,
    /// How many instances run side by side and share the cores.
    pub instances: usize,
    /// Where ONNX Runtime is, for backends that want it.
    pub onnx: LibrarySpec,
    /// The backend's own settings: the table `[stages.NAME.BACKEND]`, empty if absent.
    pub settings: toml::Table,
}

impl BackendContext {
    /// The backend's own settings as its own type, with the key in the message if one is wrong.
    pub fn settings<T: serde::de::DeserializeOwned>(&self) -> anyhow::Result<T> {
        T::deserialize(toml::Value::Table(self.settings.clone()))
            .map_err(|e| anyhow::anyhow!("settings of stage {}: {}", self.stage, e.message()))
    }
}

/// Builds a backend, on the thread of the instance that will run it.
pub type Factory =
    Arc<dyn Fn(&BackendContext) -> anyhow::Result<Box<dyn Backend>> + Send + Sync + 'static>;

/// Backends by name.
#[derive(Clone)]
pub struct Registry {
    backends: BTreeMap<String, Entry>,
}

/// Builds a backend that wraps others, which it takes from the registry.
type Wrap =
    Arc<dyn Fn(&BackendContext, &Registry) -> anyhow::Result<Box<dyn Backend>> + Send + Sync>;

#[derive(Clone)]
enum Build {
    Plain(Factory),
    Wrapping(Wrap),
}

#[derive(Clone)]
struct Entry {
    build: Build,
    keys: Option<&'static [&'static str]>,
    takes_files: bool,
}

impl Default for Registry {
    /// The backends that come with roadcrew.
    fn default() -> Self {
        let mut registry = Self { backends: BTreeMap::new() };
        registry.add("classifier", |ctx| Ok(Box::new(super::classifier::Classifier::new(ctx)?)));
        registry.keys("classifier", super::classifier::KEYS);
        registry.add("onnx", |ctx| Ok(Box::new(super::onnx::Onnx::new(ctx)?)));
        registry.keys("onnx", super::onnx::KEYS);
        registry.add("scripted", |ctx| Ok(Box::new(super::scripted::Scripted::new(ctx)?)));
        registry.keys("scripted", super::scripted::KEYS);
        registry.takes_files("scripted");
        registry.add_wrapper(super::tta::NAME, |ctx, registry| {
            Ok(Box::new(super::tta::Tta::new(ctx, registry)?))
        });
        registry.keys(super::tta::NAME, super::tta::KEYS);
        registry
    }
}

impl Registry {
    /// Adds a backend under a name of your choice, replacing one of the same name.
    pub fn add<F>(&mut self, name: &str, factory: F)
    where
        F: Fn(&BackendContext) -> anyhow::Result<Box<dyn Backend>> + Send + Sync + 'static,
    {
        let build = Build::Plain(Arc::new(factory));
        self.backends.insert(name.to_owned(), Entry { build, keys: None, takes_files: false });
    }

    /// Adds a backend that wraps another one, replacing one of the same name. Its setting `backend`
    /// names the other, whose own settings are a table of that name beside it.
    pub fn add_wrapper<F>(&mut self, name: &str, build: F)
    where
        F: Fn(&BackendContext, &Registry) -> anyhow::Result<Box<dyn Backend>>
            + Send
            + Sync
            + 'static,
    {
        let build = Build::Wrapping(Arc::new(build));
        self.backends.insert(name.to_owned(), Entry { build, keys: None, takes_files: false });
    }

    /// Names the keys of a backend's own settings, so that a misspelt one is found when the
    /// configuration is checked and not when the backend loads.
    pub fn keys(&mut self, name: &str, keys: &'static [&'static str]) {
        if let Some(entry) = self.backends.get_mut(name) {
            entry.keys = Some(keys);
        }
    }

    /// Says that a backend understands [`super::Input::File`] as well as decoded pictures.
    pub fn takes_files(&mut self, name: &str) {
        if let Some(entry) = self.backends.get_mut(name) {
            entry.takes_files = true;
        }
    }

    /// Whether a backend understands files that nobody has decoded.
    pub fn is_content_with_files(&self, name: &str) -> bool {
        self.backends.get(name).is_some_and(|entry| entry.takes_files)
    }

    /// The keys of a backend's own settings, if it has named them.
    pub fn known_keys(&self, name: &str) -> Option<&'static [&'static str]> {
        self.backends.get(name)?.keys
    }

    /// The factory of that name.
    pub fn get(&self, name: &str) -> Option<Factory> {
        match &self.backends.get(name)?.build {
            Build::Plain(factory) => Some(factory.clone()),
            Build::Wrapping(wrap) => {
                let (wrap, registry) = (wrap.clone(), self.clone());
                Some(Arc::new(move |ctx| wrap(ctx, &registry)))
            }
        }
    }

    /// The names of the backends that wrap others.
    pub fn wrappers(&self) -> impl Iterator<Item = &str> {
        let wraps = |entry: &Entry| matches!(entry.build, Build::Wrapping(_));
        self.backends.iter().filter(move |(_, entry)| wraps(entry)).map(|(name, _)| name.as_str())
    }

    /// The names that `stages.NAME.backend` accepts.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.backends.keys().map(String::as_str)
    }
}
