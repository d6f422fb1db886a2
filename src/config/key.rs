//! A key: the dotted path of a setting.

use std::fmt;
use std::str::FromStr;

/// The path of a setting, such as `stages.screen.exit_below`. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Vec<String>);

impl Key {
    /// The key of one name.
    pub fn top(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }

    /// The key below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let mut names = self.0.clone();
        names.push(name.to_owned());
        Self(names)
    }

    /// The key above this one.
    pub fn parent(&self) -> Option<Self> {
        let (_, above) = self.0.split_last()?;
        (!above.is_empty()).then(|| Self(above.to_vec()))
    }

    /// Its names, from the top.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Its last name.
    pub fn last(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// Whether `above` is this key or one above it.
    pub fn is_within(&self, above: &Self) -> bool {
        self.0.starts_with(&above.0)
    }

    /// The name of the stage this key belongs to, and the names below it.
    pub fn stage(&self) -> Option<(&str, &[String])> {
        match self.0.as_slice() {
            [stages, name, rest @ ..] if stages == "stages" => Some((name, rest)),
            _ => None,
        }
    }
}

/// Names that are known at compile time.
impl<const N: usize> From<[&str; N]> for Key {
    fn from(names: [&str; N]) -> Self {
        Self(names.map(str::to_owned).to_vec())
    }
}

impl FromStr for Key {
    type Err = String;

    /// Reads a key as TOML writes it: names joined by dots, quoted where they need it.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a key; write names joined by dots");
        let mut table: toml::Table = format!("{text} = 0").parse().map_err(|_| wrong())?;
        let mut names = Vec::new();
        loop {
            let mut entries = table.into_iter();
            let (name, value) = entries.next().ok_or_else(wrong)?;
            if name.is_empty() || entries.next().is_some() {
                return Err(wrong());
            }
            names.push(name);
            match value {
                toml::Value::Table(below) => table = below,
                _ => return Ok(Self(names)),
            }
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if !name.is_empty() && name.chars().all(is_bare) {
                f.write_str(name)?;
            } else {
                write!(f, "{}", toml::Value::String(name.clone()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        for text in ["a", "a.b-c.d_1", "a.\"x.y\".z"] {
            assert_eq!(text.parse::<Key>().unwrap().to_string(), text);
        }
        for text in ["", ".", "a.", "a b", "[a]", "a\nb", "# a", "a = 1, b", "a.\"\""] {
            assert!(text.parse::<Key>().is_err(), "{text:?}");
        }
    }
}
