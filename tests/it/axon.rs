//! The public port, called as a dendrite calls it: by signed requests on raw connections.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roadcrew::bittensor::{
    Callers, CallersSpec, EMPTY_BODY_HASH, Hotkey, Keypair, Metagraph, Moment, NonceLimits, Nonces,
    Verifier,
};
use roadcrew::clock;
use roadcrew::config::{self, Sources};
use roadcrew::http::axon::{Axon, AxonSpec};
use serde_json::{Value, json};

use super::support::{PATIENCE, Server, Setup, grey_png, plan, rest, start_app, until};

fn validator() -> Keypair {
    Keypair::from_seed(&[1; 32])
}

fn miner() -> Hotkey {
    Keypair::from_seed(&[2; 32]).hotkey()
}

fn defaults() -> config::Config {
    let names = roadcrew::app::Parts::default().names();
    config::resolve(&Sources::default(), &names).unwrap().config
}

fn spec() -> AxonSpec {
    AxonSpec { host: "127.0.0.1".into(), port: 0, prior: 0.25, ..defaults().axon }
}

fn axon(spec: AxonSpec, callers: CallersSpec) -> Axon {
    Axon {
        spec,
        verifier: Verifier::new(
            vec![miner()],
            Nonces::in_memory(NonceLimits::default(), long_ago()),
        ),
        callers: Callers::new(&callers).unwrap(),
        metagraph: Arc::<Metagraph>::default(),
    }
}

/// A memory that began a minute ago, so that it refuses nothing as older than itself.
fn long_ago() -> Moment {
    let minute = std::time::Duration::from_secs(60);
    Moment { wall: clock::wall() - minute, mono: clock::now() }
}

fn callers() -> CallersSpec {
    CallersSpec { allow: vec![validator().hotkey().to_string()], ..defaults().callers }
}

fn server(stage: &str, script: &str) -> Server {
    with(Setup::one(stage, script), spec())
}

fn with(mut setup: Setup, spec: AxonSpec) -> Server {
    setup.axon = Some(axon(spec, callers()));
    setup.start()
}

/// A nonce that was not used before in this process.
fn nonce() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = clock::wall().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    LAST.fetch_max(now, Ordering::Relaxed);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// What a dendrite sends, before its body.
struct Call {
    nonce: u64,
    timeout: &'static str,
    path: &'static str,
    signer: Keypair,
}

impl Call {
    fn new() -> Self {
        Self { nonce: nonce(), timeout: "9.0", path: "/ImageSynapse", signer: validator() }
    }

    fn head(&self, length: usize) -> String {
        let Self { nonce, timeout, path, signer } = self;
        let (caller, uuid, own) = (signer.hotkey(), "ffebb1ee-e685", miner());
        let message = format!("{nonce}.{caller}.{own}.{uuid}.{EMPTY_BODY_HASH}");
        let signature: String =
            signer.sign(message.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nname: ImageSynapse\r\ntimeout: {timeout}\r\n\
             bt_header_axon_hotkey: {own}\r\nbt_header_dendrite_nonce: {nonce}\r\n\
             bt_header_dendrite_uuid: {uuid}\r\nbt_header_dendrite_hotkey: {caller}\r\n\
             bt_header_dendrite_signature: 0x{signature}\r\n\
             computed_body_hash: {EMPTY_BODY_HASH}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    }

    fn with(&self, body: &Value) -> Vec<u8> {
        let body = body.to_string();
        [self.head(body.len()).as_bytes(), body.as_bytes()].concat()
    }
}

fn synapse(image: &[u8]) -> Value {
    json!({"name": "ImageSynapse", "timeout": 9.0, "testnet_label": -1,
        "image": STANDARD.encode(image), "prediction": -1.0})
}

fn white() -> Value {
    synapse(&grey_png(255, 2, 2))
}

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = |line: &str| line.strip_prefix("content-length: ")?.parse().ok();
                let length: usize = head.lines().find_map(length).unwrap();
                if body.len() >= length {
                    let status = head[9..12].parse().unwrap();
                    let body = serde_json::from_str(body).unwrap_or(Value::Null);
                    return Self { status, head: head.to_owned(), body };
                }
            }
            let read = stream.read(&mut chunk).unwrap();
            assert!(read > 0, "the connection ended: {text}");
            bytes.extend_from_slice(&chunk[..read]);
        }
    }

    fn prediction(&self) -> f64 {
        assert_eq!(self.status, 200, "{} {}", self.head, self.body);
        self.body["prediction"].as_f64().unwrap()
    }

    fn has(&self, line: &str) -> bool {
        self.head.lines().any(|known| known == line)
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn send(server: &Server, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(server.axon.unwrap());
    stream.write_all(bytes).unwrap();
    stream
}

fn ask(server: &Server, body: &Value) -> Answer {
    Answer::read(&mut send(server, &Call::new().with(body)))
}

fn computed(server: &Server, stage: &str) -> f64 {
    let labels = format!("kind=\"score\",stage=\"{stage}\"");
    let other = format!("stage=\"{stage}\",kind=\"score\"");
    server.metric(&format!("roadcrew_stage_predictions_total{{{labels}}}"))
        + server.metric(&format!("roadcrew_stage_predictions_total{{{other}}}"))
}

#[test]
fn a_call_is_answered_as_a_dendrite_wants_it() {
    let server = server("axon-good", "");
    let answer = ask(&server, &white());
    assert_eq!(answer.prediction(), 1.0);
    for line in [
        "name: ImageSynapse",
        "bt_header_axon_status_code: 200",
        "bt_header_axon_status_message: Success",
        "content-type: application/json",
    ] {
        assert!(answer.has(line), "{line}: {}", answer.head);
    }
    assert!(!answer.head.contains("x-request-id") && !answer.head.contains("server:"));
    assert!(answer.body["dendrite"].is_object() && answer.body["axon"].is_object());
    assert_eq!((&answer.body["image"], &answer.body["testnet_label"]), (&json!(""), &json!(-1)));
    assert!(answer.body.get("explanation").is_none() && answer.body.get("model_url").is_none());
    let mut extended = white();
    extended["explanation"] = Value::Null;
    extended["model_url"] = json!("");
    let answer = ask(&server, &extended);
    assert!(answer.body["explanation"].as_str().unwrap().contains("axon-good"), "{}", answer.body);
    assert_eq!(answer.body["model_url"], "");
}

#[test]
fn a_connection_is_used_again() {
    let server = server("axon-keep", "");
    let mut stream = connect(server.axon.unwrap());
    for level in [255, 0, 255] {
        stream.write_all(&Call::new().with(&synapse(&grey_png(level, 3, 2)))).unwrap();
        assert_eq!(Answer::read(&mut stream).prediction(), f64::from(level) / 255.0);
    }
}

#[test]
fn strangers_and_forgers_are_refused_before_their_body_is_read() {
    let server = server("axon-strangers", "");
    let declared = 30_000_000;
    let stranger = Call { signer: Keypair::from_seed(&[9; 32]), ..Call::new() };
    let mut stream = send(&server, stranger.head(declared).as_bytes());
    let answer = Answer::read(&mut stream);
    assert_eq!((answer.status, answer.has("connection: close")), (403, true), "{}", answer.head);
    let forged = Call::new().head(declared).replace("timeout: 9.0", "timeout: 8.0");
    let nonce = nonce();
    let forged: String = forged
        .lines()
        .map(|line| match line.strip_prefix("bt_header_dendrite_nonce: ") {
            Some(_) => format!("bt_header_dendrite_nonce: {nonce}\r\n"),
            None => format!("{line}\r\n"),
        })
        .collect();
    let answer = Answer::read(&mut send(&server, forged.as_bytes()));
    assert_eq!(answer.status, 401, "{}", answer.body);
    let told = answer.body["message"].as_str().unwrap();
    assert!(!told.contains(&nonce.to_string()), "what was signed is not repeated: {told}");
}

#[test]
fn nothing_else_is_on_this_port() {
    let server = server("axon-only", "");
    let get = |path: &str, method: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        rest(send(&server, request.as_bytes()))
    };
    let root = get("/", "GET");
    assert!(root.starts_with("HTTP/1.1 200") && root.ends_with("\r\n\r\nok\n"), "{root}");
    for path in ["/metrics", "/readyz", "/v1/predict", "/v1/reload", "/Synapse", "/ImageSynapse/x"]
    {
        assert!(get(path, "GET").starts_with("HTTP/1.1 404"), "{path}");
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        assert!(get("/ImageSynapse", method).starts_with("HTTP/1.1 405"), "{method}");
    }
    let alias = Call { path: "/ExtendedImageSynapse", ..Call::new() };
    let answer = Answer::read(&mut send(&server, &alias.with(&white())));
    assert_eq!(answer.prediction(), 1.0);
    assert!(answer.has("name: ExtendedImageSynapse"));
}

#[test]
fn a_request_counts_once() {
    let server = server("axon-replay", "");
    let request = Call::new().with(&white());
    assert_eq!(Answer::read(&mut send(&server, &request)).status, 200);
    assert_eq!(Answer::read(&mut send(&server, &request)).status, 401);
    let older = Call { nonce: nonce() - 1_000_000_000, ..Call::new() };
    assert_eq!(Answer::read(&mut send(&server, &older.with(&white()))).status, 200);
}

#[test]
fn what_cannot_be_judged_gets_the_prior() {
    let mut setup = Setup::one("axon-prior", "");
    setup.limits.image.max_pixels = 1_000;
    let server = with(setup, AxonSpec { max_body_bytes: 20_000, ..spec() });
    for body in [
        json!({}),
        synapse(b""),
        synapse(b"no picture"),
        synapse(&grey_png(9, 8, 8)[..40]),
        json!({"image": "@@@"}),
        synapse(&grey_png(9, 100, 100)),
        synapse(&[0; 30_000]),
    ] {
        assert_eq!(ask(&server, &body).prediction(), 0.25, "{body}");
    }
    let why = |why: &str| server.metric(&format!("roadcrew_axon_priors_total{{why=\"{why}\"}}"));
    assert!(why("undecodable") >= 5.0 && why("too_large") >= 2.0);
    for body in ["{not json", "[1]", "{\"image\": 5}", ""] {
        let call = Call::new();
        let bytes = [call.head(body.len()).as_bytes(), body.as_bytes()].concat();
        assert_eq!(Answer::read(&mut send(&server, &bytes)).status, 400, "{body}");
    }
}

#[test]
fn the_prior_can_be_turned_off() {
    let server =
        with(Setup::one("axon-errors", ""), AxonSpec { answer_with_prior: false, ..spec() });
    let answer = ask(&server, &synapse(b"no picture"));
    assert_eq!(answer.status, 422);
    assert!(answer.has("bt_header_axon_status_code: 422"));
    assert!(answer.body["message"].as_str().unwrap().contains("undecodable"));
}

#[test]
fn the_answer_is_there_before_the_caller_gives_up() {
    let server = server("axon-late", "base_ms = 20000");
    let begun = clock::now();
    let hurried = Call { timeout: "4.0", ..Call::new() };
    let mut hurried = send(&server, &hurried.with(&white()));
    // A caller that does not finish sending is answered as well.
    let slow = Call { timeout: "4.0", ..Call::new() };
    let mut slow = send(&server, slow.head(1_000).as_bytes());
    slow.write_all(b"{\"image").unwrap();
    assert_eq!(Answer::read(&mut hurried).prediction(), 0.25);
    let answer = Answer::read(&mut slow);
    assert_eq!((answer.prediction(), answer.has("connection: close")), (0.25, true));
    assert!(begun.elapsed().as_secs_f64() < 4.0, "while both still wait");
}

#[test]
fn identical_images_are_computed_once() {
    let server = server("axon-share", "base_ms = 700");
    let image = synapse(&grey_png(204, 5, 5));
    let streams: Vec<_> = (0..8).map(|_| send(&server, &Call::new().with(&image))).collect();
    let predictions: Vec<_> =
        streams.into_iter().map(|mut stream| Answer::read(&mut stream).prediction()).collect();
    assert!(predictions.iter().all(|p| (p - 0.8).abs() < 1e-3), "{predictions:?}");
    assert_eq!(computed(&server, "axon-share"), 1.0);
    assert!((ask(&server, &image).prediction() - 0.8).abs() < 1e-3);
    assert_eq!(computed(&server, "axon-share"), 1.0, "remembered");
    ask(&server, &synapse(&grey_png(203, 5, 5)));
    assert_eq!(computed(&server, "axon-share"), 2.0);
}

#[test]
fn a_leader_that_leaves_does_not_take_its_followers_along() {
    let server = server("axon-leader", "base_ms = 1000");
    let image = synapse(&grey_png(204, 6, 5));
    let leader = send(&server, &Call::new().with(&image));
    let waits = "roadcrew_stage_queue_wait_seconds_count{stage=\"axon-leader\"}";
    until("the leader's image is computed", || server.metric(waits) >= 1.0);
    let mut followers: Vec<_> = (0..3).map(|_| send(&server, &Call::new().with(&image))).collect();
    std::thread::sleep(std::time::Duration::from_millis(200));
    drop(leader);
    for follower in &mut followers {
        assert!((Answer::read(follower).prediction() - 0.8).abs() < 1e-3);
    }
}

#[test]
fn a_degraded_verdict_is_not_remembered() {
    let stages = vec![plan("axon-first", "answer = 0.5"), plan("axon-broken", "panic_every = 1")];
    let server = with(Setup::with(stages), spec());
    let image = synapse(&grey_png(204, 7, 5));
    assert_eq!(ask(&server, &image).prediction(), 0.5);
    assert_eq!(ask(&server, &image).prediction(), 0.5);
    assert_eq!(computed(&server, "axon-first"), 2.0);
}

#[test]
fn a_caller_that_asks_too_much_is_told_so_and_others_are_not() {
    let mut setup = Setup::one("axon-rate", "base_ms = 1500");
    let other = Keypair::from_seed(&[3; 32]);
    let mut callers = CallersSpec { max_concurrent: 1, ..callers() };
    callers.allow.push(other.hotkey().to_string());
    setup.axon = Some(axon(spec(), callers));
    let server = setup.start();
    let mut first = send(&server, &Call::new().with(&white()));
    let waits = "roadcrew_stage_queue_wait_seconds_count{stage=\"axon-rate\"}";
    until("the first is computed", || server.metric(waits) >= 1.0);
    assert_eq!(ask(&server, &white()).status, 429);
    let call = Call { signer: other, ..Call::new() };
    let mut second = send(&server, &call.with(&white()));
    assert_eq!(Answer::read(&mut second).prediction(), 1.0);
    assert_eq!(Answer::read(&mut first).prediction(), 1.0);
    assert_eq!(ask(&server, &white()).status, 200);
}

#[test]
fn a_server_that_ends_answers_what_it_has_and_closes() {
    let server = server("axon-drain", "base_ms = 2000");
    let mut idle = send(&server, &Call::new().with(&synapse(&grey_png(0, 2, 2))));
    assert_eq!(Answer::read(&mut idle).prediction(), 0.0);
    let mut waiting = send(&server, &Call::new().with(&white()));
    let waits = "roadcrew_stage_queue_wait_seconds_count{stage=\"axon-drain\"}";
    until("the second is computed", || server.metric(waits) >= 2.0);
    server.shutdown.request();
    until("the server drains", || server.get("/readyz").status == 503);
    idle.write_all(&Call::new().with(&white())).unwrap();
    let late = Answer::read(&mut idle);
    assert_eq!((late.prediction(), late.has("connection: close")), (0.25, true), "{}", late.head);
    let first = Answer::read(&mut waiting);
    assert_eq!((first.prediction(), first.has("connection: close")), (1.0, true));
}

#[test]
fn who_sends_without_end_is_cut_off() {
    let server = server("axon-endless", "");
    let stranger = Call { signer: Keypair::from_seed(&[9; 32]), ..Call::new() };
    let head = |call: Call| {
        let head = call.head(0);
        head.replace("Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n")
    };
    let hurried = Call { timeout: "0.5", ..Call::new() };
    let lost = "POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    let streams = [head(stranger), head(hurried), lost].map(|head| send(&server, head.as_bytes()));
    for mut stream in streams {
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let begun = clock::now();
        let chunk = [b"400\r\n", &[b' '; 1024][..], b"\r\n"].concat();
        while stream.write_all(&chunk).is_ok() {
            assert!(begun.elapsed() < PATIENCE, "still read");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// A snapshot of the metagraph in which the validator has a permit, or has not.
fn snapshot(has_permit: bool) -> String {
    let (caller, other) = (validator().hotkey(), Keypair::from_seed(&[3; 32]).hotkey());
    json!({"netuid": 72, "block": 1, "neurons": [
        {"uid": 3, "hotkey": caller.to_string(), "validator_permit": has_permit, "stake": 5e4},
        {"uid": 4, "hotkey": other.to_string(), "validator_permit": false, "stake": 9e9},
    ]})
    .to_string()
}

#[test]
fn who_may_call_is_in_the_metagraph_and_the_file_is_watched() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metagraph.json");
    let write = |text: &str| {
        let new = folder.path().join("new");
        fs_err::write(&new, text).unwrap();
        fs_err::rename(&new, &file).unwrap();
    };
    write(&snapshot(true));
    let set = |text: String| text.parse::<config::Setting>().unwrap();
    let sources = Sources {
        sets: vec![
            set("http.port=0".into()),
            set("axon.port=0".into()),
            set("axon.host=127.0.0.1".into()),
            set(format!("axon.hotkeys=[\"{}\"]", miner())),
            set(format!("axon.state_dir={:?}", folder.path())),
            set(format!("metagraph.file={file:?}")),
        ],
        ..Sources::default()
    };
    let parts = roadcrew::app::Parts::default();
    let resolved = config::resolve(&sources, &parts.names()).unwrap();
    let server = start_app(roadcrew::app::App::from_sources(sources, resolved, parts));
    let call = |signer: Keypair| {
        let call = Call { signer, ..Call::new() };
        Answer::read(&mut send(&server, &call.with(&white()))).status
    };
    assert_eq!(call(validator()), 200);
    assert_eq!(call(Keypair::from_seed(&[3; 32])), 403, "no permit, whatever its stake");
    assert_eq!(call(Keypair::from_seed(&[9; 32])), 403, "not registered");
    write("{ torn");
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(call(validator()), 200, "the last good one stays in use");
    write(&snapshot(false));
    until("the new snapshot is in use", || call(validator()) == 403);
    write(&snapshot(true).replace("72", "71"));
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(call(validator()), 403, "another subnet's is not used");
    assert_eq!(server.metric("roadcrew_metagraph_neurons"), 2.0);
}
