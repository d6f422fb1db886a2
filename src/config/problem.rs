//! What is wrong with a configuration, all of it at once.

use std::fmt;

use super::key::Key;
use super::tree::{Leaf, Origin};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The setting; absent if a source as a whole could not be read.
    pub key: Option<Key>,
    /// Its value, as TOML.
    pub value: Option<String>,
    /// Where the value came from.
    pub origin: Option<Origin>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl Problem {
    /// A problem with a value.
    pub fn at(key: &Key, leaf: &Leaf, message: String, hint: String) -> Self {
        Self {
            key: Some(key.clone()),
            value: Some(short(&leaf.value)),
            origin: Some(leaf.origin.clone()),
            message,
            hint,
        }
    }

    /// A problem with a source, before there are any values.
    pub fn source(message: String, hint: &str) -> Self {
        Self { key: None, value: None, origin: None, message, hint: hint.to_owned() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "{key}")?;
            if let Some(value) = &self.value {
                write!(f, " = {value}")?;
            }
            if let Some(origin) = &self.origin {
                write!(f, " ({origin})")?;
            }
            f.write_str(": ")?;
        }
        write!(f, "{}", self.message)?;
        if !self.hint.is_empty() {
            write!(f, "\n    hint: {}", self.hint)?;
        }
        Ok(())
    }
}

/// Everything that is wrong, in the order of the keys. Never empty.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "problem" } else { "problems" };
        write!(f, "{} {plural} in the configuration", self.0.len())?;
        for problem in &self.0 {
            write!(f, "\n  {}", problem.to_string().replace('\n', "\n  "))?;
        }
        Ok(())
    }
}

/// A value as TOML, cut to what a message can bear.
fn short(value: &toml::Value) -> String {
    const MOST: usize = 80;
    let text = value.to_string().replace('\n', " ");
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
