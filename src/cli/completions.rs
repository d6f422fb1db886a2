//! `roadcrew completions`

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;
use super::failure::Failure;
use super::session::Session;
use crate::app::Exit;

/// Print the completions of a shell
///
/// For bash: roadcrew completions bash > ~/.local/share/bash-completion/completions/roadcrew
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        // The generator panics if it cannot write, so it writes to memory.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "roadcrew", &mut script);
        session.out.write_all(&script)?;
        Ok(Exit::Ok)
    }
}
