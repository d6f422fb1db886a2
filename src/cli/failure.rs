//! A command that did not end well: why, what to do next, and the exit code.

use std::io;

use super::session::tell;
use crate::app::Exit;
use crate::config::Problems;

/// Why a command ended early.
#[derive(Debug)]
pub(super) enum Failure {
    /// The reader of standard output left; it has what it wanted.
    ReaderLeft,
    /// Something is wrong.
    Error {
        /// What happened.
        error: anyhow::Error,
        /// What the user can do next.
        next: String,
        /// How the process ends.
        exit: Exit,
    },
}

impl Failure {
    /// Something failed while running.
    pub(super) fn new(error: impl Into<anyhow::Error>, next: &str) -> Self {
        Self::Error { error: error.into(), next: next.to_owned(), exit: Exit::Failure }
    }

    /// A bug.
    pub(super) fn internal(error: impl Into<anyhow::Error>) -> Self {
        let next =
            "this is a bug in roadcrew: run it again with --log debug and report what it says";
        Self::Error { error: error.into(), next: next.to_owned(), exit: Exit::Internal }
    }

    /// The same, of `what`.
    pub(super) fn context(self, what: &str) -> Self {
        match self {
            Self::ReaderLeft => Self::ReaderLeft,
            Self::Error { error, next, exit } => {
                Self::Error { error: error.context(what.to_owned()), next, exit }
            }
        }
    }

    /// Tells the user, and gives the exit code.
    pub(super) fn report(self) -> Exit {
        match self {
            Self::ReaderLeft => Exit::Ok,
            Self::Error { error, next, exit } => {
                tell(&format!("error: {error:#}\n  next: {next}"));
                exit
            }
        }
    }
}

/// Standard output could not be written to.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::ReaderLeft;
        }
        let error = anyhow::Error::from(error).context("writing to standard output");
        Self::new(error, "check the disk or the program that standard output goes to")
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        match error.io_error_kind() {
            Some(kind) => io::Error::from(kind).into(),
            None => Self::internal(error),
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        let next = "correct these; config/default.toml documents every setting, and `roadcrew \
                    check` shows the outcome";
        Self::Error { error: problems.into(), next: next.into(), exit: Exit::Config }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_stands_before_why() {
        let failure = Failure::new(anyhow::anyhow!("no weights"), "get some").context("a.toml");
        let Failure::Error { error, next, .. } = failure else { panic!("{failure:?}") };
        assert_eq!(
            (format!("{error:#}"), next.as_str()),
            ("a.toml: no weights".into(), "get some")
        );
    }
}
