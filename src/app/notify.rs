//! Tells whoever started the process that it is ready, by systemd's protocol: `NOTIFY_SOCKET`.
//!
//! Must not know: who that is.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::actors::Engine;

/// The variable that says where to tell: a path, or an abstract name after `@`.
pub(crate) const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// What is said by who is ready.
pub(crate) const READY: &str = "READY=1";

/// How often it is looked whether a stage can answer.
const PULSE: Duration = Duration::from_millis(20);

/// Where to tell.
#[derive(Debug)]
pub(crate) struct Notifier(SocketAddr);

impl Notifier {
    /// Where the environment says, if it does.
    pub(crate) fn from_env() -> Option<Self> {
        let address = std::env::var(NOTIFY_SOCKET).ok().filter(|address| !address.is_empty())?;
        let notifier = Self::at(&address);
        notifier
            .inspect_err(|error| tracing::warn!(%error, address, "nobody is told of readiness"))
            .ok()
    }

    pub(crate) fn at(address: &str) -> io::Result<Self> {
        let address = match address.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(address),
        };
        address.map(Self)
    }

    /// Says that this process can answer.
    pub(crate) fn ready(&self) {
        self.send(READY);
    }

    pub(crate) fn send(&self, note: &str) {
        let socket = UnixDatagram::unbound();
        if let Err(error) = socket.and_then(|s| s.send_to_addr(note.as_bytes(), &self.0)) {
            tracing::warn!(%error, note, "cannot tell who started this process");
        }
    }
}

/// Says so once some stage can answer, if anybody wants to know.
pub(super) async fn when_ready(engine: Engine) {
    let Some(notifier) = Notifier::from_env() else { return };
    while !engine.board().can_answer() {
        tokio::time::sleep(PULSE).await;
    }
    notifier.ready();
}
