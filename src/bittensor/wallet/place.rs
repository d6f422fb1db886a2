//! Names and paths: what may be one, and where it leads.

use std::path::PathBuf;

use super::WalletError;

/// A path with the home folder in place of its `~`.
pub(super) fn at_home(path: &str) -> Result<PathBuf, WalletError> {
    let Some(rest) = path.strip_prefix('~') else { return Ok(path.into()) };
    if !rest.is_empty() && !rest.starts_with('/') {
        return Err(WalletError::ForeignHome { path: path.to_owned() });
    }
    let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
    let home = home.ok_or_else(|| WalletError::Homeless { path: path.to_owned() })?;
    Ok(home.join(rest.trim_start_matches('/')))
}

/// Why this is not the name of one file in its folder, if it is not.
pub(super) fn misnamed(name: &str) -> Option<&'static str> {
    if name.contains(['/', '\\']) {
        Some("a path, not a name")
    } else if name == "." || name.contains("..") {
        Some("a way out of its folder")
    } else if name.contains(char::is_control) {
        Some("not one line of text")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_where_the_tilde_is() {
        let home = std::env::home_dir().unwrap();
        assert_eq!(at_home("~").unwrap(), home);
        assert_eq!(at_home("~/a/b").unwrap(), home.join("a/b"));
        assert_eq!(at_home("~//etc").unwrap(), home.join("etc"), "it stays below");
        assert_eq!(at_home("/a/~").unwrap(), PathBuf::from("/a/~"));
        assert_eq!(at_home("a").unwrap(), PathBuf::from("a"));
        let error = at_home("~root/wallets").unwrap_err();
        assert!(matches!(error, WalletError::ForeignHome { .. }), "{error}");
    }

    #[test]
    fn names_stay_in_their_folder() {
        for name in ["default", "1", "my hotkey", ".hidden", "ключ", "~"] {
            assert_eq!(misnamed(name), None, "{name}");
        }
        for name in ["a/b", "/", "a\\b", "..", "../a", ".", "a..b", "a\0", "a\nb"] {
            assert!(misnamed(name).is_some(), "{name}");
        }
    }
}
