//! The public port: the Bittensor axon of subnet 72, for validators and nobody else.
//!
//! ```text
//!   headers ─▶ caller allowed? (403) ─▶ signed, fresh, not seen? (401) ─▶ rate (429) ─▶ engine's door
//!     ─▶ body (budget) ─▶ synapse: base64 in place ─▶ answers: known, in flight, or computed ─▶ reply
//! ```
//!
//! Once a caller is authenticated, whatever goes wrong is answered with 200 and the prior, if the
//! settings say so: for a validator anything else is a zero. `outcome` has the table.
//!
//! Must not know: models, stages, or where the metagraph comes from.

mod admit;
mod answers;
mod call;
mod outcome;
mod reply;
mod search;
mod synapse;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::Server;
use actix_web::guard;
use actix_web::web::{self, ServiceConfig};
use serde::{Deserialize, Serialize};

use self::answers::Answers;
pub use self::synapse::{Asked, Synapse, SynapseError};
use super::budget::Budget;
use super::decoders::Decoders;
use super::listener::Listener;
use super::log::Port;
use super::server::Limits;
use super::sockets::Place;
use crate::actors::Engine;
use crate::bittensor::{Callers, Metagraph, Verifier};
use crate::prediction::Probability;

/// Settings of the public port: `[axon]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AxonSpec {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on; 0 picks a free one.
    pub port: u16,
    /// The hotkeys that are answered for, besides the wallet's. Without any, the port is closed.
    pub hotkeys: Vec<String>,
    /// Names of synapses that are answered, each at `/NAME`.
    pub synapses: Vec<String>,
    /// Threads that read requests and write replies; 0 means one per core.
    pub workers: usize,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Bytes of request bodies and of pixels held at the same time, all calls together.
    pub body_budget_bytes: usize,
    /// Most connections at the same time.
    pub max_connections: usize,
    /// A client must have sent the head of its request within this, and takes something of its reply,
    /// in milliseconds.
    pub read_timeout_ms: u64,
    /// Idle connections are kept this long, in seconds.
    pub keep_alive_s: u64,
    /// The timeout of a caller that names none, in milliseconds.
    pub default_timeout_ms: u64,
    /// Longest timeout that a caller may name, in milliseconds.
    pub max_timeout_ms: u64,
    /// Taken off every timeout, but never more than a fifth of it, in milliseconds.
    pub deadline_margin_ms: u64,
    /// Whether an authenticated caller gets the prior where there is no verdict.
    pub answer_with_prior: bool,
    /// The prediction where there is no verdict.
    pub prior: f64,
    /// Answers remembered for identical images; 0 remembers none.
    pub remember: usize,
    /// How long an answer is remembered, in seconds.
    pub remember_s: u64,
    /// Whether identical images in flight are computed once.
    pub share_in_flight: bool,
    /// What callers with a field `model_url` are told.
    pub model_url: String,
    /// Where what must survive a restart is kept; empty for the user's state folder.
    pub state_dir: String,
}

impl AxonSpec {
    /// How long a caller waits that names this timeout, which nobody has signed.
    fn timeout(&self, named: Option<Duration>) -> Duration {
        let asked = named.unwrap_or(Duration::from_millis(self.default_timeout_ms));
        asked.min(Duration::from_millis(self.max_timeout_ms))
    }

    /// When the answer must be on its way, for a call that arrived at `arrived`.
    fn deadline(&self, arrived: Instant, timeout: Duration) -> Instant {
        arrived + (timeout - self.margin(timeout))
    }

    /// What is taken off a timeout.
    fn margin(&self, timeout: Duration) -> Duration {
        Duration::from_millis(self.deadline_margin_ms).min(timeout / 5)
    }

    fn prior(&self) -> Probability {
        // The settings were checked; 0.5 is what nobody knows better than.
        Probability::new(self.prior as f32).unwrap_or(Probability::HALF)
    }
}

const BUDGET_KEY: &str = "axon.body_budget_bytes";

/// Everything that a public port needs.
pub struct Axon {
    /// The settings.
    pub spec: AxonSpec,
    /// Who is believed.
    pub verifier: Verifier,
    /// Who may call.
    pub callers: Callers,
    /// Who is registered.
    pub metagraph: Arc<Metagraph>,
}

/// What every handler of this port shares.
struct Door {
    axon: Axon,
    engine: Engine,
    limits: Limits,
    budget: Arc<Budget>,
    /// For the bodies of callers that nobody has verified yet.
    unverified: Arc<Budget>,
    decoders: Arc<Decoders>,
    answers: Arc<Answers>,
}

impl Axon {
    /// Takes the port, or the socket that was inherited for it. Must be called within an actix system.
    pub(super) fn open(
        self,
        (engine, limits): (Engine, Limits),
        drain: Duration,
        inherited: Option<TcpListener>,
    ) -> anyhow::Result<(Server, SocketAddr)> {
        let spec = self.spec.clone();
        let remember_for = Duration::from_secs(spec.remember_s);
        let door = web::Data::new(Door {
            engine,
            limits,
            budget: Budget::new(spec.body_budget_bytes, BUDGET_KEY),
            unverified: Budget::new(
                spec.max_body_bytes.max(spec.body_budget_bytes / 8),
                BUDGET_KEY,
            ),
            // Its own, so that a crowd at the private port does not stand before a validator.
            decoders: Arc::new(Decoders::for_this_machine()),
            answers: Answers::new(spec.remember, remember_for, spec.share_in_flight),
            axon: self,
        });
        let listener = Listener {
            place: Place { port: Port::Axon, host: &spec.host, number: spec.port },
            workers: spec.workers,
            max_connections: spec.max_connections,
            read_timeout: Duration::from_millis(spec.read_timeout_ms),
            keep_alive: Duration::from_secs(spec.keep_alive_s),
            drain,
        };
        let names = spec.synapses.clone();
        listener.open(inherited, move |config| routes(config, &door, &names))
    }
}

fn routes(config: &mut ServiceConfig, door: &web::Data<Door>, names: &[String]) {
    config.app_data(door.clone());
    for name in names {
        let synapse = web::resource(format!("/{name}"))
            .route(web::post().to(call::call))
            .default_service(web::to(reply::wrong_method));
        config.service(synapse);
    }
    let reading = web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
    let root = web::resource("/")
        .route(reading.to(reply::alive))
        .default_service(web::to(reply::wrong_method));
    config.service(root).default_service(web::to(reply::not_found));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn spec() -> AxonSpec {
        AxonSpec {
            host: "127.0.0.1".into(),
            port: 0,
            hotkeys: Vec::new(),
            synapses: Vec::new(),
            workers: 1,
            max_body_bytes: 1,
            body_budget_bytes: 1,
            max_connections: 1,
            read_timeout_ms: 1,
            keep_alive_s: 1,
            default_timeout_ms: 9_000,
            max_timeout_ms: 12_000,
            deadline_margin_ms: 1_000,
            answer_with_prior: true,
            prior: 0.25,
            remember: 0,
            remember_s: 0,
            share_in_flight: false,
            model_url: String::new(),
            state_dir: String::new(),
        }
    }

    #[test]
    fn a_deadline_is_the_timeout_less_a_margin() {
        let (spec, arrived) = (spec(), clock::now());
        let left = |named| spec.deadline(arrived, spec.timeout(named)) - arrived;
        let seconds = Duration::from_secs_f64;
        assert_eq!(left(None), seconds(8.0));
        assert_eq!(left(Some(seconds(12.0))), seconds(11.0));
        assert_eq!(left(Some(Duration::MAX)), seconds(11.0), "clamped");
        assert_eq!(left(Some(seconds(1.0))), seconds(0.8), "the margin never takes it all");
        assert_eq!(left(Some(Duration::ZERO)), Duration::ZERO);
    }
}
