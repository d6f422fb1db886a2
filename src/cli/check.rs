//! `roadcrew check`

use clap::Args;
use serde_json::json;

use super::failure::Failure;
use super::session::Session;
use crate::app::Exit;

/// Print every setting with its origin, or everything that is wrong; load nothing
///
/// The output is a configuration file: every setting on a line of its own, with its origin in a
/// comment.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Check {
    /// Print one JSON object instead: key to value and origin
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        let resolved = session.resolve()?;
        let out = session.out;
        if self.json {
            let entry = |leaf: &crate::config::Leaf| json!({ "value": leaf.value, "origin": leaf.origin.to_string() });
            let settings: serde_json::Map<_, _> =
                resolved.tree.iter().map(|(key, leaf)| (key.to_string(), entry(leaf))).collect();
            serde_json::to_writer_pretty(&mut *out, &settings)?;
            writeln!(out)?;
        } else {
            let line = |(key, leaf): (_, &crate::config::Leaf)| format!("{key} = {}", leaf.value);
            let lines: Vec<_> = resolved.tree.iter().map(line).collect();
            let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0).min(60);
            for (line, (_, leaf)) in lines.iter().zip(resolved.tree.iter()) {
                writeln!(out, "{line:<width$}  # {}", leaf.origin)?;
            }
        }
        out.flush()?;
        Ok(Exit::Ok)
    }
}
