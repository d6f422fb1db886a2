//! Routing policies by name. A researcher registers one and names it in `cascade.policy`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Cascade, Committee, Exhausted, RoutingPolicy, StageRule};

/// What a policy is built from. The stages are in the configured order, one rule each.
#[derive(Clone, Debug)]
pub struct PolicyContext {
    /// The names of the stages.
    pub stages: Vec<String>,
    /// When each stage's score ends the walk, and when it is asked.
    pub rules: Vec<StageRule>,
    /// What to answer when nobody was sure.
    pub exhausted: Exhausted,
}

type Build = Arc<dyn Fn(PolicyContext) -> Box<dyn RoutingPolicy> + Send + Sync>;

/// Routing policies by name.
#[derive(Clone)]
pub struct Policies {
    builders: BTreeMap<String, Build>,
}

impl Default for Policies {
    /// The policies that come with roadcrew.
    fn default() -> Self {
        let mut policies = Self { builders: BTreeMap::new() };
        policies
            .add("cascade", |ctx| Box::new(Cascade { rules: ctx.rules, exhausted: ctx.exhausted }));
        policies.add("committee", |ctx| Box::new(Committee { rules: ctx.rules }));
        policies
    }
}

impl Policies {
    /// Adds a policy under a name of your choice, replacing one of the same name.
    pub fn add<F>(&mut self, name: &str, build: F)
    where
        F: Fn(PolicyContext) -> Box<dyn RoutingPolicy> + Send + Sync + 'static,
    {
        self.builders.insert(name.to_owned(), Arc::new(build));
    }

    /// Builds the policy of that name.
    pub fn build(&self, name: &str, context: PolicyContext) -> Option<Box<dyn RoutingPolicy>> {
        self.builders.get(name).map(|build| build(context))
    }

    /// The names that `cascade.policy` accepts.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.builders.keys().map(String::as_str)
    }
}
