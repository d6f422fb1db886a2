//! What was set while serving: above every source, for as long as the process lives.
//!
//! Must not know: which keys there are, or who set them.

use serde_json::Value as Json;
use toml::Value;

use crate::config::{Key, Leaf, Origin, Problem, Tree};

/// The longest key that is read, in bytes: a key is parsed by recursion.
const MAX_KEY: usize = 256;

/// The values, by key.
#[derive(Clone, Debug, Default)]
pub(super) struct Overrides(Tree);

impl Overrides {
    /// The values as a layer of settings.
    pub(super) fn tree(&self) -> Tree {
        self.0.clone()
    }

    /// Sets values, the later over the earlier: an object sets each of its keys, and null takes back
    /// what was set here, so that the other sources count again.
    ///
    /// # Errors
    /// Every key that is none, and every value that a setting cannot have; the others are set.
    pub(super) fn set(&mut self, values: &[(String, Json)]) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        for (name, value) in values {
            let put = match read_key(name) {
                Ok(key) => self.put(&key, value),
                Err(message) => Err(Problem::source(
                    message,
                    "name a setting, such as stages.screen.exit_below",
                )),
            };
            problems.extend(put.err());
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn put(&mut self, key: &Key, value: &Json) -> Result<(), Problem> {
        match value {
            Json::Null => self.0.remove(key),
            Json::Object(below) if !below.is_empty() => {
                for (name, value) in below {
                    self.put(&key.child(name), value)?;
                }
            }
            value => {
                let leaf = |value| Leaf { value, origin: Origin::Reload };
                let value = Value::try_from(value).map_err(|error| {
                    let hint = "send a number, a string, true or false, or an array of these";
                    let shown = leaf(Value::String(value.to_string()));
                    Problem::at(key, &shown, error.to_string(), hint.into())
                })?;
                self.0.put(key.clone(), leaf(value));
            }
        }
        Ok(())
    }
}

fn read_key(name: &str) -> Result<Key, String> {
    if name.len() > MAX_KEY {
        return Err(format!("a key is at most {MAX_KEY} bytes long, not {}", name.len()));
    }
    name.parse()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(overrides: &mut Overrides, values: Json) -> Result<(), Vec<Problem>> {
        let Json::Object(values) = values else { panic!("{values}") };
        overrides.set(&values.into_iter().collect::<Vec<_>>())
    }

    fn told(overrides: &Overrides) -> Vec<String> {
        overrides.tree().iter().map(|(key, leaf)| format!("{key} = {}", leaf.value)).collect()
    }

    #[test]
    fn values_stay_until_set_again_or_taken_back() {
        let mut overrides = Overrides::default();
        set(&mut overrides, json!({ "a.b": 1, "a.c": { "d": 0.5, "e": "x" } })).unwrap();
        assert_eq!(told(&overrides), ["a.b = 1", "a.c.d = 0.5", "a.c.e = \"x\""]);
        set(&mut overrides, json!({ "a.b": [true], "a.c": { "e": null } })).unwrap();
        assert_eq!(told(&overrides), ["a.b = [true]", "a.c.d = 0.5"]);
        set(&mut overrides, json!({})).unwrap();
        set(&mut overrides, json!({ "a.c": null, "never.set": null })).unwrap();
        assert_eq!(told(&overrides), ["a.b = [true]"]);
        assert!(overrides.tree().iter().all(|(_, leaf)| leaf.origin == Origin::Reload));
    }

    #[test]
    fn what_is_no_setting_is_said() {
        let mut overrides = Overrides::default();
        let long = format!("a{}", ".a".repeat(MAX_KEY));
        let values = json!({ "a b": 1, "": 1, "n": [null], "big": u64::MAX, long: 1, "ok": 1 });
        let problems = set(&mut overrides, values).unwrap_err();
        assert_eq!(problems.len(), 5, "{problems:#?}");
        assert!(problems.iter().all(|problem| !problem.hint.is_empty()));
        assert_eq!(told(&overrides), ["ok = 1"]);
    }
}
