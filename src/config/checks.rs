//! Values against their ranges and against each other.

use super::key::Key;
use super::problem::Problem;
use super::tree::{Leaf, Tree};
use super::{Config, Names, manual};

mod axon;
mod cascade;
mod ranges;

/// What the checks found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// Runs every check.
pub(super) fn run(config: &Config, tree: &Tree, names: &Names) -> Found {
    let mut checks = Checks { config, tree, names, found: Found::default() };
    checks.ranges();
    checks.axon();
    checks.callers();
    checks.metagraph();
    checks.stages();
    checks.cascade();
    checks.found
}

struct Checks<'a> {
    config: &'a Config,
    tree: &'a Tree,
    names: &'a Names,
    found: Found,
}

impl Checks<'_> {
    /// Demands something of a value, unless something is known to be wrong with it; the hint is
    /// what the manual says of it.
    fn need(&mut self, fits: bool, key: &Key, message: impl Into<String>) {
        if !fits && !self.is_reported(key) {
            let hint = manual::about(key).unwrap_or_default();
            self.report(key, message.into(), hint);
        }
    }

    fn is_reported(&self, key: &Key) -> bool {
        self.found.problems.iter().any(|problem| problem.key.as_ref() == Some(key))
    }

    fn report(&mut self, key: &Key, message: String, hint: String) {
        let problem = self.problem(key, message, hint);
        self.found.problems.push(problem);
    }

    fn warn(&mut self, key: &Key, message: String, hint: String) {
        let problem = self.problem(key, message, hint);
        self.found.warnings.push(problem);
    }

    fn problem(&self, key: &Key, message: String, hint: String) -> Problem {
        match self.tree.get(key) {
            Some(leaf) => Problem::at(key, leaf, message, hint),
            None => {
                let key = Some(key.clone());
                Problem { key, value: None, origin: None, message, hint }
            }
        }
    }

    /// A value that another one is compared with, as messages name it.
    fn other(&self, key: &Key) -> String {
        let said = |leaf: &Leaf| format!("{key} = {} ({})", leaf.value, leaf.origin);
        self.tree.get(key).map_or_else(|| key.to_string(), said)
    }
}

/// The name that was probably meant.
fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let spelt = known.into_iter().map(|name| (strsim::damerau_levenshtein(wrong, name), name));
    let (distance, name) = spelt.min()?;
    (distance <= 1.max(wrong.chars().count() / 3)).then_some(name)
}

/// "did you mean X? known are X, Y"
fn suggestion(wrong: &str, known: &[String]) -> String {
    let all = format!("known are {}", known.join(", "));
    match nearest(wrong, known.iter().map(String::as_str)) {
        Some(name) => format!("did you mean \"{name}\"? {all}"),
        None => all,
    }
}
