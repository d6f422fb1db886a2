//! Backends by name. A researcher registers a factory and names it in the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Backend;

/// What a factory is given.
#[derive(Clone, Debug)]
pub struct BackendContext {
    /// The stage this instance belongs to.
    pub stage: String,
    /// The largest batch the instance will be asked for.
    pub max_batch: usize,
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
    factories: BTreeMap<String, Factory>,
}

impl Default for Registry {
    /// The backends that come with roadcrew.
    fn default() -> Self {
        let mut registry = Self { factories: BTreeMap::new() };
        registry.add("classifier", |ctx| Ok(Box::new(super::classifier::Classifier::new(ctx)?)));
        registry.add("scripted", |ctx| Ok(Box::new(super::scripted::Scripted::new(ctx)?)));
        registry
    }
}

impl Registry {
    /// Adds a backend under a name of your choice, replacing one of the same name.
    pub fn add<F>(&mut self, name: &str, factory: F)
    where
        F: Fn(&BackendContext) -> anyhow::Result<Box<dyn Backend>> + Send + Sync + 'static,
    {
        self.factories.insert(name.to_owned(), Arc::new(factory));
    }

    /// The factory of that name.
    pub fn get(&self, name: &str) -> Option<Factory> {
        self.factories.get(name).cloned()
    }

    /// The names that `stages.NAME.backend` accepts.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.factories.keys().map(String::as_str)
    }
}
