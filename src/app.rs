//! The wiring: from a checked configuration and the parts it may name to a running engine.
//!
//! Must not know: arguments, or how anything is printed.

mod axon;
mod changes;
mod exit;
mod metagraph;
mod notify;
mod overrides;
mod parts;
mod reload;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::actors::{Engine, Routing, StagePlan};
use crate::backends::{BackendContext, calibrated};
use crate::calibration::Remap;
use crate::cascade::PolicyContext;
use crate::config::{Config, Resolved, Sources, StageConfig, Tree};
use crate::http::{self, Bound, Decode, Ended, Limits, Sockets};
use crate::metrics;

pub use exit::Exit;
pub(crate) use notify::{NOTIFY_SOCKET, Notifier, READY};
pub use parts::Parts;
use reload::Reloader;

/// How often the metrics are folded; between scrapes they would grow.
const UPKEEP: Duration = Duration::from_secs(5);

/// A configuration and the parts it names, ready to start.
#[derive(Clone)]
pub struct App {
    config: Config,
    parts: Parts,
    origins: Option<Origins>,
}

/// What a server gets from whoever started its process.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Sockets that listen already; where there is none, the server binds as its settings say.
    pub sockets: Sockets,
    /// The parent that starts it again, if there is one.
    pub parent: Option<Parent>,
}

/// Who starts the server again when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// How many servers of the same parent died before this one.
    pub restarts: u64,
}

/// What a configuration was read from, and every value that this gave.
#[derive(Clone)]
struct Origins {
    sources: Sources,
    tree: Tree,
}

impl App {
    /// Takes a configuration that was checked against the names of these parts. There is nothing to
    /// read it from again, so its server refuses to reload.
    pub fn new(config: Config, parts: Parts) -> Self {
        Self { config, parts, origins: None }
    }

    /// Takes what these sources gave with the names of these parts; its server can read them again.
    pub fn from_sources(sources: Sources, resolved: Resolved, parts: Parts) -> Self {
        let origins = Origins { sources, tree: resolved.tree };
        Self { config: resolved.config, parts, origins: Some(origins) }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The same parts with other settings; the change must leave them fit to use. No source gives
    /// them, so there is nothing to reload.
    #[must_use]
    pub fn with(&self, change: impl FnOnce(&mut Config)) -> Self {
        let mut changed = self.clone();
        change(&mut changed.config);
        changed.origins = None;
        changed
    }

    /// What the whole process has only once: the metrics' recorder and the threads for tensors.
    /// Later calls change nothing.
    pub fn prepare_process(&self) {
        metrics::install();
        let threads = self.config.engine.threads;
        if std::env::var_os("RAYON_NUM_THREADS").is_none() && threads > 0 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            if let Err(error) = pool.build_global() {
                tracing::debug!(%error, "the threads for tensors are as they were");
            }
        }
    }

    /// Starts the engine. Must be called within an actix system; the stages load in the background.
    ///
    /// # Errors
    /// If the configuration names a part that is not there; one that was checked does not.
    pub fn start_engine(&self) -> anyhow::Result<Engine> {
        let cascade = &self.config.cascade;
        let mut plans = Vec::new();
        for name in &cascade.order {
            let stage = self.config.stages.get(name);
            plans.push(self.plan(name, stage.with_context(|| format!("no stage {name}"))?)?);
        }
        let engine = Engine::start(&self.config.engine, self.routing(&self.config)?, plans);
        engine.set_settings_version(&version(&self.config));
        Ok(engine)
    }

    /// What an engine routes with under these settings.
    fn routing(&self, config: &Config) -> anyhow::Result<Routing> {
        let cascade = &config.cascade;
        let stages = cascade.order.iter().filter_map(|name| config.stages.get(name));
        let context = PolicyContext {
            stages: cascade.order.clone(),
            rules: stages.map(|stage| stage.rule.clone()).collect(),
            exhausted: cascade.exhausted,
        };
        let policy = self.parts.policies.build(&cascade.policy, context);
        let policy = policy.with_context(|| format!("no policy {}", cascade.policy))?;
        Ok(Routing { policy, exhausted: cascade.exhausted })
    }

    /// The hook that reloads the settings of an engine which this app has started.
    pub fn reloader(&self, engine: &Engine) -> Arc<dyn http::Reload> {
        Arc::new(Reloader::new(self.clone(), engine.clone()))
    }

    fn plan(&self, name: &str, stage: &StageConfig) -> anyhow::Result<StagePlan> {
        let StageConfig { spec, rule, calibration, .. } = stage.clone();
        let factory = self.parts.backends.get(&spec.backend);
        let factory = factory.with_context(|| format!("no backend {}", spec.backend))?;
        let remap = Remap::new(&calibration).with_context(|| format!("calibration of {name}"))?;
        let factory = calibrated(factory, remap);
        let batching = self.parts.rules.build(&spec.batching);
        let batching = batching.with_context(|| format!("no rule {}", spec.batching.rule))?;
        let context = BackendContext {
            stage: name.to_owned(),
            max_batch: spec.batching.max_batch,
            instances: spec.instances,
            onnx: self.config.onnx.clone(),
            settings: stage.settings(),
        };
        Ok(StagePlan { name: name.to_owned(), spec, rule, factory, context, batching })
    }

    /// The sockets that a server of these settings listens on: those given, and for the ports that
    /// lack one, new ones. For a parent, which holds them.
    ///
    /// # Errors
    /// If a port or the wallet cannot be opened.
    pub fn listen(&self, inherited: Sockets) -> anyhow::Result<Sockets> {
        let axon = axon::is_open(&self.config)?.then_some(&self.config.axon);
        inherited.complete(&self.config.http, axon)
    }

    /// Refuses a socket for the public port if that is closed: nobody would ever answer there.
    ///
    /// # Errors
    /// If it is, or the wallet cannot be read.
    pub fn check_sockets(&self, inherited: &Sockets) -> anyhow::Result<()> {
        if inherited.axon.is_some() && !axon::is_open(&self.config)? {
            anyhow::bail!(
                "a socket named axon was passed on, and there is no hotkey to answer for; set \
                 wallet.hotkey or axon.hotkeys, or pass no such socket"
            );
        }
        Ok(())
    }

    /// Serves until told to stop. `announce` is called once the port is open.
    ///
    /// # Errors
    /// If the port cannot be opened, or the server fails while it runs.
    pub fn serve(
        &self,
        inherited: Inherited,
        announce: impl FnOnce(&Announcement),
    ) -> anyhow::Result<Exit> {
        self.prepare_process();
        metrics::process_restarts(inherited.parent.map_or(0, |parent| parent.restarts));
        actix::System::new().block_on(async {
            let engine = self.start_engine()?;
            let _upkeep = actix::spawn(async {
                loop {
                    tokio::time::sleep(UPKEEP).await;
                    metrics::upkeep();
                }
            });
            self.run(engine, inherited, announce).await
        })
    }

    /// Opens the ports: the private one, and the public one if there is a hotkey to answer for; on
    /// these sockets as far as there are any. Must be called within an actix system.
    ///
    /// # Errors
    /// If a port or the wallet cannot be opened.
    pub fn bind(&self, engine: &Engine, sockets: Sockets) -> anyhow::Result<Bound> {
        let limits = Limits {
            image: self.config.image,
            clip: self.config.clip,
            as_files: self.takes_files(),
        };
        let axon = axon::build(&self.config)?;
        let bound = http::bind(&self.config.http, engine.clone(), limits, sockets.http)?;
        let bound = bound.reloading(self.reloader(engine))?;
        let Some((axon, supply)) = axon else { return Ok(bound) };
        actix::spawn(supply.keep());
        bound.with_axon(axon, limits, sockets.axon)
    }

    /// Whether pictures need not be decoded.
    fn takes_files(&self) -> bool {
        let stages =
            self.config.cascade.order.iter().filter_map(|name| self.config.stages.get(name));
        let mut backends = stages.map(|stage| stage.spec.backend.as_str());
        self.config.http.decode == Decode::Needed
            && backends.all(|name| self.parts.backends.is_content_with_files(name))
    }

    /// Opens the ports and serves.
    async fn run(
        &self,
        engine: Engine,
        inherited: Inherited,
        announce: impl FnOnce(&Announcement),
    ) -> anyhow::Result<Exit> {
        let mut bound = self.bind(&engine, inherited.sockets)?;
        if inherited.parent.is_some() {
            bound = bound.under_parent();
        }
        actix::spawn(notify::when_ready(engine.clone()));
        announce(&self.announcement(bound.address(), bound.axon_address()));
        let ended = bound.run().await?;
        engine.stop().await;
        Ok(match ended {
            Ended::Drained => Exit::Ok,
            Ended::Forced => Exit::Failure,
            Ended::SupervisorDied => Exit::Internal,
            Ended::MustRestart => Exit::TryAgain,
        })
    }

    /// What is said once the port at `address` is open.
    pub fn announcement(&self, address: SocketAddr, axon: Option<SocketAddr>) -> Announcement {
        let stage = |name: &String| {
            let spec = &self.config.stages.get(name)?.spec;
            Some((name.clone(), spec.backend.clone(), spec.instances))
        };
        let stages = self.config.cascade.order.iter().filter_map(stage).collect();
        Announcement { address, axon, threads: rayon::current_num_threads(), stages }
    }
}

/// What answers depend on besides the weights: this program, and every setting of the stages.
fn version(config: &Config) -> String {
    let Config { image, clip, cascade, stages, .. } = config;
    let program = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    format!("{program:?} {image:?} {clip:?} {cascade:?} {stages:?}")
}

/// What a server says of itself when it has opened its port.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where validators are answered; `None` if there is no hotkey to answer for.
    pub axon: Option<SocketAddr>,
    /// Threads for tensors.
    pub threads: usize,
    /// Each stage's name, backend and number of instances, in order.
    pub stages: Vec<(String, String, usize)>,
}

impl fmt::Display for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "listening on http://{}", self.address)?;
        match self.axon {
            Some(address) => writeln!(f, "axon on http://{address}")?,
            None => writeln!(f, "axon closed: no hotkey; set wallet.hotkey or axon.hotkeys")?,
        }
        write!(f, "device cpu, {} threads", self.threads)?;
        for (name, backend, instances) in &self.stages {
            write!(f, "\nstage {name}: {backend}, {instances}")?;
            f.write_str(if *instances == 1 { " instance" } else { " instances" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calibration_changes_the_version() {
        let resolved = crate::config::resolve(&Sources::default(), &Parts::default().names());
        let mut config = resolved.unwrap().config;
        let before = version(&config);
        let stage = config.stages.get_mut("confirm").unwrap();
        stage.calibration.points = vec![[0.0, 0.1], [1.0, 0.9]];
        assert_ne!(version(&config), before);
    }
}
