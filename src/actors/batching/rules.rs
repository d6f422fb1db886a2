//! Batching rules by name. A researcher registers one and names it in `batching.rule`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Adaptive, BatchingRule, BatchingSpec, Immediate, Window};

type Build = Arc<dyn Fn(&BatchingSpec) -> Box<dyn BatchingRule> + Send + Sync>;

/// Batching rules by name.
#[derive(Clone)]
pub struct Rules {
    builders: BTreeMap<String, Build>,
}

impl Default for Rules {
    /// The rules that come with roadcrew.
    fn default() -> Self {
        let max_wait = |spec: &BatchingSpec| Duration::from_millis(spec.max_wait_ms);
        let mut rules = Self { builders: BTreeMap::new() };
        rules.add("adaptive", move |spec| Box::new(Adaptive { max_wait: max_wait(spec) }));
        rules.add("immediate", |_| Box::new(Immediate));
        rules.add("window", move |spec| Box::new(Window { max_wait: max_wait(spec) }));
        rules
    }
}

impl Rules {
    /// Adds a rule under a name of your choice, replacing one of the same name.
    pub fn add<F>(&mut self, name: &str, build: F)
    where
        F: Fn(&BatchingSpec) -> Box<dyn BatchingRule> + Send + Sync + 'static,
    {
        self.builders.insert(name.to_owned(), Arc::new(build));
    }

    /// Builds the rule that `spec.rule` names.
    pub fn build(&self, spec: &BatchingSpec) -> Option<Box<dyn BatchingRule>> {
        self.builders.get(&spec.rule).map(|build| build(spec))
    }

    /// The names that `batching.rule` accepts.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.builders.keys().map(String::as_str)
    }
}
