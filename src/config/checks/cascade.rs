//! The stages as a cascade: which there are, in which order, and where each lets go.

use super::{Checks, nearest, suggestion};
use crate::cascade::InputKind;
use crate::config::tree::Origin;
use crate::config::{Key, StageConfig};

/// The policy that ends at the first stage that is sure; for others, exits mean nothing.
const EXITING_POLICY: &str = "cascade";

/// A stage's name is a label of metrics, beside this actor's.
const TAKEN: &str = "supervisor";

impl Checks<'_> {
    pub(super) fn cascade(&mut self) {
        let (config, names) = (self.config, self.names);
        let (key, policy) = (Key::from(["cascade", "policy"]), &config.cascade.policy);
        if !names.policies.contains(policy) {
            let hint = suggestion(policy, &names.policies);
            self.report(&key, format!("there is no policy called \"{policy}\""), hint);
        }
        let (key, order) = (Key::from(["cascade", "order"]), &config.cascade.order);
        let takes_part = |name: &String| config.stages.get(name).is_none_or(|stage| stage.enabled);
        self.need(
            order.iter().any(takes_part),
            &key,
            "must name at least one stage that is enabled",
        );
        let stages: Vec<_> = config.stages.keys().cloned().collect();
        for (index, name) in order.iter().enumerate() {
            if order[..index].contains(name) {
                let hint =
                    "name each stage once; a stage that is to be asked twice needs two sections";
                self.report(&key, format!("\"{name}\" is named twice"), hint.into());
            } else if !config.stages.contains_key(name) {
                let hint = suggestion(name, &stages);
                self.report(&key, format!("there is no stage called \"{name}\""), hint);
            }
        }
        self.exits();
    }

    pub(super) fn stages(&mut self) {
        let config = self.config;
        for (name, stage) in &config.stages {
            self.name(name);
            self.backend(name, stage);
            let (key, rule) = (["stages", name, "batching", "rule"], &stage.spec.batching.rule);
            if !self.names.rules.contains(rule) {
                let hint = suggestion(rule, &self.names.rules);
                let message = format!("there is no batching rule called \"{rule}\"");
                self.report(&Key::from(key), message, hint);
            }
            let key = Key::from(["stages", name]);
            let is_ours = self.tree.within(&key).all(|(_, leaf)| leaf.origin == Origin::Default);
            if !config.cascade.order.contains(name) && !is_ours && !stage.spec.backend.is_empty() {
                let message = "this stage is not in cascade.order, so it does not run".into();
                let hint = "add it to cascade.order, or remove the section".into();
                self.warn(&key, message, hint);
            }
        }
    }

    fn name(&mut self, name: &str) {
        let key = Key::from(["stages", name]);
        let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let fits = !name.is_empty() && name.len() <= 64 && name.chars().all(is_fine);
        if !fits || name == TAKEN {
            let message = "this cannot be the name of a stage".into();
            let hint = format!(
                "use 1 to 64 letters, digits, `-` and `_`, and not \"{TAKEN}\": the name is a label \
                 of metrics"
            );
            self.report(&key, message, hint);
        }
    }

    fn backend(&mut self, name: &str, stage: &StageConfig) {
        let (key, backend) = (Key::from(["stages", name, "backend"]), &stage.spec.backend);
        if backend.is_empty() {
            let others = self.config.stages.iter().filter(|(_, s)| !s.spec.backend.is_empty());
            let hint = match nearest(name, others.map(|(other, _)| other.as_str())) {
                Some(other) if !self.config.cascade.order.iter().any(|n| n == name) => {
                    format!("did you mean the stage \"{other}\"?")
                }
                _ => format!("name one: {}", self.names.backends.join(", ")),
            };
            self.report(&key, "the stage has no backend".into(), hint);
        } else if !self.names.backends.contains(backend) {
            let hint = suggestion(backend, &self.names.backends);
            self.report(&key, format!("there is no backend called \"{backend}\""), hint);
        } else if self.names.wrappers.contains(backend) {
            self.wrapped(&Key::from(["stages", name, backend, "backend"]), stage);
        }
    }

    /// A backend that wraps another one must name it, and not one that wraps others itself.
    fn wrapped(&mut self, key: &Key, stage: &StageConfig) {
        let names = self.names;
        let fit = names.backends.iter().filter(|name| !names.wrappers.contains(name));
        let fit: Vec<String> = fit.cloned().collect();
        match stage.settings().get("backend").and_then(toml::Value::as_str) {
            None => {
                let hint = format!("name one: {}", fit.join(", "));
                self.report(key, "the backend that is asked must be named".into(), hint);
            }
            Some(inner) if !fit.iter().any(|name| name == inner) => {
                let message = format!("there is no backend called \"{inner}\" that can stand here");
                self.report(key, message, suggestion(inner, &fit));
            }
            Some(_) => {}
        }
    }

    /// Between the exits a stage passes the job on. Exits that cross contradict each other; equal
    /// ones pass nothing on, so whatever follows would never be asked.
    fn exits(&mut self) {
        let (config, order) = (self.config, &self.config.cascade.order);
        for (name, stage) in &config.stages {
            let (below, above) = (stage.rule.exit_below, stage.rule.exit_above);
            let place = order.iter().position(|n| n == name);
            let later = place.map_or(&[][..], |place| &order[place + 1..]);
            let follows = |n: &&String| {
                let next = config.stages.get(*n);
                let input = next.and_then(|next| next.rule.when.input);
                next.is_none_or(|next| next.enabled) && can_follow(stage.rule.when.input, input)
            };
            let next = later.iter().find(follows);
            let key = Key::from(["stages", name, "exit_below"]);
            let other = Key::from(["stages", name, "exit_above"]);
            if self.is_reported(&key) || self.is_reported(&other) {
                continue;
            }
            let is_crossed = below > above;
            let is_shut = below == above && config.cascade.policy == EXITING_POLICY;
            if is_crossed {
                let message = format!("must be below {}", self.other(&other));
                let hint = "lower exit_below or raise exit_above; scores between them go to the next stage";
                self.report(&key, message, hint.into());
            } else if let (true, Some(next)) = (is_shut, next) {
                let message = format!(
                    "must be below {}: with equal exits \"{name}\" always answers and \"{next}\" is \
                     never asked",
                    self.other(&other)
                );
                let hint = format!("lower exit_below, raise exit_above, or take \"{next}\" out");
                self.report(&key, message, format!("{hint} of cascade.order"));
            }
        }
    }
}

/// Whether some job is for both: a stage for images is not followed by one for clips.
fn can_follow(stage: Option<InputKind>, next: Option<InputKind>) -> bool {
    stage.is_none() || next.is_none() || stage == next
}
