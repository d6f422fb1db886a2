//! Settings as a flat map from key to value, each with where it came from.
//!
//! Must not know: which keys there are, or what they mean.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use toml::Value;

use super::key::Key;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Compiled in: `config/default.toml`.
    Default,
    /// The program: a researcher's own.
    Program,
    /// A file named with `--config`.
    File {
        /// Its path, as it was given.
        path: PathBuf,
        /// The line of the value, from 1.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// `--set`.
    Set,
    /// Set while serving.
    Reload,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Program => f.write_str("program"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Set => f.write_str("--set"),
            Self::Reload => f.write_str("POST /v1/reload"),
        }
    }
}

/// A value and where it came from. A table is a leaf only if it is empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf {
    /// The value.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// Settings by key. No key lies within another, so the leaves always form a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    leaves: BTreeMap<Key, Leaf>,
}

impl Tree {
    /// Puts a value in place of what was there. A value takes the place of a table and the other
    /// way round; an empty table changes nothing where there is a table.
    pub fn put(&mut self, key: Key, leaf: Leaf) {
        let is_table = leaf.value.is_table();
        if is_table && self.leaves.keys().any(|k| k.is_within(&key) && *k != key) {
            return;
        }
        self.leaves.retain(|k, _| !k.is_within(&key) && !key.is_within(k));
        self.leaves.insert(key, leaf);
    }

    /// Takes out every leaf within a key.
    pub fn remove(&mut self, above: &Key) {
        self.leaves.retain(|key, _| !key.is_within(above));
    }

    /// The leaf of exactly this key.
    pub fn get(&self, key: &Key) -> Option<&Leaf> {
        self.leaves.get(key)
    }

    /// Every leaf, in order of its key.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Leaf)> {
        self.leaves.iter()
    }

    /// The leaves within a key.
    pub fn within<'a>(&'a self, above: &'a Key) -> impl Iterator<Item = (&'a Key, &'a Leaf)> {
        self.leaves.iter().filter(|(key, _)| key.is_within(above))
    }

    /// The settings as one table, without origins.
    pub fn table(&self) -> toml::Table {
        let mut root = toml::Table::new();
        for (key, leaf) in &self.leaves {
            insert(&mut root, key.names(), leaf.value.clone());
        }
        root
    }
}

/// Takes a tree apart from the other side: a table's values by key, empty tables included.
pub(super) fn flatten(table: toml::Table) -> Vec<(Key, Value)> {
    let mut flat = Vec::new();
    for (name, value) in table {
        descend(Key::top(&name), value, &mut flat);
    }
    flat
}

fn descend(key: Key, value: Value, flat: &mut Vec<(Key, Value)>) {
    match value {
        Value::Table(table) if !table.is_empty() => {
            for (name, below) in table {
                descend(key.child(&name), below, flat);
            }
        }
        value => flat.push((key, value)),
    }
}

fn insert(table: &mut toml::Table, names: &[String], value: Value) {
    match names {
        [] => {}
        [name] => {
            table.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            let below = table.entry(name.clone()).or_insert_with(|| toml::Table::new().into());
            if let Value::Table(below) = below {
                insert(below, rest, value);
            }
        }
    }
}
