//! What a child knows of its parent, and how it notices that the parent is gone.
//!
//! Must not know: what the child does.

use std::io;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use thiserror::Error;

/// The parent's process number.
pub(super) const PARENT: &str = "ROADCREW_PARENT";

/// How many children the parent has started before this one.
pub(super) const RESTARTS: &str = "ROADCREW_RESTARTS";

/// The child's side of a parent and its child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bond {
    /// How many children died before this one.
    pub restarts: u64,
}

/// Why a child cannot serve for its parent.
#[derive(Debug, Error)]
pub enum BondError {
    /// A variable that only a parent sets is no number.
    #[error("the environment variable {name} is {value:?} and not a number; only roadcrew sets it")]
    NoNumber {
        /// Which.
        name: &'static str,
        /// What it is.
        value: String,
    },
    /// The parent died before this process could ask to be told.
    #[error("the process that started this one, {0}, is gone")]
    Orphaned(u64),
    /// The system does not tell of a parent's death.
    #[error("cannot ask to be told of the parent's death: {0}")]
    Untold(#[from] io::Error),
}

impl Bond {
    /// The bond to the parent, if one has started this process. From here on the parent's death asks
    /// this process to end, as SIGTERM does. To be called by the main thread, as the system forgets
    /// what a thread has asked for when it ends.
    ///
    /// # Errors
    /// If the parent is gone already.
    pub fn of_this_process() -> Result<Option<Self>, BondError> {
        let Some(parent) = number(PARENT)? else { return Ok(None) };
        let restarts = number(RESTARTS)?.unwrap_or(0);
        set_parent_process_death_signal(Some(Signal::TERM)).map_err(io::Error::from)?;
        // Only now, or a parent that dies in between would not be noticed.
        let is_there = getppid().is_some_and(|pid| pid.as_raw_nonzero().get() as u64 == parent);
        if is_there { Ok(Some(Self { restarts })) } else { Err(BondError::Orphaned(parent)) }
    }
}

fn number(name: &'static str) -> Result<Option<u64>, BondError> {
    let Some(value) = std::env::var_os(name) else { return Ok(None) };
    let value = value.to_string_lossy().into_owned();
    value.parse().map(Some).map_err(|_| BondError::NoNumber { name, value })
}
