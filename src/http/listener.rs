//! Opens a port: where, for how many, and how patient with them.
//!
//! Must not know: what is answered there, or how a server ends.

use std::any::Any;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpServer, web};
use anyhow::Context as _;
use rustix::net::sockopt::set_tcp_user_timeout;

use super::files;
use super::log;
use super::sockets::Place;

/// How long a connection whose body was refused unread stays open, so that the client, which may be
/// busy sending, gets to read the reply.
const LINGER: Duration = Duration::from_secs(2);

/// How long the last replies may take on their way out once everything is answered.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// One port and its manners.
#[derive(Clone, Debug)]
pub(crate) struct Listener<'a> {
    pub(super) place: Place<'a>,
    /// Threads; 0 means one per core.
    pub(crate) workers: usize,
    pub(crate) max_connections: usize,
    pub(crate) read_timeout: Duration,
    pub(crate) keep_alive: Duration,
    pub(crate) drain: Duration,
}

impl Listener<'_> {
    /// Takes the port, or the socket that was inherited for it; requests are answered once the server
    /// is polled. Must be called within an actix system. Lets the process open as many files as it
    /// may: every connection is one.
    ///
    /// # Errors
    /// If the address does not exist or is taken, with what to do about it.
    pub(crate) fn open(
        &self,
        inherited: Option<TcpListener>,
        routes: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
    ) -> anyhow::Result<(Server, SocketAddr)> {
        let socket = inherited.map_or_else(|| self.place.listen(), Ok)?;
        let address = socket.local_addr().context("a listening socket has no address")?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = if self.workers == 0 { cores } else { self.workers };
        let (port, read_timeout) = (self.place.port, self.read_timeout);
        let observe = move |request, next| log::observe(port, request, next);
        let app = move || App::new().wrap(from_fn(observe)).configure(&routes);
        let connections = files::connections(port, self.max_connections);
        let server = HttpServer::new(app)
            .workers(workers)
            // The limit is each worker's.
            .max_connections((connections / workers).max(1))
            .worker_max_blocking_threads(cores)
            .keep_alive(self.keep_alive)
            .client_request_timeout(read_timeout)
            .client_disconnect_timeout(LINGER)
            .on_connect(move |io, _| cut_off_the_deaf(io, read_timeout))
            // Or nobody would notice that a client has left, and its job would be computed.
            .h1_allow_half_closed(false)
            .shutdown_timeout(self.drain.max(LAST_WORDS).as_secs())
            .disable_signals()
            .listen(socket)
            .with_context(|| format!("cannot listen on {address}"))?;
        Ok((server.run(), address))
    }
}

/// Has the system close a connection whose client takes nothing of what it was sent for so long:
/// such a client could keep its place for ever, since nothing else limits the writing of replies.
fn cut_off_the_deaf(io: &dyn Any, patience: Duration) {
    let Some(stream) = io.downcast_ref::<TcpStream>() else { return };
    let millis = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = set_tcp_user_timeout(stream, millis) {
        tracing::debug!(%error, "a client that does not read will not be noticed");
    }
}
