//! The parent of a server: holds its sockets, starts it as a child, and again when it dies.
//!
//! ```text
//!   parent ── sockets (LISTEN_FDS), its number ─▶ child: engine, models, answers
//!      ▲                                            │
//!      └── ready (NOTIFY_SOCKET), its end ◀─────────┘       deaths: again at once, later, or never
//! ```
//!
//! While there is no child, connections wait in the sockets' backlogs. The parent does nothing but
//! wait: what has no work to do has nothing to die of.
//!
//! Must not know: engines, models, or what the child answers. It has one thread: the death signal
//! that children ask for is that of the thread which started them.

mod bond;
mod child;
mod deaths;
mod events;
#[cfg(test)]
mod tests;

use std::io;
use std::process::Child;
use std::time::Instant;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

pub use bond::{Bond, BondError};
pub use child::Nest;
pub use deaths::{Death, Deaths, Decision, End, FIRST_PAUSE, LONGEST_PAUSE, MAX_RESTARTS, STEADY};
use events::{Ears, Event};

use crate::app::{Exit, Notifier};
use crate::clock;

/// A child's life, once it is over.
struct Life {
    end: End,
    ready_since: Option<Instant>,
    /// How often it was asked to end.
    asked: u32,
}

/// Keeps a child alive until asked to end, and gives the code to exit with: the child's. SIGTERM and
/// SIGINT let the child finish what is in flight, the second of them kills it; SIGHUP is passed on.
///
/// # Errors
/// If the system refuses what a parent needs.
pub fn keep(nest: &Nest) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot wait for signals")?;
    runtime.block_on(async {
        let mut ears = Ears::open().context("cannot wait for signals")?;
        let (mut deaths, mut restarts) = (Deaths::default(), 0);
        loop {
            let life = match nest.spawn(restarts, &ears.address) {
                Ok(child) => attend(child, &mut ears).await.context("cannot watch the server")?,
                Err(error) => {
                    tracing::error!(%error, "cannot start the server");
                    Life { end: End::Unborn, ready_since: None, asked: 0 }
                }
            };
            if life.asked > 0 {
                return Ok(last_code(&life));
            }
            let death = Death { end: life.end, ready_since: life.ready_since };
            let decision = deaths.on(death, clock::now());
            if let Some(code) = follow(decision, life.end, &mut ears).await? {
                return Ok(code);
            }
            restarts += 1;
        }
    })
}

/// Waits as decided; the code to end with, if this is the end.
async fn follow(decision: Decision, end: End, ears: &mut Ears) -> io::Result<Option<u8>> {
    let pause = match decision {
        Decision::GiveUp(code) => {
            tracing::error!(?end, code, "the server died; given up");
            return Ok(Some(code));
        }
        Decision::RestartAfter(pause) => pause,
    };
    tracing::warn!(?end, pause_ms = pause.as_millis(), "the server died; it is started again");
    loop {
        match ears.rest(pause).await? {
            Event::Stop => {
                tracing::info!("asked to end while there is no server");
                return Ok(Some(Exit::Ok.code()));
            }
            Event::Rested => return Ok(None),
            // The next child reads the settings anyway.
            Event::Reload | Event::Ready | Event::Ended(_) => {}
        }
    }
}

/// Passes signals on to a child until it ends.
async fn attend(mut child: Child, ears: &mut Ears) -> io::Result<Life> {
    let pid = child.id();
    tracing::info!(pid, "the server is started");
    let (mut ready_since, mut asked) = (None, 0);
    loop {
        match ears.listen(&mut child).await? {
            Event::Stop if asked == 0 => {
                asked = 1;
                tracing::info!(pid, "asked to end; the server finishes what is in flight");
                send(&child, Signal::TERM)?;
            }
            Event::Stop => {
                asked += 1;
                tracing::warn!(pid, "asked to end again; the server is killed");
                child.kill()?;
            }
            // One that is only starting dies of it, and the next one reads the settings as well.
            Event::Reload => {
                tracing::info!(pid, "asked to reload; the server reads its settings again");
                send(&child, Signal::HUP)?;
            }
            Event::Ready => {
                tracing::info!(pid, "the server is ready");
                ready_since.get_or_insert_with(clock::now);
                Notifier::from_env().iter().for_each(Notifier::ready);
            }
            Event::Ended(end) => return Ok(Life { end, ready_since, asked }),
            Event::Rested => {}
        }
    }
}

/// Signals a child that has not been waited for: its number is still its own.
fn send(child: &Child, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.ok_or(io::ErrorKind::InvalidInput)?, signal).map_err(io::Error::from)
}

/// The code after a child that was asked to end.
fn last_code(life: &Life) -> u8 {
    let (code, end) = match life.end {
        _ if life.asked > 1 => (Exit::Failure.code(), "killed"),
        // It was not yet far enough to have anything in flight.
        End::Signal(signal) if signal == Signal::TERM.as_raw() => {
            (Exit::Ok.code(), "not serving yet")
        }
        end => (end.code(), "by itself"),
    };
    tracing::info!(code, end, "the server has ended");
    code
}
