//! What a parent waits for: signals, its child's end, its child's readiness, the end of a pause.
//!
//! Must not know: what follows from any of it.

use std::future::poll_fn;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::{Child, ExitStatus};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::net::UnixDatagram;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::deaths::End;
use crate::app::READY;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Somebody asks for the end.
    Stop,
    /// Somebody asks to read the settings again.
    Reload,
    /// The child can answer.
    Ready,
    /// The child has ended.
    Ended(End),
    /// The pause is over.
    Rested,
}

/// Hears events, in the order in which [`Event`] names them.
pub(super) struct Ears {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Some child has ended.
    ended: Signal,
    notes: UnixDatagram,
    /// Where the child sends its notes.
    pub(super) address: String,
}

impl Ears {
    /// Must be called within a runtime. From here on the signals do not end this process.
    pub(super) fn open() -> io::Result<Self> {
        // A name that nobody can guess and no file: a crash leaves nothing behind.
        let name = format!("roadcrew-{:032x}", rand::random::<u128>());
        let notes = StdDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        notes.set_nonblocking(true)?;
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            ended: signal(SignalKind::child())?,
            notes: UnixDatagram::from_std(notes)?,
            address: format!("@{name}"),
        })
    }

    /// The next event of a child's life.
    pub(super) async fn listen(&mut self, child: &mut Child) -> io::Result<Event> {
        poll_fn(|context| match self.poll_any(context) {
            Poll::Ready(event) => Poll::Ready(event),
            Poll::Pending => self.poll_ended(child, context),
        })
        .await
    }

    /// Waits, unless it is asked to end.
    pub(super) async fn rest(&mut self, pause: Duration) -> io::Result<Event> {
        let mut over = pin!(tokio::time::sleep(pause));
        poll_fn(|context| match self.poll_any(context) {
            Poll::Ready(event) => Poll::Ready(event),
            Poll::Pending => over.as_mut().poll(context).map(|()| Ok(Event::Rested)),
        })
        .await
    }

    fn poll_any(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Event>> {
        for stop in [&mut self.terminate, &mut self.interrupt] {
            if stop.poll_recv(context).is_ready() {
                return Poll::Ready(Ok(Event::Stop));
            }
        }
        if self.hangup.poll_recv(context).is_ready() {
            return Poll::Ready(Ok(Event::Reload));
        }
        let mut bytes = [0; 512];
        loop {
            let mut note = ReadBuf::new(&mut bytes);
            match self.notes.poll_recv(context, &mut note) {
                Poll::Ready(Ok(())) if is_ready(note.filled()) => {
                    return Poll::Ready(Ok(Event::Ready));
                }
                Poll::Ready(outcome) => outcome?,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Asks only once the system says that some child has ended: by then the notes that this one has
    /// sent are here, and none is taken for its successor's.
    fn poll_ended(
        &mut self,
        child: &mut Child,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Event>> {
        while self.ended.poll_recv(context).is_ready() {
            if let Some(status) = child.try_wait()? {
                return Poll::Ready(Ok(Event::Ended(end(status))));
            }
        }
        Poll::Pending
    }
}

/// Whether a note, which is lines of `NAME=value`, says that its sender is ready.
fn is_ready(note: &[u8]) -> bool {
    note.split(|byte| *byte == b'\n').any(|line| line == READY.as_bytes())
}

fn end(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        // The code of a process is a byte.
        (Some(code), _) => End::Code(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, signal) => End::Signal(signal.unwrap_or_default()),
    }
}
