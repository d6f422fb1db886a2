//! A server within the test's process, on a port of its own, with scripted stages.
//!
//! Metrics and the scripted backend's counts belong to the process, so every test names its stages
//! differently.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use roadcrew::actors::batching::BatchingSpec;
use roadcrew::actors::restart::RestartSpec;
use roadcrew::actors::{Engine, EngineSpec, Routing, StagePlan, StageSpec, batching};
use roadcrew::app::App;
use roadcrew::backends::{BackendContext, Registry};
use roadcrew::cascade::{self, Condition, Exhausted, RoutingPolicy, StageRule};
use roadcrew::http::axon::Axon;
use roadcrew::http::{self, Bound, Decode, Ended, HttpSpec, Limits, Shutdown, Sockets};

/// Longer than anything may take, even on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a server is started with.
pub(crate) struct Setup {
    pub(crate) http: HttpSpec,
    pub(crate) engine: EngineSpec,
    pub(crate) limits: Limits,
    pub(crate) stages: Vec<StagePlan>,
    pub(crate) policy: Option<Box<dyn RoutingPolicy>>,
    pub(crate) axon: Option<Axon>,
}

impl Setup {
    /// One stage that answers with the image's brightness, unless the script says otherwise.
    pub(crate) fn one(stage: &str, script: &str) -> Self {
        Self::with(vec![plan(stage, script)])
    }

    /// The stages given, in order; scores between 0.2 and 0.8 escalate.
    pub(crate) fn with(stages: Vec<StagePlan>) -> Self {
        let http = HttpSpec {
            host: "127.0.0.1".into(),
            port: 0,
            workers: 2,
            max_body_bytes: 4 << 20,
            body_budget_bytes: 16 << 20,
            max_connections: 1_000,
            read_timeout_ms: 30_000,
            keep_alive_s: 30,
            default_deadline_ms: 50_000,
            max_deadline_ms: 60_000,
            deadline_margin_ms: 0,
            drain_s: 50,
            decode: Decode::Always,
        };
        let engine = EngineSpec { max_in_flight: 1_000, max_lends: 3, max_hung: 8, threads: 1 };
        Self { http, engine, limits: Limits::default(), stages, policy: None, axon: None }
    }

    /// Starts the server and waits until its stages are ready or down.
    pub(crate) fn start(self) -> Server {
        Server::start(move |started| serve(self, &started))
    }
}

/// Starts the server of an app, the hook for reloads included, as [`Setup::start`] does.
pub(crate) fn start_app(app: App) -> Server {
    Server::start(move |started| {
        actix::System::new().block_on(async {
            let engine = app.start_engine().unwrap();
            assert!(engine.settled(PATIENCE).await, "the stages settle");
            let bound = app.bind(&engine, Sockets::default()).unwrap();
            run(bound, engine, &started).await
        })
    })
}

/// A stage that follows a script.
pub(crate) fn plan(name: &str, script: &str) -> StagePlan {
    let batching = BatchingSpec { rule: "immediate".into(), max_batch: 8, max_wait_ms: 0 };
    let restart = RestartSpec { backoff_ms: 1, backoff_max_ms: 20, ..RestartSpec::default() };
    let spec = StageSpec { backend: "scripted".into(), batching, restart, ..StageSpec::default() };
    let settings = script.parse().expect("the script is TOML");
    StagePlan {
        name: name.into(),
        rule: StageRule { exit_below: 0.2, exit_above: 0.8, when: Condition::default() },
        factory: Registry::default().get("scripted").unwrap(),
        context: BackendContext {
            stage: name.into(),
            max_batch: 8,
            settings,
            ..BackendContext::default()
        },
        batching: batching::rule(&spec.batching).unwrap(),
        spec,
    }
}

type Started = (SocketAddr, Option<SocketAddr>, Shutdown);

fn serve(setup: Setup, started: &mpsc::SyncSender<Started>) -> Ended {
    actix::System::new().block_on(async {
        let rules = setup.stages.iter().map(|stage| stage.rule.clone()).collect();
        let exhausted = Exhausted::Last;
        let policy = setup.policy.or_else(|| cascade::policy("cascade", rules, exhausted)).unwrap();
        let routing = Routing { policy, exhausted };
        let engine = Engine::start(&setup.engine, routing, setup.stages);
        assert!(engine.settled(PATIENCE).await, "the stages settle");
        let mut bound = http::bind(&setup.http, engine.clone(), setup.limits, None).unwrap();
        if let Some(axon) = setup.axon {
            bound = bound.with_axon(axon, setup.limits, None).unwrap();
        }
        run(bound, engine, started).await
    })
}

async fn run(bound: Bound, engine: Engine, started: &mpsc::SyncSender<Started>) -> Ended {
    started.send((bound.address(), bound.axon_address(), bound.shutdown())).unwrap();
    let ended = bound.run().await.unwrap();
    engine.stop().await;
    ended
}

/// A running server. Stops when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) axon: Option<SocketAddr>,
    pub(crate) shutdown: Shutdown,
    thread: Option<JoinHandle<Ended>>,
}

/// A reply, whatever its status.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {:?}", self.text))
    }

    /// A header as text, empty if absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and code of a failure, whose shape is checked on the way.
    pub(crate) fn problem(&self) -> (u16, String) {
        let json = self.json();
        let error = json["error"].as_object().unwrap_or_else(|| panic!("{}", self.text));
        assert_eq!(error.len(), 3, "{}", self.text);
        assert!(!error["message"].as_str().unwrap().is_empty());
        assert_eq!(error["request_id"], self.header("x-request-id"));
        (self.status, error["code"].as_str().unwrap().to_owned())
    }
}

impl Server {
    fn start(serve: impl FnOnce(mpsc::SyncSender<Started>) -> Ended + Send + 'static) -> Self {
        roadcrew::metrics::install();
        let (sender, receiver) = mpsc::sync_channel(1);
        let build = std::thread::Builder::new().name("test-server".into());
        let thread = build.spawn(move || serve(sender)).unwrap();
        let (address, axon, shutdown) = receiver.recv_timeout(PATIENCE).expect("the server starts");
        Self { address, axon, shutdown, thread: Some(thread) }
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Asks with GET.
    pub(crate) fn get(&self, path: &str) -> Reply {
        reply(agent().get(self.url(path)).call())
    }

    /// Sends bytes with a content type to `/v1/predict`.
    pub(crate) fn predict(&self, content_type: &str, body: &[u8]) -> Reply {
        self.predict_at("/v1/predict", content_type, body)
    }

    /// Sends bytes with a content type to a path, the query included.
    pub(crate) fn predict_at(&self, path: &str, content_type: &str, body: &[u8]) -> Reply {
        reply(agent().post(self.url(path)).header("content-type", content_type).send(body))
    }

    /// A connection of one's own.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The value of a metric's series, 0 if it has not been seen.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").text;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits for the end.
    pub(crate) fn ended(mut self) -> Ended {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shutdown.request();
            self.shutdown.request();
            let _ = thread.join();
        }
    }
}

/// A client that keeps no connection and calls no status an error.
pub(crate) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_idle_connections(0)
        .timeout_global(Some(PATIENCE))
        .build();
    config.into()
}

/// Reads a reply whole.
pub(crate) fn reply(reply: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Reply {
    let (head, mut body) = reply.expect("a reply").into_parts();
    let text = body.read_to_string().unwrap();
    Reply { status: head.status.as_u16(), headers: head.headers, text }
}

/// Writes raw bytes and reads until the server closes the connection.
pub(crate) fn raw(mut stream: TcpStream, bytes: &[u8]) -> String {
    stream.write_all(bytes).unwrap();
    rest(stream)
}

/// Reads until the server closes the connection; a reset counts as closing.
pub(crate) fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = roadcrew::clock::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A PNG file of one grey level.
pub(crate) fn grey_png(level: u8, width: u32, height: u32) -> Vec<u8> {
    let picture = image::RgbImage::from_pixel(width, height, image::Rgb([level; 3]));
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner()
}

/// A form with these fields, and its content type.
pub(crate) fn form(fields: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, value) in fields {
        let head = format!(
            "--limit\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"f\"\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--limit--\r\n");
    ("multipart/form-data; boundary=limit".into(), body)
}
