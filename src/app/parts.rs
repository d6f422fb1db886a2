//! The parts that a configuration may name.

use std::collections::BTreeMap;

use crate::actors::batching::Rules;
use crate::backends::Registry;
use crate::cascade::Policies;
use crate::config::Names;

/// What a program is made of: those parts that come with roadcrew, and those that a researcher adds.
#[derive(Clone, Default)]
pub struct Parts {
    /// Backends, for `stages.NAME.backend`.
    pub backends: Registry,
    /// Routing policies, for `cascade.policy`.
    pub policies: Policies,
    /// Batching rules, for `stages.NAME.batching.rule`.
    pub rules: Rules,
    /// Settings of this program's own, as TOML: a layer above the compiled-in defaults and below
    /// everything that a user says.
    pub settings: String,
}

impl Parts {
    /// The keys that backends have named.
    fn backend_keys(&self) -> BTreeMap<String, Vec<String>> {
        let named = |name: &str| {
            let keys = self.backends.known_keys(name)?.iter().map(|key| (*key).to_owned());
            Some((name.to_owned(), keys.collect()))
        };
        self.backends.names().filter_map(named).collect()
    }

    /// The names, for checking a configuration.
    pub fn names(&self) -> Names {
        let owned = |name: &str| name.to_owned();
        Names {
            backends: self.backends.names().map(owned).collect(),
            backend_keys: self.backend_keys(),
            wrappers: self.backends.wrappers().map(owned).collect(),
            policies: self.policies.names().map(owned).collect(),
            rules: self.rules.names().map(owned).collect(),
        }
    }
}
