//! `roadcrew serve`

use clap::Args;

use super::failure::Failure;
use super::session::{Session, Usually, tell};
use crate::app::{self, App, Exit, Inherited};
use crate::http::Sockets;
use crate::parent::{self, Bond, Nest};

/// Answer requests over HTTP until told to stop
///
/// Prints the address, the device and the stages to standard error once the port is open. The stages
/// load in the background; /readyz says when they are ready. SIGTERM and Ctrl-C let what is in
/// flight finish, for http.drain_s seconds. SIGHUP reads the settings again and applies what can
/// change while serving: thresholds and batching limits, as config/default.toml says.
///
/// Sockets passed on as systemd does it are used instead of the settings' addresses: the one named
/// http for the private port, the one named axon for the public one.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Serve {
    /// Hold the ports in a small parent process that starts the server again when it dies
    #[arg(long)]
    supervised: bool,
}

/// The option as it is written, which no child gets.
const SUPERVISED: &str = "--supervised";

impl Serve {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        let app = session.app(Usually::AsConfigured)?;
        let sockets = Sockets::inherited().map_err(misfit)?;
        app.check_sockets(&sockets).map_err(misfit)?;
        if self.supervised { supervise(&app, sockets) } else { serve(&app, sockets) }
    }
}

fn serve(app: &App, sockets: Sockets) -> Result<Exit, Failure> {
    let bond = Bond::of_this_process().map_err(failed)?;
    let parent = bond.map(|Bond { restarts }| app::Parent { restarts });
    let inherited = Inherited { sockets, parent };
    let exit = app.serve(inherited, |announcement| tell(&announcement.to_string()));
    let exit = exit.map_err(failed)?;
    match exit {
        Exit::Failure => tell("stopped at once; the connections that were open have been cut"),
        Exit::Internal if parent.is_some() => tell("the supervisor died: report the log above"),
        Exit::Internal => {
            tell("the supervisor died: start roadcrew again, and report the log above")
        }
        Exit::TryAgain if parent.is_none() => tell(
            "start roadcrew again: a device is gone, or too many threads hang; the log says which",
        ),
        _ => {}
    }
    Ok(exit)
}

/// Serves by a child with the same arguments.
fn supervise(app: &App, sockets: Sockets) -> Result<Exit, Failure> {
    let sockets = app.listen(sockets).map_err(failed)?;
    let program = std::env::current_exe().map_err(failed)?;
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != SUPERVISED);
    let nest = Nest::new(program, arguments.collect(), sockets).map_err(failed)?;
    parent::keep(&nest).map(Exit::Child).map_err(failed)
}

fn failed(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(
        error,
        "see the log above; --log debug says more, `roadcrew check` shows the settings",
    )
}

/// Starting again would not help: it is how the process is started that is wrong.
fn misfit(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Error {
        error: error.into(),
        next: "correct how roadcrew is started; docs/operation.md shows units of systemd".into(),
        exit: Exit::Config,
    }
}
