//! The configuration: the sum of every module's settings, read from layers, checked as a whole.
//!
//! Each module owns its `Spec` beside the code that uses it; this one composes them, remembers
//! where every value came from, and says everything that is wrong at once. `config/default.toml`
//! is the first layer and the manual.
//!
//! Must not know: how anything is built from the settings.

mod checks;
mod key;
mod layers;
mod manual;
mod problem;
mod screening;
mod shape;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::actors::{EngineSpec, StageSpec};
use crate::bittensor::{CallersSpec, MetagraphSpec, WalletSpec};
use crate::calibration::CalibrationSpec;
use crate::cascade::{CascadeSpec, StageRule};
use crate::http::HttpSpec;
use crate::http::axon::AxonSpec;
use crate::image::ImageLimits;
use crate::logging::LogSpec;
use crate::onnx::LibrarySpec;
use crate::video::ClipLimits;

pub use key::Key;
pub use layers::{DEFAULT, Setting, Sources};
pub use problem::{Problem, Problems};
pub use tree::{Leaf, Origin, Tree};

/// Every setting, checked.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[http]`
    pub http: HttpSpec,
    /// `[axon]`
    pub axon: AxonSpec,
    /// `[callers]`
    pub callers: CallersSpec,
    /// `[metagraph]`
    pub metagraph: MetagraphSpec,
    /// `[wallet]`
    pub wallet: WalletSpec,
    /// `[image]`
    pub image: ImageLimits,
    /// `[clip]`
    pub clip: ClipLimits,
    /// `[engine]`
    pub engine: EngineSpec,
    /// `[cascade]`
    pub cascade: CascadeSpec,
    /// `[log]`
    pub log: LogSpec,
    /// `[onnx]`
    pub onnx: LibrarySpec,
    /// `[stages.NAME]`
    pub stages: BTreeMap<String, StageConfig>,
}

/// The key of a stage that says whether it takes part.
const ENABLED: &str = "enabled";

/// The table of a stage that says what becomes of its scores.
const CALIBRATION: &str = "calibration";

/// One stage's settings: its own, the cascade's, and those of backends.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct StageConfig {
    /// How it runs.
    pub spec: StageSpec,
    /// When its scores end the walk, and when it is asked.
    pub rule: StageRule,
    /// Whether it takes part.
    pub enabled: bool,
    /// `[stages.NAME.calibration]`: what becomes of its scores.
    pub calibration: CalibrationSpec,
    /// `[stages.NAME.BACKEND]`, by backend; only that of `spec.backend` is used.
    pub backends: BTreeMap<String, toml::Table>,
}

impl StageConfig {
    /// The settings of its backend, empty if there are none.
    pub fn settings(&self) -> toml::Table {
        self.backends.get(&self.spec.backend).cloned().unwrap_or_default()
    }
}

impl TryFrom<toml::Table> for StageConfig {
    type Error = String;

    fn try_from(table: toml::Table) -> Result<Self, String> {
        let (mut spec, mut rule) = (toml::Table::new(), toml::Table::new());
        let (mut backends, mut enabled) = (BTreeMap::new(), true);
        let mut calibration = CalibrationSpec::default();
        let text = |error: toml::de::Error| error.message().to_owned();
        for (name, value) in table {
            if name == ENABLED {
                enabled = value.try_into().map_err(text)?;
            } else if name == CALIBRATION {
                calibration = value.try_into().map_err(text)?;
            } else if shape::fields::<StageSpec>().contains(&name.as_str()) {
                spec.insert(name, value);
            } else if shape::fields::<StageRule>().contains(&name.as_str()) {
                rule.insert(name, value);
            } else if let toml::Value::Table(settings) = value {
                backends.insert(name, settings);
            } else {
                return Err(format!("`{name}` is no setting of a stage"));
            }
        }
        let spec = StageSpec::deserialize(spec).map_err(text)?;
        let rule = StageRule::deserialize(rule).map_err(text)?;
        Ok(Self { spec, rule, enabled, calibration, backends })
    }
}

/// The names that settings may use, from the registries of the program that reads them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names {
    /// Backends, for `stages.NAME.backend`.
    pub backends: Vec<String>,
    /// The keys of those backends' own settings that have named them.
    pub backend_keys: BTreeMap<String, Vec<String>>,
    /// Those backends that wrap another one: `stages.NAME.BACKEND.backend` names it, and its settings
    /// are the table of its name there.
    pub wrappers: Vec<String>,
    /// Routing policies, for `cascade.policy`.
    pub policies: Vec<String>,
    /// Batching rules, for `stages.NAME.batching.rule`.
    pub rules: Vec<String>,
}

/// A configuration that may be used.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The settings.
    pub config: Config,
    /// Each value with its origin.
    pub tree: Tree,
    /// What is odd, and not wrong.
    pub warnings: Vec<Problem>,
}

/// Reads the layers, merges them, and checks the outcome.
///
/// # Errors
/// Everything that is wrong. Sources that cannot be read are reported first, alone: what stands in
/// them cannot be judged, nor what the others say without them.
pub fn resolve(sources: &Sources, names: &Names) -> Result<Resolved, Problems> {
    let read = read(sources).map_err(Problems)?;
    let screening::Merged { tree, mut problems, mut warnings } =
        screening::merge(&read, &sources.env, names);
    let mut config = match Config::deserialize(tree.table()) {
        Ok(config) => config,
        Err(error) => {
            let next = "this is a bug in roadcrew: please report it with your configuration";
            problems.push(Problem::source(error.message().to_owned(), next));
            return Err(Problems(problems));
        }
    };
    let found = checks::run(&config, &tree, names);
    problems.extend(found.problems);
    warnings.extend(found.warnings);
    let Config { cascade, stages, .. } = &mut config;
    cascade.order.retain(|name| stages.get(name).is_none_or(|stage| stage.enabled));
    problems.sort_by(|a, b| a.key.cmp(&b.key));
    if problems.is_empty() {
        Ok(Resolved { config, tree, warnings })
    } else {
        Err(Problems(problems))
    }
}

/// The layers of every source, in order, up to where the plain environment names belong, and those
/// after.
struct Layers {
    before_aliases: Vec<layers::Layer>,
    after_aliases: Vec<layers::Layer>,
}

fn read(sources: &Sources) -> Result<Layers, Vec<Problem>> {
    let (mut before_aliases, mut problems) = (Vec::new(), Vec::new());
    let program = std::iter::once(layers::program(&sources.program));
    for layer in program.chain(sources.files.iter().map(|path| layers::file(path))) {
        match layer {
            Ok(layer) => before_aliases.push(layer),
            Err(problem) => problems.push(*problem),
        }
    }
    let environment = layers::environment(&sources.env).unwrap_or_else(|found| {
        problems.extend(found);
        Vec::new()
    });
    let after_aliases =
        vec![environment, layers::sets(&sources.sets), layers::overrides(&sources.overrides)];
    if problems.is_empty() { Ok(Layers { before_aliases, after_aliases }) } else { Err(problems) }
}
