//! Each value on its own: is there such a key, and is the value of its type? What does not fit is
//! reported and left out, so that the settings that are left always form a [`Config`].

use std::collections::BTreeSet;

use serde::Deserialize as _;
use toml::Value;

use super::key::Key;
use super::manual::{self, DOCUMENTED_STAGE};
use super::problem::Problem;
use super::shape::{Fit, Shape};
use super::tree::{Leaf, Origin, Tree};
use super::{Config, Layers, Names, layers};

/// The merged layers, what did not fit, and what is odd.
pub(super) struct Merged {
    pub(super) tree: Tree,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// Merges the layers.
pub(super) fn merge(layers: &Layers, env: &[(String, String)], names: &Names) -> Merged {
    let mut screen = Screen::new(names);
    let mut order = screen.base.clone();
    for (key, leaf) in layers.before_aliases.iter().chain(&layers.after_aliases).flatten() {
        if key.to_string() == "cascade.order" {
            order.put(key.clone(), leaf.clone());
        }
    }
    let mut aliases = layers::aliases(env, first_stage(&order).as_deref());
    let stage = |key: &Key| key.stage().map(|(stage, _)| stage.to_owned());
    let given = layers.before_aliases.iter().chain(&layers.after_aliases).flatten();
    let given: BTreeSet<_> = given.filter_map(|(key, _)| stage(key)).collect();
    let (here, missing): (Vec<_>, Vec<_>) = layers::switches(env)
        .into_iter()
        .partition(|(key, _)| stage(key).is_some_and(|stage| given.contains(&stage)));
    aliases.extend(here);
    let warnings = missing.iter().filter_map(|(key, leaf)| no_stage(key, leaf)).collect();
    let accepted: Vec<_> = layers
        .before_aliases
        .iter()
        .chain([&aliases])
        .chain(&layers.after_aliases)
        .flatten()
        .filter(|(key, leaf)| screen.accepts(key, leaf))
        .collect();
    let stages: BTreeSet<_> =
        accepted.iter().filter_map(|(key, _)| Some(key.stage()?.0.to_owned())).collect();
    let mut tree = screen.base.clone();
    stages.iter().for_each(|name| screen.add_stage(&mut tree, name));
    for (key, leaf) in accepted {
        tree.put(key.clone(), leaf.clone());
    }
    Merged { tree, problems: screen.problems, warnings }
}

/// What is said of a switch that has no stage to switch on.
fn no_stage(key: &Key, leaf: &Leaf) -> Option<Problem> {
    let is_off = leaf.value.as_bool() == Some(false);
    let (stage, _) = key.stage()?;
    let message = format!("there is no stage called \"{stage}\", so nothing changes");
    let hint = format!("add a section [stages.{stage}] and name it in cascade.order, or unset it");
    (!is_off).then(|| Problem::at(key, leaf, message, hint))
}

fn first_stage(tree: &Tree) -> Option<String> {
    let order = &tree.get(&Key::from(["cascade", "order"]))?.value;
    Some(order.as_array()?.first()?.as_str()?.to_owned())
}

struct Screen {
    shape: Shape,
    /// The compiled-in layer, its stages complete.
    base: Tree,
    /// What a stage gets for each key that it leaves out: the documented value.
    stage: Vec<(Vec<String>, Leaf)>,
    problems: Vec<Problem>,
}

impl Screen {
    fn new(names: &Names) -> Self {
        let (shape, mut base, mut stage) = (Shape::of_config(names), Tree::default(), Vec::new());
        for (key, mut leaf) in layers::defaults() {
            match key.stage() {
                Some((DOCUMENTED_STAGE, below)) if shape.fit(&key) == Fit::Value => {
                    let below = below.to_vec();
                    base.put(key, leaf.clone());
                    if below == ["backend"] {
                        leaf.value = Value::String(String::new());
                    }
                    stage.push((below, leaf));
                }
                _ => base.put(key, leaf),
            }
        }
        let mut screen = Self { shape, base: base.clone(), stage, problems: Vec::new() };
        let stages: BTreeSet<_> = base.iter().filter_map(|(key, _)| Some(key.stage()?.0)).collect();
        for name in stages {
            let mut base = std::mem::take(&mut screen.base);
            screen.add_stage(&mut base, name);
            screen.base = base;
        }
        screen
    }

    /// Gives a stage what it leaves out.
    fn add_stage(&self, tree: &mut Tree, name: &str) {
        for (below, leaf) in &self.stage {
            let key = below.iter().fold(Key::from(["stages", name]), |key, name| key.child(name));
            if tree.get(&key).is_none() {
                tree.put(key, leaf.clone());
            }
        }
    }

    /// Whether a value may be merged; if not, says why.
    fn accepts(&mut self, key: &Key, leaf: &Leaf) -> bool {
        let (message, hint) = match self.shape.fit(key) {
            Fit::Free => return true,
            Fit::Table if leaf.value.is_table() => return true,
            Fit::Table => {
                let beside = self.shape.keys(key.stage().map_or("NAME", |(stage, _)| stage));
                let known: Vec<_> = beside.iter().filter(|k| k.is_within(key)).collect();
                ("this is a table of settings, not a value".into(), list("it holds", &known))
            }
            Fit::Value => match self.misfit(key, leaf) {
                None => return true,
                Some(message) => (message, manual::about(key).unwrap_or_default()),
            },
            Fit::Unknown { nearest, siblings } => unknown(key, nearest, &siblings),
        };
        self.problems.push(Problem::at(key, leaf, message, hint));
        false
    }

    /// Why a value does not fit the type of its key: asked of serde, with the defaults around it.
    fn misfit(&self, key: &Key, leaf: &Leaf) -> Option<String> {
        let mut probe = self.base.clone();
        if let Some((stage, _)) = key.stage() {
            self.add_stage(&mut probe, stage);
        }
        probe.put(key.clone(), Leaf { value: leaf.value.clone(), origin: Origin::Default });
        Config::deserialize(probe.table()).err().map(|error| plain(error.message()))
    }
}

fn unknown(key: &Key, nearest: Option<Key>, siblings: &[String]) -> (String, String) {
    let is_table = key.stage().is_some_and(|(_, below)| below.len() > 1);
    let hint = match nearest {
        Some(nearest) => format!("did you mean {nearest}?"),
        None if siblings.is_empty() => "remove it; a value has no keys below it".into(),
        None => list("known here are", siblings),
    };
    let message = match key.stage() {
        Some((_, [backend, ..])) if is_table => {
            format!("there is no such setting, and no backend called {backend} is registered")
        }
        _ => "there is no such setting".into(),
    };
    (message, hint)
}

fn list<T: ToString>(lead: &str, names: &[T]) -> String {
    let names: Vec<_> = names.iter().map(T::to_string).collect();
    format!("{lead} {}", names.join(", "))
}

/// Rust's names of types in the words of the manual.
fn plain(message: &str) -> String {
    const WORDS: [(&str, &str); 9] = [
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u8", "expected a whole number from 0 to 255"),
        ("expected u32", "expected a whole number, 0 or more"),
        ("expected u64", "expected a whole number, 0 or more"),
        ("expected usize", "expected a whole number, 0 or more"),
        ("expected f32", "expected a number"),
        ("expected f64", "expected a number"),
        ("expected a sequence", "expected an array"),
        ("expected string or table", "expected a string"),
    ];
    let found = WORDS.iter().find(|(rust, _)| message.ends_with(rust));
    let message = match found {
        Some((rust, words)) => message.trim_end_matches(rust).to_owned() + words,
        None => message.to_owned(),
    };
    message.trim_end().replace('`', "\"")
}
