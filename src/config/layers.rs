//! Where settings come from, and in which order: the later wins.
//!
//! Must not know: which keys there are, apart from those that the plain environment names stand for.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::ENABLED;
use super::key::Key;
use super::problem::Problem;
use super::tree::{Leaf, Origin, Tree, flatten};

/// The manual: every key, with its default and a comment.
pub const DEFAULT: &str = include_str!("../../config/default.toml");

/// The environment variables of our own begin with this.
const PREFIX: &str = "ROADCREW__";

/// Plain environment names and the settings they stand for. A key below `first` belongs to the
/// first stage in `cascade.order`.
const ALIASES: [(&str, [&str; 2]); 5] = [
    ("MINER_PORT", ["axon", "port"]),
    ("WALLET_NAME", ["wallet", "name"]),
    ("WALLET_HOTKEY", ["wallet", "hotkey"]),
    ("CASCADE_THRESHOLD_LOW", ["first", "exit_below"]),
    ("CASCADE_THRESHOLD_HIGH", ["first", "exit_above"]),
];

/// Plain environment names that say whether a stage takes part, and the stage they mean.
const SWITCHES: [(&str, &str); 2] = [("USE_THINKING_MODE", "thinking"), ("USE_MOLMO", "molmo")];

/// One `--set KEY=VALUE`.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    key: Key,
    value: Value,
}

impl Setting {
    /// Sets a string, whatever it looks like.
    pub fn text(key: [&str; 2], text: &str) -> Self {
        Self { key: Key::from(key), value: Value::String(text.to_owned()) }
    }
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
        Ok(Self { key: key.trim().parse()?, value: read_value(value) })
    }
}

/// Everything that settings are read from, besides the compiled-in defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Settings of the program's own, as TOML.
    pub program: String,
    /// The files, in order.
    pub files: Vec<PathBuf>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// The `--set` arguments, in order.
    pub sets: Vec<Setting>,
    /// What was set while serving.
    pub overrides: Tree,
}

impl Sources {
    /// Adds this process's environment; names and values that are not UTF-8 are not ours.
    #[must_use]
    pub fn with_process_env(mut self) -> Self {
        let pairs = std::env::vars_os();
        let ours = pairs.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        self.env.extend(ours);
        self.env.sort();
        self
    }
}

/// The values of one source.
pub(super) type Layer = Vec<(Key, Leaf)>;

/// The compiled-in layer. Empty if it does not parse, which a test excludes.
pub(super) fn defaults() -> Layer {
    let table: toml::Table = DEFAULT.parse().unwrap_or_default();
    let leaf = |value| Leaf { value, origin: Origin::Default };
    flatten(table).into_iter().map(|(key, value)| (key, leaf(value))).collect()
}

/// A file.
pub(super) fn file(path: &Path) -> Result<Layer, Box<Problem>> {
    let text = fs_err::read_to_string(path).map_err(|error| {
        let next = "check the path given with --config, and that it can be read";
        Box::new(Problem::source(error.to_string(), next))
    })?;
    let (table, spans) = parse(&text, &path.display().to_string())?;
    let with_line = |(key, value): (Key, Value)| {
        let line = position(&text, start_of(&spans, key.names())).0;
        (key, Leaf { value, origin: Origin::File { path: path.to_owned(), line } })
    };
    Ok(flatten(table).into_iter().map(with_line).collect())
}

/// The program's own settings.
pub(super) fn program(text: &str) -> Result<Layer, Box<Problem>> {
    let (table, _) = parse(text, "the settings of this program")?;
    let leaf = |value| Leaf { value, origin: Origin::Program };
    Ok(flatten(table).into_iter().map(|(key, value)| (key, leaf(value))).collect())
}

/// A text's values, and where in it they stand.
fn parse<'t>(text: &'t str, name: &str) -> Result<(toml::Table, DeTable<'t>), Box<Problem>> {
    let broken = |error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let (line, column) = position(text, start);
        let message = format!("{name}:{line}:{column}: {}", error.message());
        Box::new(Problem::source(message, "correct the TOML there; the rest was not looked at"))
    };
    let table = text.parse().map_err(broken)?;
    Ok((table, DeTable::parse(text).map_err(broken)?.into_inner()))
}

/// The plain names. `first` is the stage that the thresholds belong to; without one they are
/// passed over, since the order itself is then reported.
pub(super) fn aliases(env: &[(String, String)], first: Option<&str>) -> Layer {
    let mut layer = Layer::new();
    for (name, [section, setting]) in ALIASES {
        let set = env.iter().find(|(n, value)| n == name && !value.is_empty());
        let Some((_, value)) = set else { continue };
        let key = match (section, first) {
            ("first", Some(stage)) => Key::from(["stages", stage, setting]),
            ("first", None) => continue,
            _ => Key::from([section, setting]),
        };
        let mut leaf = from_env(name, value);
        // Wallets are often called 1, 2, 3.
        if section == "wallet" && !leaf.value.is_str() {
            leaf.value = Value::String(value.clone());
        }
        layer.push((key, leaf));
    }
    layer
}

/// The switches that are set, each with its stage's key.
pub(super) fn switches(env: &[(String, String)]) -> Layer {
    let set = |(name, stage): &(&str, &str)| {
        let (_, value) = env.iter().find(|(n, value)| n == name && !value.is_empty())?;
        let mut leaf = from_env(name, value);
        match value.trim().to_ascii_lowercase().as_str() {
            "1" | "yes" | "on" | "true" => leaf.value = Value::Boolean(true),
            "0" | "no" | "off" | "false" => leaf.value = Value::Boolean(false),
            _ => {}
        }
        Some((Key::from(["stages", stage, ENABLED]), leaf))
    };
    SWITCHES.iter().filter_map(set).collect()
}

/// The variables that begin with `ROADCREW__`.
pub(super) fn environment(env: &[(String, String)]) -> Result<Layer, Vec<Problem>> {
    let (mut layer, mut problems) = (Layer::new(), Vec::new());
    for (name, value) in env {
        let Some(path) = name.strip_prefix(PREFIX).filter(|_| !value.is_empty()) else { continue };
        let path = path.to_lowercase();
        let mut names = path.split("__");
        let first = names.next().filter(|_| path.split("__").all(|name| !name.is_empty()));
        match first {
            Some(first) => {
                let key = names.fold(Key::top(first), |key, name| key.child(name));
                layer.push((key, from_env(name, value)));
            }
            None => {
                let message = format!("the environment variable {name} names no setting");
                let next = "write it as ROADCREW__SECTION__KEY, such as ROADCREW__HTTP__PORT";
                problems.push(Problem::source(message, next));
            }
        }
    }
    if problems.is_empty() { Ok(layer) } else { Err(problems) }
}

/// The `--set` arguments. A value that is a table sets each of its keys.
pub(super) fn sets(sets: &[Setting]) -> Layer {
    let mut layer = Layer::new();
    for Setting { key, value } in sets {
        let leaf = |value| Leaf { value, origin: Origin::Set };
        match value {
            Value::Table(table) if !table.is_empty() => {
                for (below, value) in flatten(table.clone()) {
                    let key = below.names().iter().fold(key.clone(), |key, name| key.child(name));
                    layer.push((key, leaf(value)));
                }
            }
            value => layer.push((key.clone(), leaf(value.clone()))),
        }
    }
    layer
}

/// What was set while serving.
pub(super) fn overrides(tree: &Tree) -> Layer {
    tree.iter().map(|(key, leaf)| (key.clone(), leaf.clone())).collect()
}

fn from_env(name: &str, value: &str) -> Leaf {
    Leaf { value: read_value(value), origin: Origin::Env(name.to_owned()) }
}

/// A value as TOML, or as the string it is.
fn read_value(text: &str) -> Value {
    text.trim().parse().unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Line and column of a byte, both from 1.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The byte at which a key's value begins, or the nearest one above it that is known.
fn start_of(table: &DeTable<'_>, names: &[String]) -> usize {
    let Some((name, rest)) = names.split_first() else { return 0 };
    let Some(value) = table.iter().find(|(key, _)| key.get_ref() == name).map(|(_, v)| v) else {
        return 0;
    };
    match value.get_ref() {
        DeValue::Table(below) if !rest.is_empty() => start_of(below, rest),
        _ => value.span().start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_from_one_and_in_characters() {
        assert_eq!(position("a\nbé = 1\n", 2), (2, 1));
        assert_eq!(position("a\nbé = 1\n", 7), (2, 5));
        assert_eq!(position("", 0), (1, 1));
    }

    #[test]
    fn values_are_toml_or_else_strings() {
        assert_eq!(read_value("8091"), Value::Integer(8091));
        assert_eq!(read_value("[\"a\"]"), Value::Array(vec!["a".into()]));
        assert_eq!(read_value("127.0.0.1"), Value::String("127.0.0.1".into()));
        assert_eq!(read_value("1\nb = 2"), Value::String("1\nb = 2".into()));
        assert!("no-equals-sign".parse::<Setting>().is_err());
    }

    #[test]
    fn sets_of_tables_set_their_keys() {
        let setting: Setting = "a.b={ c = 1, d.e = 2 }".parse().unwrap();
        let keys: Vec<_> = sets(&[setting]).into_iter().map(|(key, _)| key.to_string()).collect();
        assert_eq!(keys, ["a.b.c", "a.b.d.e"]);
    }

    #[test]
    fn aliases_and_prefixed_names() {
        let env = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>()
        };
        let plain = env(&[("MINER_PORT", "8092"), ("CASCADE_THRESHOLD_LOW", "0.2"), ("X", "1")]);
        let keys = |layer: Layer| layer.iter().map(|(k, _)| k.to_string()).collect::<Vec<_>>();
        let layer = aliases(&plain, Some("look"));
        assert_eq!(keys(layer), ["axon.port", "stages.look.exit_below"]);
        assert_eq!(keys(aliases(&plain, None)), ["axon.port"]);
        assert_eq!(keys(switches(&env(&[("USE_MOLMO", "1")]))), ["stages.molmo.enabled"]);
        assert_eq!(keys(aliases(&env(&[("MINER_PORT", "")]), None)), [""; 0]);
        for (text, read) in [("1", "1"), ("007", "007"), ("true", "true"), ("\"a b\"", "a b")] {
            let wallet = aliases(&env(&[("WALLET_HOTKEY", text)]), None);
            assert_eq!(keys(wallet.clone()), ["wallet.hotkey"]);
            assert_eq!(wallet[0].1.value, Value::String(read.into()));
        }
        let ours = environment(&env(&[("ROADCREW__STAGES__A__EXIT_BELOW", "0.2")])).unwrap();
        assert_eq!(keys(ours), ["stages.a.exit_below"]);
        assert!(environment(&env(&[("ROADCREW__A____B", "1")])).is_err());
    }
}
