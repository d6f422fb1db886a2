//! The manual: what `config/default.toml` says of each key.

use std::collections::BTreeMap;

use super::key::Key;
use super::layers::DEFAULT;

/// The stage whose section documents the keys of every stage.
pub(super) const DOCUMENTED_STAGE: &str = "screen";

/// The comment above each key. A key that has no default stands there as `#key = …`, without a
/// space after the sign.
pub(super) fn entries() -> BTreeMap<Key, String> {
    let (mut entries, mut section, mut comment) = (BTreeMap::new(), String::new(), Vec::new());
    for line in DEFAULT.lines() {
        if let Some(text) = line.strip_prefix("# ") {
            comment.push(text);
            continue;
        }
        let line = line.trim_start_matches('#');
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((name, _)) = line.split_once(" = ")
            && let Ok(key) = format!("{section}.{name}").parse()
        {
            entries.insert(key, comment.join(" "));
        }
        comment.clear();
    }
    entries
}

/// What the manual says of a key; of a stage's keys, whichever the stage.
pub(super) fn about(key: &Key) -> Option<String> {
    let key = match key.stage() {
        Some((_, below)) => {
            let stage = Key::from(["stages", DOCUMENTED_STAGE]);
            below.iter().fold(stage, |key, name| key.child(name))
        }
        None => key.clone(),
    };
    entries().remove(&key).filter(|text| !text.is_empty())
}
