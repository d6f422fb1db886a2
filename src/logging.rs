//! The logs: text or JSON lines on standard error.
//!
//! Must not know: what is logged, or by whom.

use std::io::IsTerminal as _;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// Settings: `[log]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSpec {
    /// How a line looks.
    pub format: LogFormat,
    /// What is logged: a level, or directives such as `info,actix=debug`.
    pub filter: String,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Checks a filter.
///
/// # Errors
/// What is wrong with it, for people.
pub fn check_filter(filter: &str) -> Result<(), String> {
    parse(filter).map(drop)
}

/// Starts logging. A second call in the same process changes nothing.
///
/// # Errors
/// If the filter does not parse.
pub fn start(spec: &LogSpec) -> Result<(), String> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parse(&spec.filter)?)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let _already_started = match spec.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    if filter.trim().is_empty() {
        return Err("it is empty".into());
    }
    // A misspelt level is a valid directive, one for a module of that name; it would log nothing.
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_path = |part: &str| part.contains(['=', '[', ':']) || part == "roadcrew";
    let parts: Vec<_> = filter.split(',').map(str::trim).collect();
    for part in &parts {
        if !is_path(part) && !levels.contains(&part.to_lowercase().as_str()) {
            return Err(format!("\"{part}\" is none of {}", levels.join(", ")));
        }
    }
    EnvFilter::try_new(parts.join(",")).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_parse_and_typos_do_not() {
        for good in ["info", "WARN", "info,actix=debug", "off", "warn, roadcrew::actors=trace"] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        for bad in ["", "inof", "info,,warn", "roadcrew=loud", "debug actix"] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
    }
}
