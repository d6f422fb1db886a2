//! `roadcrew serve`

use clap::Args;

use super::failure::Failure;
use super::session::{Session, Usually, tell};
use crate::app::Exit;

/// Answer requests over HTTP until told to stop
///
/// Prints the address, the device and the stages to standard error once the port is open. The stages
/// load in the background; /readyz says when they are ready. SIGTERM and Ctrl-C let what is in
/// flight finish, for http.drain_s seconds.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Serve {}

impl Serve {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        let app = session.app(Usually::AsConfigured)?;
        let served = app.serve(|announcement| tell(&announcement.to_string()));
        let exit = served.map_err(|error| {
            Failure::new(
                error,
                "see the log above; --log debug says more, `roadcrew check` shows the settings",
            )
        })?;
        match exit {
            Exit::Failure => tell("stopped at once; the connections that were open have been cut"),
            Exit::Internal => {
                tell("the supervisor died: start roadcrew again, and report the log above")
            }
            Exit::TryAgain => tell(
                "start roadcrew again: a device is gone, or too many threads hang; the log says which",
            ),
            _ => {}
        }
        Ok(exit)
    }
}
