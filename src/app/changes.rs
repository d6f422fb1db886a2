//! What differs between two configurations, and what of it can change while serving. Pure.

use toml::Value;

use crate::config::{Key, Tree};

/// A setting that differs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) key: Key,
    /// What it was; `None` if it was not there.
    pub(super) from: Option<Value>,
    /// What it is to be; `None` if it is there no more.
    pub(super) to: Option<Value>,
}

/// Every setting that differs, in order of the keys. A whole number and a fraction of the same value
/// are the same.
pub(super) fn between(from: &Tree, to: &Tree) -> Vec<Change> {
    let mut keys: Vec<_> = from.iter().chain(to.iter()).map(|(key, _)| key).collect();
    keys.sort();
    keys.dedup();
    let value = |tree: &Tree, key: &Key| tree.get(key).map(|leaf| leaf.value.clone());
    let change =
        |key: &Key| Change { key: key.clone(), from: value(from, key), to: value(to, key) };
    keys.into_iter().map(change).filter(|c| !is_same(c.from.as_ref(), c.to.as_ref())).collect()
}

impl Change {
    /// Whether it can be made while serving. `started` holds the largest batches there may be: what
    /// a backend was built for is the most that it can be given.
    pub(super) fn can_be_made(&self, started: &Tree) -> bool {
        let names: Vec<_> = self.key.names().iter().map(String::as_str).collect();
        match names[..] {
            ["stages", _, "batching", "max_batch"] => {
                let most = started.get(&self.key).and_then(|leaf| leaf.value.as_integer());
                let wanted = self.to.as_ref().and_then(Value::as_integer);
                wanted.is_some_and(|wanted| most.is_some_and(|most| wanted <= most))
            }
            ["stages", _, "exit_below" | "exit_above" | "hang_ms"]
            | ["stages", _, "when" | "batching", _]
            | ["cascade", "policy" | "exhausted"] => true,
            _ => false,
        }
    }
}

fn is_same(one: Option<&Value>, other: Option<&Value>) -> bool {
    match (one, other) {
        (Some(Value::Integer(whole)), Some(Value::Float(float)))
        | (Some(Value::Float(float)), Some(Value::Integer(whole))) => *whole as f64 == *float,
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Leaf, Origin};

    fn tree(settings: &str) -> Tree {
        let mut tree = Tree::default();
        for line in settings.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (key, value) = line.split_once(" = ").unwrap();
            let leaf = Leaf { value: value.parse().unwrap(), origin: Origin::Default };
            tree.put(key.parse().unwrap(), leaf);
        }
        tree
    }

    fn told(changes: &[Change]) -> Vec<String> {
        let side = |value: &Option<Value>| value.as_ref().map_or("-".into(), Value::to_string);
        let tell = |c: &Change| format!("{} {} {}", c.key, side(&c.from), side(&c.to));
        changes.iter().map(tell).collect()
    }

    #[test]
    fn what_differs_is_told_key_by_key() {
        let from = tree("b.x = 1\nb.gone = true\na = 0.5\nsame = [1, 2]");
        let to = tree("b.x = 2\nb.new = \"image\"\na = 0.25\nsame = [1, 2]");
        let changes = between(&from, &to);
        let expected = ["a 0.5 0.25", "b.gone true -", "b.new - \"image\"", "b.x 1 2"];
        assert_eq!(told(&changes), expected);
        assert_eq!(between(&to, &to), []);
    }

    #[test]
    fn where_a_value_comes_from_and_how_a_number_is_written_is_no_difference() {
        let from = tree("stages.a.exit_above = 1");
        let mut to = tree("stages.a.exit_above = 1.0");
        assert_eq!(between(&from, &to), []);
        let leaf = Leaf { value: Value::Integer(1), origin: Origin::Reload };
        to.put("stages.a.exit_above".parse().unwrap(), leaf);
        assert_eq!(between(&from, &to), []);
        assert_eq!(between(&from, &tree("stages.a.exit_above = true")).len(), 1);
    }

    /// Whether a setting can go from 4 to another value; the server was started with 8.
    fn can_go_to(key: &str, to: &str) -> bool {
        let line = |value: &str| tree(&format!("{key} = {value}"));
        let changes = between(&line("4"), &line(to));
        assert_eq!(changes.len(), 1, "{key}");
        changes[0].can_be_made(&line("8"))
    }

    #[test]
    fn thresholds_and_batching_can_change() {
        for key in [
            "stages.a.exit_below",
            "stages.a.exit_above",
            "stages.a.hang_ms",
            "stages.a.when.input",
            "stages.a.when.score_at_least",
            "stages.a.batching.rule",
            "stages.a.batching.max_wait_ms",
            "stages.exit_below.hang_ms",
            "cascade.policy",
            "cascade.exhausted",
        ] {
            assert!(can_go_to(key, "9"), "{key}");
        }
        let (none, some) = (tree(""), tree("stages.a.when.input = \"clip\""));
        assert!(between(&none, &some)[0].can_be_made(&none));
        assert!(between(&some, &none)[0].can_be_made(&some));
    }

    #[test]
    fn the_rest_needs_a_restart() {
        for key in [
            "cascade.order",
            "engine.max_in_flight",
            "http.port",
            "log.filter",
            "stages.a.backend",
            "stages.a.instances",
            "stages.a.load_timeout_ms",
            "stages.a.restart.window_s",
            "stages.a.calibration.center",
            "stages.a.calibration.scale",
            "stages.a.classifier.model",
            "stages.a.scripted.batching.rule",
            "stages.exit_below",
        ] {
            assert!(!can_go_to(key, "9"), "{key}");
        }
    }

    #[test]
    fn a_batch_grows_up_to_what_the_stage_was_started_with() {
        let key = "stages.a.batching.max_batch";
        assert!(can_go_to(key, "1") && can_go_to(key, "5") && can_go_to(key, "8"));
        assert!(!can_go_to(key, "9"));
        let (none, some) = (tree(""), tree(&format!("{key} = 1")));
        assert!(!between(&none, &some)[0].can_be_made(&none), "it was not started");
    }
}
