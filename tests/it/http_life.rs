//! The private port in bad times: clients that leave or dawdle, stages that crash, shutting down.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown as Half, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use roadcrew::actors::{Engine, Routing};
use roadcrew::cascade::{Exhausted, JobView, RoutingPolicy, StageView, Step, policy};
use roadcrew::clock;
use roadcrew::http::{self, Ended, Limits};

use super::support::{PATIENCE, Server, Setup, form, grey_png, raw, rest, until};

/// A request for a verdict on a white image, as bytes on the wire.
fn request(more: &str) -> Vec<u8> {
    let png = grey_png(255, 2, 2);
    let head = format!(
        "POST /v1/predict HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {}\r\n\r\n",
        png.len()
    );
    [head.as_bytes(), &png].concat()
}

/// Sends a request and leaves the connection open.
pub(crate) fn send(server: &Server) -> TcpStream {
    let mut stream = server.connect();
    stream.write_all(&request("Connection: close\r\n")).unwrap();
    stream
}

/// Jobs that a stage has taken out of its mailbox.
pub(crate) fn taken(server: &Server, stage: &str) -> f64 {
    server.metric(&format!("roadcrew_stage_queue_wait_seconds_count{{stage=\"{stage}\"}}"))
}

pub(crate) fn dropped(server: &Server, stage: &str) -> f64 {
    let labels = format!("stage=\"{stage}\",why=\"client_gone\"");
    server.metric(&format!("roadcrew_stage_queue_dropped_total{{{labels}}}"))
}

pub(crate) fn occupy(server: &Server, stage: &str) -> TcpStream {
    let stream = send(server);
    until("the stage is busy", || taken(server, stage) >= 1.0);
    stream
}

#[test]
fn what_is_queued_for_a_client_that_left_is_never_computed() {
    let server = Setup::one("gone", "base_ms = 2500").start();
    let first = occupy(&server, "gone");
    let queued = |jobs: f64| {
        let depth = || server.metric("roadcrew_stage_queue_depth{stage=\"gone\"}");
        until("the job is queued", || depth() >= jobs);
    };
    let leaves = send(&server);
    queued(1.0);
    drop(leaves);
    // Half-closing counts as leaving: a server cannot tell the two apart.
    let half = send(&server);
    queued(2.0);
    half.shutdown(Half::Write).unwrap();
    let stays = send(&server);
    assert!(rest(first).starts_with("HTTP/1.1 200"));
    assert!(rest(stays).starts_with("HTTP/1.1 200"));
    assert!(dropped(&server, "gone") >= 2.0);
    assert_eq!(taken(&server, "gone"), 2.0);
    assert_eq!(rest(half), "");
}

#[test]
fn slow_clients_are_cut_off() {
    let mut setup = Setup::one("slow", "");
    setup.http.read_timeout_ms = 400;
    let server = setup.start();
    let begun = clock::now();
    let mut body = server.connect();
    body.write_all(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nx").unwrap();
    let mut head = server.connect();
    head.write_all(b"POST /v1/predict HTTP/1.1\r\nHost:").unwrap();
    let silent = server.connect();
    let drip = body.try_clone().unwrap();
    let dripping = std::thread::Builder::new().name("drip".into()).spawn(move || {
        while (&drip).write_all(b"x").is_ok() && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let reply = rest(body);
    assert!(reply.starts_with("HTTP/1.1 408"), "{reply}");
    assert!(reply.contains("slow_client") && reply.contains("http.read_timeout_ms"), "{reply}");
    assert!(rest(head).starts_with("HTTP/1.1 408"));
    assert!(!rest(silent).contains("200"));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    dripping.unwrap().join().unwrap();
}

#[test]
fn a_full_gate_refuses_before_the_body_is_read() {
    let mut setup = Setup::one("full", "base_ms = 1500");
    setup.engine.max_in_flight = 1;
    let server = setup.start();
    let first = occupy(&server, "full");
    let mut second = server.connect();
    second
        .write_all(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99\r\n\r\n")
        .unwrap();
    let reply = rest(second);
    assert!(reply.starts_with("HTTP/1.1 429") && reply.contains("retry-after: "), "{reply}");
    assert!(rest(first).starts_with("HTTP/1.1 200"));
}

#[test]
fn every_request_is_answered_while_the_stage_crashes() {
    let server = Setup::one("crash", "base_ms = 1\nbatch.panic_every = 7").start();
    let png = grey_png(255, 2, 2);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let reply = server.predict("image/png", &png);
                    assert_eq!(reply.status, 200, "{}", reply.text);
                }
            });
        }
    });
    let series = "roadcrew_stage_restarts_total{stage=\"crash\",cause=\"panic\"}";
    assert!(server.metric(series) >= 1.0);
    assert_eq!(server.get("/v1/stages").json()["stages"][0]["last_fall"]["cause"], "panic");
}

#[test]
fn draining_finishes_what_is_in_flight_and_refuses_the_rest() {
    let server = Setup::one("drain", "base_ms = 2000").start();
    let first = occupy(&server, "drain");
    server.shutdown.request();
    until("not ready", || server.get("/readyz").status == 503);
    assert_eq!(server.get("/readyz").json()["draining"], true);
    assert_eq!(server.get("/healthz").status, 200);
    let refused = raw(server.connect(), &request(""));
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("draining"), "{refused}");
    assert!(refused.contains("connection: close") && refused.contains("retry-after: "));
    assert!(rest(first).starts_with("HTTP/1.1 200"));
    assert_eq!(server.ended(), Ended::Drained);
}

#[test]
fn an_idle_connection_does_not_hold_up_the_end() {
    let server = Setup::one("idle", "").start();
    let mut idle = server.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    until("one request was answered", || {
        let mut one = [0];
        idle.peek(&mut one).unwrap() == 1
    });
    let begun = clock::now();
    server.shutdown.request();
    assert_eq!(server.ended(), Ended::Drained);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn what_is_left_after_drain_s_is_refused() {
    let mut setup = Setup::one("left", "base_ms = 8000");
    setup.http.drain_s = 1;
    let server = setup.start();
    let first = occupy(&server, "left");
    server.shutdown.request();
    let reply = rest(first);
    assert!(reply.starts_with("HTTP/1.1 503") && reply.contains("draining"), "{reply}");
    assert_eq!(server.ended(), Ended::Drained);
}

#[test]
fn the_second_request_to_end_cuts_off() {
    let server = Setup::one("force", "base_ms = 8000").start();
    let begun = clock::now();
    let first = occupy(&server, "force");
    server.shutdown.request();
    server.shutdown.request();
    // Either the connection is cut, or the engine, stopped right after, gets its refusal out first.
    let reply = rest(first);
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 503"), "{reply}");
    assert_eq!(server.ended(), Ended::Forced);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

/// A policy that takes the supervisor with it when it sees a clip.
struct Fatal(Box<dyn RoutingPolicy>);

impl RoutingPolicy for Fatal {
    fn next(&self, job: &JobView<'_>, stages: &[StageView]) -> Step {
        assert!(job.kind == roadcrew::cascade::InputKind::Image, "a policy with a bug");
        self.0.next(job, stages)
    }
}

#[test]
fn a_dead_supervisor_ends_the_server() {
    let mut setup = Setup::one("dead", "base_ms = 300");
    let rules = vec![setup.stages[0].rule.clone()];
    let inner = policy("cascade", rules, Exhausted::Last).unwrap();
    setup.policy = Some(Box::new(Fatal(inner)));
    let server = setup.start();
    assert_eq!(server.predict("image/png", &grey_png(255, 2, 2)).status, 200);
    let (form_type, clip) = form(&[("frame", &grey_png(255, 2, 2))]);
    let reply = server.predict(&form_type, &clip);
    assert_eq!(reply.problem(), (500, "internal".into()));
    assert_eq!(server.ended(), Ended::SupervisorDied);
}

/// The program itself: what is in flight is answered, and the exit code asks for a restart.
#[test]
fn a_server_that_must_be_started_again_answers_first_and_exits_with_75() {
    let set = [
        "http.port=0",
        "engine.max_hung=1",
        "cascade.order=[\"only\"]",
        "stages.only.backend=scripted",
        "stages.only.hang_ms=200",
        "stages.only.scripted.batch.hang_every=1",
        "stages.only.batching.max_batch=1",
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadcrew"));
    command.arg("serve").args(set.iter().flat_map(|pair| ["--set", pair]));
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| Some(line.split("http://").nth(1)?.trim().to_owned()));
    let address = address.expect("the address is announced");
    let drain = std::thread::Builder::new().name("stderr".into());
    let rest_of_log = drain.spawn(move || lines.for_each(drop)).unwrap();
    let wait = "Connection: close\r\nx-deadline-ms: 3000\r\n";
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&request(wait)).unwrap();
            stream
        })
        .collect();
    for client in clients {
        let reply = rest(client);
        assert!(reply.starts_with("HTTP/1.1 50"), "answered, though without a verdict: {reply:?}");
    }
    assert_eq!(child.wait().unwrap().code(), Some(75));
    rest_of_log.join().unwrap();
}

#[test]
fn a_taken_port_is_said_with_what_to_do() {
    let server = Setup::one("taken", "").start();
    let mut setup = Setup::with(Vec::new());
    setup.http.port = server.address.port();
    let error = actix::System::new().block_on(async {
        let exhausted = Exhausted::Last;
        let policy = policy("cascade", Vec::new(), exhausted).unwrap();
        let engine = Engine::start(&setup.engine, Routing { policy, exhausted }, Vec::new());
        http::bind(&setup.http, engine, Limits::default(), None).err().unwrap().to_string()
    });
    assert!(error.contains("--set http.port"), "{error}");
}
