//! The real server in this process, with two scripted stages.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use roadcrew::actors::batching::{self, BatchingSpec};
use roadcrew::actors::{Engine, EngineSpec, Routing, StagePlan, StageSpec, StageTuning, Tuning};
use roadcrew::backends::{BackendContext, Registry};
use roadcrew::cascade::{self, Condition, Exhausted, StageRule};
use roadcrew::http::{self, Decode, Ended, HttpSpec, Limits, Shutdown};
use roadcrew::{clock, metrics};

use super::pictures::{Album, Fault};
use super::schedule::Reload;

/// The stages, in the order of the cascade.
pub(crate) const STAGES: [&str; 2] = ["screen", "confirm"];

/// Largest batch of either stage.
pub(crate) const MAX_BATCH: usize = 8;

/// How long a scripted hang lasts; by then its instance has been given up.
pub(crate) const HANG: Duration = Duration::from_secs(3);

/// Longer than starting and ending take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the metrics are folded, as the program does it.
const UPKEEP: Duration = Duration::from_secs(5);

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Engine,
    shutdown: Shutdown,
    thread: JoinHandle<Ended>,
}

impl Server {
    /// Starts it and waits until its stages are ready.
    pub(crate) fn start(album: &Album) -> Self {
        metrics::install();
        let plans = vec![
            plan(
                0,
                (0.15, 0.85),
                &script(album, 0, "base_ms = 4.0\nper_image_ms = 0.3\nslow_load_ms = 20"),
            ),
            plan(
                1,
                (0.5, 0.5),
                &script(album, 1, "base_ms = 8.0\nper_image_ms = 0.8\nslow_load_ms = 40"),
            ),
        ];
        let (sender, receiver) = mpsc::sync_channel(1);
        let builder = std::thread::Builder::new().name("server".into());
        let thread = builder.spawn(move || serve(plans, &sender)).unwrap();
        let (address, engine, shutdown) = receiver.recv_timeout(PATIENCE).expect("it starts");
        Self { address, engine, shutdown, thread }
    }

    /// Takes other settings while it serves.
    pub(crate) fn reload(&self, reload: &Reload) {
        let (exit_below, exit_above) = reload.exits;
        let rules = vec![rule(exit_below, exit_above), rule(0.5, 0.5)];
        let tuning = |spec: &BatchingSpec| StageTuning {
            batching: batching::rule(spec).unwrap(),
            max_batch: spec.max_batch,
            hang_ms: reload.hang_ms,
        };
        let stages = reload.batching.iter().map(tuning).collect();
        self.engine.retune(Tuning { routing: routing(rules), stages });
    }

    /// Ends it. True if it ended as it should.
    pub(crate) fn end(self) -> bool {
        self.shutdown.request();
        self.thread.join().is_ok_and(|ended| ended == Ended::Drained)
    }
}

type Started = (SocketAddr, Engine, Shutdown);

fn serve(plans: Vec<StagePlan>, started: &mpsc::SyncSender<Started>) -> Ended {
    actix::System::new().block_on(async {
        let rules = plans.iter().map(|plan| plan.rule.clone()).collect();
        let spec = EngineSpec { max_in_flight: 1_000, max_lends: 3, max_hung: 16, threads: 1 };
        let engine = Engine::start(&spec, routing(rules), plans);
        assert!(engine.settled(PATIENCE).await, "the stages settle");
        let bound = http::bind(&port(), engine.clone(), Limits::default(), None).unwrap();
        let upkeep = actix::spawn(async {
            loop {
                tokio::time::sleep(UPKEEP).await;
                metrics::upkeep();
            }
        });
        started.send((bound.address(), engine.clone(), bound.shutdown())).unwrap();
        let ended = bound.run().await.unwrap();
        upkeep.abort();
        engine.stop().await;
        ended
    })
}

fn port() -> HttpSpec {
    HttpSpec {
        host: "127.0.0.1".into(),
        port: 0,
        workers: 2,
        max_body_bytes: 1 << 20,
        body_budget_bytes: 64 << 20,
        max_connections: 2_000,
        read_timeout_ms: 5_000,
        keep_alive_s: 30,
        default_deadline_ms: 8_000,
        max_deadline_ms: 60_000,
        deadline_margin_ms: 20,
        drain_s: 20,
        decode: Decode::Always,
    }
}

fn routing(rules: Vec<StageRule>) -> Routing {
    let exhausted = Exhausted::Last;
    Routing { policy: cascade::policy("cascade", rules, exhausted).unwrap(), exhausted }
}

fn rule(exit_below: f32, exit_above: f32) -> StageRule {
    StageRule { exit_below, exit_above, when: Condition::default() }
}

fn plan(stage: usize, exits: (f32, f32), script: &str) -> StagePlan {
    let batching = BatchingSpec { max_batch: MAX_BATCH, ..BatchingSpec::default() };
    let name = STAGES[stage];
    let spec =
        StageSpec { backend: "scripted".into(), hang_ms: 300, batching, ..StageSpec::default() };
    StagePlan {
        name: name.into(),
        rule: rule(exits.0, exits.1),
        factory: Registry::default().get("scripted").unwrap(),
        context: BackendContext {
            stage: name.into(),
            max_batch: MAX_BATCH,
            settings: script.parse().expect("the script is TOML"),
            ..BackendContext::default()
        },
        batching: batching::rule(&spec.batching).unwrap(),
        spec,
    }
}

/// A stage that answers with the brightness, falls for its poisons, and has passing troubles.
fn script(album: &Album, stage: usize, pace: &str) -> String {
    let list = |fault| album.listed(stage, fault);
    format!(
        "{pace}\nhang_ms = {}\ntoo_big_above = 6\nbatch.retry_every = 97\n\
         [image]\npanic = [{}]\nhang = [{}]\nwrong_count = [{}]\nbroken = [{}]\n",
        HANG.as_millis(),
        list(Fault::Panic),
        list(Fault::Hang),
        list(Fault::WrongCount),
        list(Fault::Broken),
    )
}

/// Panics of the stages that nobody has looked at yet.
static PANICS: Mutex<Vec<(usize, Instant)>> = Mutex::new(Vec::new());

/// Notes the panics of the stages' threads, which bear the stage's name, instead of printing them.
pub(crate) fn watch_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        let name = thread.name().and_then(|name| name.split('-').next());
        match STAGES.iter().position(|stage| Some(*stage) == name) {
            Some(stage) => PANICS.lock().push((stage, clock::now())),
            None => print(info),
        }
    }));
}

/// The panics since the last call.
pub(crate) fn panics() -> Vec<(usize, Instant)> {
    std::mem::take(&mut *PANICS.lock())
}
