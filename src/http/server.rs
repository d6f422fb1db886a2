//! The private port's life: bind, serve, drain, end.
//!
//! Signals are handled here and not by actix-web: on the first, new predictions are refused while
//! those in flight are finished and health checks are still answered; on the second, the server
//! stops where it stands. SIGHUP reloads the settings, if there is a hook for it.

use std::any::Any;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::rt::signal::unix::{Signal, SignalKind, signal};
use actix_web::rt::task::JoinHandle;
use actix_web::{App, HttpServer, web};
use anyhow::{Context as _, anyhow};
use futures_util::future::{Either, select};
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::sync::watch;

use super::HttpSpec;
use super::budget::Budget;
use super::decoders::Decoders;
use super::predict::State;
use super::reload::{Reload, Reloads};
use super::{files, log, routes};
use crate::actors::Engine;
use crate::clock;
use crate::image::ImageLimits;
use crate::video::ClipLimits;

/// How often the supervisor's pulse is felt.
const PULSE: Duration = Duration::from_millis(50);

/// How long a connection whose body was refused unread stays open, so that the client, which may be
/// busy sending, gets to read the reply.
const LINGER: Duration = Duration::from_secs(2);

/// How long the last replies may take on their way out once everything is answered.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What is accepted from outside, besides what [`HttpSpec`] says of bodies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Of one image, or one frame.
    pub image: ImageLimits,
    /// Of one clip.
    pub clip: ClipLimits,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to, and everything in flight was answered first; what was left after
    /// `http.drain_s`, with a refusal.
    Drained,
    /// It was asked twice, or replies would not go out; connections were cut.
    Forced,
    /// The engine's supervisor died; the process must end with 70.
    SupervisorDied,
    /// Nothing but a new process helps, though this one is not at fault: the device is gone, or too
    /// many threads have hung; the process must end with 75.
    MustRestart,
}

/// Asks a server to end, as the signals SIGTERM and SIGINT do.
#[derive(Clone, Debug)]
pub struct Shutdown {
    times: Arc<watch::Sender<u32>>,
}

impl Shutdown {
    fn new() -> Self {
        Self { times: Arc::new(watch::Sender::new(0)) }
    }

    /// The first call drains, the second cuts off.
    pub fn request(&self) {
        self.times.send_modify(|times| *times += 1);
    }

    async fn requested(&self, at_least: u32) {
        let mut times = self.times.subscribe();
        // Cannot fail: `self` holds the sender.
        let _ = times.wait_for(|times| *times >= at_least).await;
    }
}

/// A server that has its port and waits to be run.
pub struct Bound {
    server: Server,
    address: SocketAddr,
    engine: Engine,
    shutdown: Shutdown,
    drain: Duration,
    reloads: Arc<Reloads>,
    hangups: Option<Signal>,
}

/// Takes the port. Must be called within an actix system; requests are answered once
/// [`Bound::run`] is polled. Lets the process open as many files as it may: every connection is one.
///
/// # Errors
/// If the address does not exist or is taken, with what to do about it.
pub fn bind(spec: &HttpSpec, engine: Engine, limits: Limits) -> anyhow::Result<Bound> {
    let wanted = resolve(spec)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = if spec.workers == 0 { cores } else { spec.workers };
    let reloads = Arc::new(Reloads::new());
    let state = web::Data::new(State {
        engine: engine.clone(),
        spec: spec.clone(),
        limits,
        budget: Budget::new(spec.body_budget_bytes),
        decoders: Arc::new(Decoders::new(cores)),
        reloads: reloads.clone(),
    });
    let app = move || {
        App::new().app_data(state.clone()).wrap(from_fn(log::observe)).configure(routes::configure)
    };
    let read_timeout = Duration::from_millis(spec.read_timeout_ms);
    let connections = files::connections(spec.max_connections);
    let server = HttpServer::new(app)
        .workers(workers)
        // The limit is each worker's.
        .max_connections((connections / workers).max(1))
        .worker_max_blocking_threads(cores)
        .keep_alive(Duration::from_secs(spec.keep_alive_s))
        .client_request_timeout(read_timeout)
        .client_disconnect_timeout(LINGER)
        .on_connect(move |io, _| cut_off_the_deaf(io, read_timeout))
        // Or nobody would notice that a client has left, and its job would be computed.
        .h1_allow_half_closed(false)
        .shutdown_timeout(spec.drain_s.max(LAST_WORDS.as_secs()))
        .disable_signals()
        .bind(wanted)
        .map_err(|error| cannot_listen(wanted, &error))?;
    let address = server.addrs().first().copied().unwrap_or(wanted);
    let drain = Duration::from_secs(spec.drain_s);
    let (server, shutdown) = (server.run(), Shutdown::new());
    Ok(Bound { server, address, engine, shutdown, drain, reloads, hangups: None })
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

/// The one address to listen on: `localhost` names two, and two ports would be one too many.
fn resolve(spec: &HttpSpec) -> anyhow::Result<SocketAddr> {
    let advice = || format!("`http.host` is {:?}; set it to an address of this machine", spec.host);
    let found = (spec.host.as_str(), spec.port).to_socket_addrs().with_context(advice)?;
    let addresses: Vec<_> = found.collect();
    let v4_first = addresses.iter().find(|address| address.is_ipv4());
    v4_first.or(addresses.first()).copied().with_context(advice)
}

fn cannot_listen(wanted: SocketAddr, error: &io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process has this port; stop it, or choose another with --set http.port=PORT \
             (0 picks a free one)"
        }
        io::ErrorKind::PermissionDenied => {
            "this port needs privileges; choose one above 1023 with --set http.port=PORT"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; set http.host to one it has, such as 127.0.0.1"
        }
        _ => "choose another address with http.host and http.port",
    };
    anyhow!("cannot listen on {wanted}: {error}; {advice}")
}

impl Bound {
    /// Where it listens; the port that was picked, if the settings left that open.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the server from elsewhere, as a signal would.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Gives it the hook that reloads the settings, on SIGHUP and `POST /v1/reload`. From here on
    /// SIGHUP does not end the process.
    ///
    /// # Errors
    /// If the signal cannot be listened for.
    pub fn reloading(mut self, hook: Arc<dyn Reload>) -> anyhow::Result<Self> {
        self.hangups = Some(signal(SignalKind::hangup()).context(DEAF)?);
        self.reloads.hook(hook);
        Ok(self)
    }

    /// Serves until a signal, [`Shutdown::request`], or the death of the engine's supervisor, and
    /// finishes what is in flight. Does not stop the engine, unless time runs out.
    ///
    /// # Errors
    /// If the server cannot start or stops by itself.
    pub async fn run(self) -> anyhow::Result<Ended> {
        let Self { mut server, engine, shutdown, drain, reloads, hangups, .. } = self;
        let _signals = Signals::listen(shutdown.clone())?;
        let _hangups = hangups.map(|hangups| Signals::reload(hangups, reloads));
        let over = beside(&mut server, until_over(&engine, &shutdown)).await?;
        let (begun, second) = (clock::now(), pin!(shutdown.requested(2)));
        tracing::info!(in_flight = engine.in_flight(), ?over, "draining");
        let finish = beside(&mut server, finish(&engine, drain));
        match select(pin!(finish), second).await {
            Either::Left((finished, _)) => finished?,
            Either::Right(_) => return Ok(end(over, false)),
        }
        let stopped = close(server, begun + drain);
        let all_sent = match select(pin!(stopped), pin!(shutdown.requested(2))).await {
            Either::Left((stopped, _)) => stopped?,
            Either::Right(_) => false,
        };
        Ok(end(over, all_sent))
    }
}

/// Why a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Asked,
    SupervisorDied,
    Doomed,
}

fn end(over: Over, finished: bool) -> Ended {
    match (over, finished) {
        (Over::SupervisorDied, _) => Ended::SupervisorDied,
        (Over::Doomed, _) => Ended::MustRestart,
        (Over::Asked, true) => Ended::Drained,
        (Over::Asked, false) => Ended::Forced,
    }
}

/// Runs the server until `work` is done.
async fn beside<T>(server: &mut Server, work: impl Future<Output = T>) -> anyhow::Result<T> {
    match select(server, pin!(work)).await {
        Either::Left((stopped, _)) => {
            stopped.context("the HTTP server failed; its port and the log say more")?;
            Err(anyhow!("the HTTP server stopped by itself; this is a bug"))
        }
        Either::Right((done, _)) => Ok(done),
    }
}

/// Waits until somebody asks for the end, or the engine cannot go on.
async fn until_over(engine: &Engine, shutdown: &Shutdown) -> Over {
    let ill = async {
        loop {
            if !engine.board().is_alive() {
                return Over::SupervisorDied;
            }
            if engine.board().get_doom().is_some() {
                return Over::Doomed;
            }
            tokio::time::sleep(PULSE).await;
        }
    };
    match select(pin!(shutdown.requested(1)), pin!(ill)).await {
        Either::Left(_) => Over::Asked,
        Either::Right((over, _)) => over,
    }
}

/// Waits for the answers of what is in flight; rejects what is left when time is up.
async fn finish(engine: &Engine, at_most: Duration) {
    if !engine.drain(at_most).await {
        tracing::warn!(in_flight = engine.in_flight(), "out of time; the rest is rejected");
        engine.clone().stop().await;
    }
}

/// Closes the listener and the connections once their replies are out. False if that took until
/// `end` and some were cut.
async fn close(mut server: Server, end: Instant) -> anyhow::Result<bool> {
    let stopping = server.handle().stop(true);
    let left = end.saturating_duration_since(clock::now()).max(LAST_WORDS);
    let closed = tokio::time::timeout(left, &mut server).await;
    drop(stopping);
    match closed {
        Ok(stopped) => stopped.map(|()| true).context("the HTTP server did not stop cleanly"),
        Err(_) => Ok(false),
    }
}

const DEAF: &str = "cannot listen for signals";

/// Turns signals into requests, for as long as it lives.
struct Signals(JoinHandle<()>);

impl Signals {
    /// Requests to end.
    fn listen(shutdown: Shutdown) -> anyhow::Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).context(DEAF)?;
        let mut interrupt = signal(SignalKind::interrupt()).context(DEAF)?;
        Ok(Self(actix_web::rt::spawn(async move {
            loop {
                select(pin!(terminate.recv()), pin!(interrupt.recv())).await;
                shutdown.request();
            }
        })))
    }

    /// Requests to reload. Those that come during a reload are one.
    fn reload(mut hangups: Signal, reloads: Arc<Reloads>) -> Self {
        Self(actix_web::rt::spawn(async move {
            while hangups.recv().await.is_some() {
                // The outcome is in the log; there is nobody else to tell.
                let _ = reloads.ask("SIGHUP", Vec::new()).await;
            }
        }))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_says_what_to_do() {
        let wanted = SocketAddr::from(([127, 0, 0, 1], 8080));
        let error = cannot_listen(wanted, &io::ErrorKind::AddrInUse.into()).to_string();
        assert!(error.contains("127.0.0.1:8080") && error.contains("--set http.port"), "{error}");
    }
}
