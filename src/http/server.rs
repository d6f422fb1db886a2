//! The ports' life: bind, serve, drain, end.
//!
//! Signals are handled here and not by actix-web: on the first, new predictions are refused while
//! those in flight are finished and health checks are still answered; on the second, the server
//! stops where it stands, unless a parent decides that. SIGHUP reloads the settings, if there is a hook for it.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use actix_web::dev::Server;
use actix_web::rt::signal::unix::{Signal, SignalKind, signal};
use actix_web::rt::task::JoinHandle;
use actix_web::web;
use anyhow::{Context as _, anyhow};
use futures_util::future::{Either, select, try_join_all};
use tokio::sync::watch;

use super::HttpSpec;
use super::axon::Axon;
use super::budget::Budget;
use super::decoders::Decoders;
use super::listener::{LAST_WORDS, Listener};
use super::log::Port;
use super::predict::State;
use super::reload::{Reload, Reloads};
use super::routes;
use super::sockets::Place;
use crate::actors::Engine;
use crate::clock;
use crate::image::ImageLimits;
use crate::video::ClipLimits;

/// How often the supervisor's pulse is felt.
const PULSE: Duration = Duration::from_millis(50);

/// What is accepted from outside, besides what [`HttpSpec`] says of bodies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Of one image, or one frame.
    pub image: ImageLimits,
    /// Of one clip.
    pub clip: ClipLimits,
    /// Whether single pictures reach the engine as files that nobody has decoded.
    pub as_files: bool,
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
    servers: Servers,
    address: SocketAddr,
    axon: Option<SocketAddr>,
    engine: Engine,
    shutdown: Shutdown,
    drain: Duration,
    reloads: Arc<Reloads>,
    hangups: Option<Signal>,
    /// Whether a second signal to end cuts connections.
    hurries: bool,
}

/// Takes the private port, or the socket that was inherited for it. Must be called within an actix
/// system; requests are answered once [`Bound::run`] is polled.
///
/// # Errors
/// If the address does not exist or is taken, with what to do about it.
pub fn bind(
    spec: &HttpSpec,
    engine: Engine,
    limits: Limits,
    inherited: Option<TcpListener>,
) -> anyhow::Result<Bound> {
    let reloads = Arc::new(Reloads::new());
    let state = web::Data::new(State {
        engine: engine.clone(),
        spec: spec.clone(),
        limits,
        budget: Budget::new(spec.body_budget_bytes, "http.body_budget_bytes"),
        decoders: Arc::new(Decoders::for_this_machine()),
        reloads: reloads.clone(),
    });
    let drain = Duration::from_secs(spec.drain_s);
    let listener = Listener {
        place: Place { port: Port::Private, host: &spec.host, number: spec.port },
        workers: spec.workers,
        max_connections: spec.max_connections,
        read_timeout: Duration::from_millis(spec.read_timeout_ms),
        keep_alive: Duration::from_secs(spec.keep_alive_s),
        drain,
    };
    let (server, address) = listener.open(inherited, move |config| {
        config.app_data(state.clone()).configure(routes::configure);
    })?;
    let (servers, shutdown) = (Servers(vec![server]), Shutdown::new());
    Ok(Bound {
        servers,
        address,
        axon: None,
        engine,
        shutdown,
        drain,
        reloads,
        hangups: None,
        hurries: true,
    })
}

impl Bound {
    /// Where it listens; the port that was picked, if the settings left that open.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where validators are answered, if they are.
    pub fn axon_address(&self) -> Option<SocketAddr> {
        self.axon
    }

    /// Takes the public port as well, or the socket that was inherited for it. It lives and ends with
    /// the private one.
    ///
    /// # Errors
    /// As [`bind`].
    pub fn with_axon(
        mut self,
        axon: Axon,
        limits: Limits,
        inherited: Option<TcpListener>,
    ) -> anyhow::Result<Self> {
        let engine = (self.engine.clone(), limits);
        let (server, address) = axon.open(engine, self.drain, inherited)?;
        self.servers.0.push(server);
        self.axon = Some(address);
        Ok(self)
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

    /// Takes all signals to end for one. A parent kills its child when it is in a hurry, and whoever
    /// signals both, as service managers do, would otherwise cut connections by it.
    #[must_use]
    pub fn under_parent(mut self) -> Self {
        self.hurries = false;
        self
    }

    /// Serves until a signal, [`Shutdown::request`], or the death of the engine's supervisor, and
    /// finishes what is in flight. Does not stop the engine, unless time runs out.
    ///
    /// # Errors
    /// If the server cannot start or stops by itself.
    pub async fn run(self) -> anyhow::Result<Ended> {
        let Self { mut servers, engine, shutdown, drain, reloads, hangups, hurries, .. } = self;
        let _signals = Signals::listen(shutdown.clone(), hurries)?;
        let _hangups = hangups.map(|hangups| Signals::reload(hangups, reloads));
        let over = beside(&mut servers, until_over(&engine, &shutdown)).await?;
        let (begun, second) = (clock::now(), pin!(shutdown.requested(2)));
        tracing::info!(in_flight = engine.in_flight(), ?over, "draining");
        let finish = beside(&mut servers, finish(&engine, drain));
        match select(pin!(finish), second).await {
            Either::Left((finished, _)) => finished?,
            Either::Right(_) => return Ok(end(over, false)),
        }
        let stopped = close(servers, begun + drain);
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

/// The servers of every port, together: over as soon as one of them is.
struct Servers(Vec<Server>);

impl Future for Servers {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let over = |server: &mut Server| match Pin::new(server).poll(context) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        };
        self.0.iter_mut().find_map(over).map_or(Poll::Pending, Poll::Ready)
    }
}

/// Runs the servers until `work` is done.
async fn beside<T>(servers: &mut Servers, work: impl Future<Output = T>) -> anyhow::Result<T> {
    match select(servers, pin!(work)).await {
        Either::Left((stopped, _)) => {
            stopped.context("an HTTP server failed; its port and the log say more")?;
            Err(anyhow!("an HTTP server stopped by itself; this is a bug"))
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

/// Closes the listeners and the connections once their replies are out. False if that took until
/// `end` and some were cut.
async fn close(servers: Servers, end: Instant) -> anyhow::Result<bool> {
    let stopping: Vec<_> = servers.0.iter().map(|server| server.handle().stop(true)).collect();
    let left = end.saturating_duration_since(clock::now()).max(LAST_WORDS);
    let closed = tokio::time::timeout(left, try_join_all(servers.0)).await;
    drop(stopping);
    match closed {
        Ok(stopped) => stopped.map(|_| true).context("an HTTP server did not stop cleanly"),
        Err(_) => Ok(false),
    }
}

const DEAF: &str = "cannot listen for signals";

/// Turns signals into requests, for as long as it lives.
struct Signals(JoinHandle<()>);

impl Signals {
    /// Requests to end; only the first counts unless the server `hurries`.
    fn listen(shutdown: Shutdown, hurries: bool) -> anyhow::Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).context(DEAF)?;
        let mut interrupt = signal(SignalKind::interrupt()).context(DEAF)?;
        Ok(Self(actix_web::rt::spawn(async move {
            loop {
                select(pin!(terminate.recv()), pin!(interrupt.recv())).await;
                shutdown.request();
                if !hurries {
                    return;
                }
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
