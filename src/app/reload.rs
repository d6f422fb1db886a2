//! Reads the configuration again while serving, and applies what can change.

use anyhow::Context as _;
use parking_lot::Mutex;

use super::changes::{self, Change};
use super::overrides::Overrides;
use super::{App, Origins};
use crate::actors::{Engine, StageTuning, Tuning};
use crate::config::{self, Config, Problem, Resolved, Tree};
use crate::http::{self, Fault, Refusal};

/// A running engine and what it runs by.
pub(super) struct Reloader {
    app: App,
    engine: Engine,
    now: Mutex<Now>,
}

/// What counts at present.
struct Now {
    overrides: Overrides,
    /// The settings that the engine runs by.
    running: Tree,
}

impl Reloader {
    pub(super) fn new(app: App, engine: Engine) -> Self {
        let running = app.origins.as_ref().map(|origins| origins.tree.clone());
        let now = Now { overrides: Overrides::default(), running: running.unwrap_or_default() };
        Self { app, engine, now: Mutex::new(now) }
    }

    /// Reads every source with these values above them.
    fn read(&self, origins: &Origins, overrides: &Overrides) -> Result<Resolved, Vec<Problem>> {
        let sources = config::Sources { overrides: overrides.tree(), ..origins.sources.clone() };
        config::resolve(&sources, &self.app.parts.names()).map_err(|problems| problems.0)
    }

    fn tuning(&self, config: &Config) -> anyhow::Result<Tuning> {
        let stage = |name: &String| {
            let spec = &config.stages.get(name).with_context(|| format!("no stage {name}"))?.spec;
            let batching = self.app.parts.rules.build(&spec.batching);
            let batching = batching.with_context(|| format!("no rule {}", spec.batching.rule))?;
            let max_batch = spec.batching.max_batch;
            anyhow::Ok(StageTuning { batching, max_batch, hang_ms: spec.hang_ms })
        };
        let stages = config.cascade.order.iter().map(stage).collect::<Result<_, _>>()?;
        Ok(Tuning { routing: self.app.routing(config)?, stages })
    }
}

impl http::Reload for Reloader {
    /// One at a time; whoever comes meanwhile waits.
    fn reload(&self, set: &[(String, serde_json::Value)]) -> Result<Vec<http::Change>, Refusal> {
        let origins = self.app.origins.as_ref().ok_or(Refusal::NoSources)?;
        let mut now = self.now.lock();
        let mut overrides = now.overrides.clone();
        let unreadable = overrides.set(set).err().unwrap_or_default();
        let resolved = match self.read(origins, &overrides) {
            Ok(resolved) if unreadable.is_empty() => resolved,
            outcome => {
                let wrong = outcome.err().unwrap_or_default();
                let faults = unreadable.iter().chain(&wrong).map(fault).collect();
                return Err(Refusal::BadConfiguration(faults));
            }
        };
        let changes = changes::between(&now.running, &resolved.tree);
        let (apply, restart): (Vec<_>, Vec<_>) =
            changes.iter().partition(|change| change.can_be_made(&origins.tree));
        if !restart.is_empty() {
            let keys = restart.iter().map(|change| change.key.to_string()).collect();
            return Err(Refusal::NeedsRestart(keys));
        }
        if !apply.is_empty() {
            let tuning = self.tuning(&resolved.config);
            self.engine.retune(tuning.map_err(|error| Refusal::Failed(format!("{error:#}")))?);
            self.engine.set_settings_version(&super::version(&resolved.config));
            for warning in &resolved.warnings {
                tracing::warn!("{warning}");
            }
        }
        *now = Now { overrides, running: resolved.tree };
        Ok(changes.iter().map(told).collect())
    }
}

fn told(change: &Change) -> http::Change {
    let json = |value: &Option<toml::Value>| serde_json::to_value(value).unwrap_or_default();
    http::Change { key: change.key.to_string(), from: json(&change.from), to: json(&change.to) }
}

fn fault(problem: &Problem) -> Fault {
    Fault {
        key: problem.key.as_ref().map(ToString::to_string),
        value: problem.value.clone(),
        origin: problem.origin.as_ref().map(ToString::to_string),
        message: problem.message.clone(),
        hint: problem.hint.clone(),
        text: problem.to_string(),
    }
}
