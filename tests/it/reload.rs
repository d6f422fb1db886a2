//! Settings that change while serving: what they change, what is refused, and that no request is
//! lost by it.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use roadcrew::app::{App, Parts};
use roadcrew::config::{Sources, resolve};
use serde_json::{Value, json};

use super::support::{PATIENCE, Reply, Server, agent, grey_png, reply, start_app, until};

/// Two stages: the first is never sure unless told otherwise, the second always.
fn settings(name: &str, second: &str) -> String {
    format!(
        "http.port = 0\n\
         http.workers = 2\n\
         cascade.order = [\"{name}-a\", \"{name}-b\"]\n\
         [stages.{name}-a]\n\
         backend = \"scripted\"\n\
         scripted.answer = 0.5\n\
         [stages.{name}-b]\n\
         backend = \"scripted\"\n\
         exit_below = 0.5\n\
         exit_above = 0.5\n\
         scripted.answer = 0.9\n\
         {second}\n"
    )
}

/// A folder with the settings of one server: one file that stays, and one over it that changes.
struct Room(tempfile::TempDir);

impl Room {
    fn new(text: String) -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        fs_err::write(room.path("stays.toml"), text).unwrap();
        room.write("");
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![self.path("stays.toml"), self.path("changes.toml")]
    }

    /// Changes the file that changes.
    fn write(&self, text: &str) {
        // Renamed into place, so that nobody reads half of it.
        fs_err::write(self.path("new.toml"), text).unwrap();
        fs_err::rename(self.path("new.toml"), self.path("changes.toml")).unwrap();
    }

    fn start(&self) -> Server {
        let sources = Sources { files: self.files(), ..Sources::default() };
        let parts = Parts::default();
        let resolved = resolve(&sources, &parts.names()).unwrap();
        start_app(App::from_sources(sources, resolved, parts))
    }
}

fn reload(server: &Server, body: &Value) -> Reply {
    server.predict_at("/v1/reload", "application/json", body.to_string().as_bytes())
}

fn set(server: &Server, values: Value) -> Reply {
    reload(server, &json!({ "set": values }))
}

/// Reads the file again.
fn read_again(server: &Server) -> Reply {
    server.predict_at("/v1/reload", "text/plain", b"")
}

fn predict(server: &Server) -> Reply {
    server.predict("image/png", &grey_png(255, 2, 2))
}

/// The stage that answers now.
fn answering(server: &Server) -> String {
    let reply = predict(server);
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["stage"].as_str().unwrap().to_owned()
}

#[test]
fn thresholds_count_from_the_next_request_and_nothing_in_flight_is_lost() {
    let slow = "scripted.base_ms = 1500\nbatching.max_batch = 1";
    let room = Room::new(settings("next", slow));
    let server = room.start();
    std::thread::scope(|scope| {
        let escalated: Vec<_> = (0..3).map(|_| scope.spawn(|| predict(&server))).collect();
        let queued = || server.metric("roadcrew_stage_queue_depth{stage=\"next-b\"}") >= 2.0;
        until("one job is aboard and two are queued", queued);
        let reply = set(&server, json!({ "stages.next-a.exit_above": 0.4 }));
        assert_eq!(reply.status, 200, "{}", reply.text);
        let change = json!({ "key": "stages.next-a.exit_above", "from": 0.85, "to": 0.4 });
        assert_eq!(reply.json(), json!({ "changes": [change] }));
        assert_eq!(answering(&server), "next-a");
        assert!(escalated.iter().any(|job| !job.is_finished()), "some are still in flight");
        for job in escalated {
            let reply = job.join().unwrap();
            assert_eq!((reply.status, &reply.json()["stage"]), (200, &json!("next-b")));
        }
    });
    assert!(server.metric("roadcrew_reloads_total{outcome=\"applied\"}") >= 1.0);
}

#[test]
fn what_was_set_stays_above_the_file_until_it_is_taken_back() {
    let room = Room::new(settings("stay", ""));
    let server = room.start();
    let changes = |reply: Reply| {
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["changes"].as_array().unwrap().clone()
    };
    assert_eq!(changes(read_again(&server)), [Value::Null; 0]);
    for nothing in [json!({}), json!({ "set": {} }), Value::Null] {
        assert_eq!(changes(reload(&server, &nothing)), [Value::Null; 0]);
    }
    assert_eq!(answering(&server), "stay-b");
    room.write("stages.stay-a.exit_above = 0.4");
    let told = changes(read_again(&server));
    assert_eq!(told, [json!({ "key": "stages.stay-a.exit_above", "from": 0.85, "to": 0.4 })]);
    assert_eq!(answering(&server), "stay-a");
    assert_eq!(changes(set(&server, json!({ "stages.stay-a.exit_above": 0.9 }))).len(), 1);
    assert_eq!(changes(read_again(&server)), [Value::Null; 0]);
    assert_eq!(answering(&server), "stay-b");
    assert_eq!(changes(set(&server, json!({ "stages.stay-a.exit_above": null }))).len(), 1);
    assert_eq!(answering(&server), "stay-a");
    let told = changes(set(&server, json!({ "stages.stay-b.when": { "input": "clip" } })));
    let change = json!({ "key": "stages.stay-b.when.input", "from": null, "to": "clip" });
    assert_eq!(told, [change]);
}

/// Settings that go on and off in turn.
fn turns(turn: usize) -> Value {
    let pick = |choice: &[Value]| choice[turn % choice.len()].clone();
    json!({
        "stages.load-a.exit_above": pick(&[json!(0.4), json!(0.9)]),
        "stages.load-a.batching.max_batch": pick(&[json!(1), json!(3), json!(8)]),
        "stages.load-b.batching.rule": pick(&["immediate".into(), "window".into(), "adaptive".into()]),
        "stages.load-b.hang_ms": pick(&[json!(20_000), json!(30_000)]),
        "cascade.policy": pick(&["cascade".into(), "cascade".into(), "committee".into()]),
        "cascade.exhausted": pick(&["last".into(), "mean".into()]),
    })
}

/// Ends the clients, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn no_request_fails_while_settings_change_under_load() {
    let room = Room::new(settings("load", "scripted.base_ms = 3"));
    let server = room.start();
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    let reply = predict(&server);
                    assert_eq!(reply.status, 200, "{}", reply.text);
                    assert_eq!(reply.json()["degraded"], false, "{}", reply.text);
                    answered.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        let _end = End(&over);
        for turn in 0..60 {
            let reply = set(&server, turns(turn));
            assert_eq!(reply.status, 200, "{}", reply.text);
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let answered = answered.load(Ordering::Acquire);
    assert!(answered >= 60, "{answered} requests");
}

#[test]
fn what_cannot_change_is_refused_as_a_whole() {
    let room = Room::new(settings("fixed", ""));
    let server = room.start();
    let easier = ("stages.fixed-a.exit_above", json!(0.4));
    for (key, value) in [
        ("http.port", json!(1)),
        ("engine.max_in_flight", json!(1)),
        ("cascade.order", json!(["fixed-a"])),
        ("stages.fixed-a.scripted.answer", json!(0.1)),
        ("stages.fixed-a.restart.window_s", json!(1)),
        ("stages.fixed-a.batching.max_batch", json!(9)),
    ] {
        let reply = set(&server, json!({ (easier.0): easier.1, (key): value }));
        assert_eq!(reply.problem(), (409, "needs_restart".into()), "{key}: {}", reply.text);
        assert_eq!(reply.json()["keys"], json!([key]));
        assert!(reply.text.contains("start the server again"), "{}", reply.text);
        assert_eq!(read_again(&server).json(), json!({ "changes": [] }), "nothing is kept");
    }
    assert_eq!(answering(&server), "fixed-b");
    assert!(server.metric("roadcrew_reloads_total{outcome=\"refused\"}") >= 6.0);
}

#[test]
fn what_is_wrong_is_refused_as_a_whole_with_every_problem() {
    let room = Room::new(settings("wrong", ""));
    let server = room.start();
    let reply = set(
        &server,
        json!({
            "stages.wrong-a.exit_above": 0.4,
            "stages.wrong-a.exit_belwo": 0.1,
            "stages.wrong-b.batching.max_batch": 0,
            "cascade.policy": "casacde",
            "not a key": 1,
            "stages.wrong-a.hang_ms": "soon",
        }),
    );
    assert_eq!(reply.problem(), (422, "bad_configuration".into()), "{}", reply.text);
    let problems = reply.json()["problems"].as_array().unwrap().clone();
    assert_eq!(problems.len(), 5, "{problems:#?}");
    let about = |key: &str| problems.iter().find(|problem| problem["key"] == key).unwrap();
    let misspelt = about("stages.wrong-a.exit_belwo");
    assert_eq!(misspelt["hint"], "did you mean stages.wrong-a.exit_below?");
    assert_eq!(misspelt["origin"], "POST /v1/reload");
    let range = about("stages.wrong-b.batching.max_batch");
    assert_eq!((&range["value"], &range["message"]), (&json!("0"), &json!("must be 1 to 1024")));
    about("cascade.policy");
    about("stages.wrong-a.hang_ms");
    room.write("stages.wrong-a.exit_above = = 1");
    let reply = read_again(&server);
    assert_eq!(reply.problem(), (422, "bad_configuration".into()));
    assert!(reply.text.contains("changes.toml:1:"), "{}", reply.text);
    room.write("");
    assert_eq!(read_again(&server).json(), json!({ "changes": [] }), "nothing is kept");
    assert_eq!(answering(&server), "wrong-b");
}

#[test]
fn a_body_that_is_no_document_of_settings_is_refused() {
    let room = Room::new(settings("body", ""));
    let server = room.start();
    let set = br#"{"set": {"stages.body-a.exit_above": 0.4}}"#;
    let long = json!({ "set": { "x": "y".repeat(20_000) } }).to_string();
    let cases: [(&str, &[u8], u16, &str); 5] = [
        ("application/json", b"{", 400, "bad_body"),
        ("application/json", br#"{"sett": {}}"#, 400, "bad_body"),
        ("application/json", br#"{"set": 1}"#, 400, "bad_body"),
        ("text/plain", set, 415, "unsupported_media_type"),
        ("application/json", long.as_bytes(), 413, "too_large"),
    ];
    for (kind, body, status, code) in cases {
        let reply = server.predict_at("/v1/reload", kind, body);
        assert_eq!(reply.problem(), (status, code.to_owned()), "{}", reply.text);
    }
    assert_eq!(server.get("/v1/reload").problem(), (405, "method_not_allowed".into()));
    assert_eq!(answering(&server), "body-b");
}

#[test]
fn an_app_without_sources_says_that_it_cannot() {
    let sources = Sources { program: settings("bare", ""), ..Sources::default() };
    let parts = Parts::default();
    let config = resolve(&sources, &parts.names()).unwrap().config;
    let server = start_app(App::new(config, parts));
    let reply = set(&server, json!({ "stages.bare-a.exit_above": 0.4 }));
    assert_eq!(reply.problem(), (501, "no_reload".into()), "{}", reply.text);
    assert_eq!(answering(&server), "bare-b");
}

/// The real program, killed when dropped.
struct Program {
    child: Child,
    address: String,
    lines: mpsc::Receiver<String>,
}

impl Program {
    fn start(room: &Room) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roadcrew"));
        command.arg("serve");
        for file in room.files() {
            command.arg("--config").arg(file);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::sync_channel(100_000);
        let build = std::thread::Builder::new().name("stderr".into());
        let forward = move || {
            // Ends with the program, or with the test.
            let _ = stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line));
        };
        build.spawn(forward).unwrap();
        let mut program = Self { child, address: String::new(), lines };
        let line = program.line("listening on http://");
        program.address = line.split("http://").nth(1).unwrap().trim().to_owned();
        program
    }

    /// Waits for a line that contains this.
    fn line(&self, part: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {part:?}"));
            if line.contains(part) {
                return line;
            }
        }
    }

    fn hang_up(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    }

    fn answering(&self) -> String {
        let url = format!("http://{}/v1/predict", self.address);
        let png = grey_png(255, 2, 2);
        let reply = reply(agent().post(url).header("content-type", "image/png").send(&png[..]));
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["stage"].as_str().unwrap().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sighup_reads_the_file_again_and_a_broken_file_changes_nothing() {
    let room = Room::new(settings("hup", ""));
    let program = Program::start(&room);
    let ready = format!("http://{}/readyz", program.address);
    until("it is ready", || reply(agent().get(&ready).call()).status == 200);
    assert_eq!(program.answering(), "hup-b");
    room.write("stages.hup-a.exit_above = 0.4");
    program.hang_up();
    until("the new threshold counts", || program.answering() == "hup-a");
    let line = program.line("reloaded");
    assert!(line.contains("stages.hup-a.exit_above from 0.85 to 0.4"), "{line}");
    room.write("stages.hup-a.exit_above = 7\nhttp.prot = 1");
    program.hang_up();
    let line = program.line("not reloaded");
    assert!(line.contains("WARN") && line.contains("did you mean http.port?"), "{line}");
    assert!(line.contains("0 to 1"), "{line}");
    assert_eq!(program.answering(), "hup-a");
    room.write("http.workers = 7");
    program.hang_up();
    let line = program.line("not reloaded");
    assert!(line.contains("http.workers"), "{line}");
    assert_eq!(program.answering(), "hup-a");
    room.write("");
    program.hang_up();
    until("the old threshold counts again", || program.answering() == "hup-b");
}
