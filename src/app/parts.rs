//! The parts that a configuration may name.

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
    /// The names, for checking a configuration.
    pub fn names(&self) -> Names {
        let owned = |name: &str| name.to_owned();
        Names {
            backends: self.backends.names().map(owned).collect(),
            policies: self.policies.names().map(owned).collect(),
            rules: self.rules.names().map(owned).collect(),
        }
    }
}
