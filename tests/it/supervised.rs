//! `serve --supervised` and sockets passed on as systemd does it: the real program, killed.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::support::{PATIENCE, Reply, agent, grey_png, raw, reply, until};

const HOTKEY: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

/// One stage that answers after so long.
fn settings(base_ms: u64) -> Vec<String> {
    let base = format!("stages.only.scripted.base_ms={base_ms}");
    ["http.port=0", "http.workers=2", "cascade.order=[\"only\"]", "stages.only.backend=scripted"]
        .into_iter()
        .chain(["stages.only.scripted.answer=0.9", &base])
        .map(str::to_owned)
        .collect()
}

/// The program, ended when dropped.
struct Program {
    parent: Child,
    /// The first server.
    child: Option<Pid>,
    address: String,
    lines: mpsc::Receiver<String>,
}

impl Program {
    /// Starts a parent and waits until its first child answers.
    fn start(settings: &[String]) -> Self {
        let mut program = Self::spawn(&mut command(settings));
        program.announced();
        program.child = Some(program.ready());
        program
    }

    fn spawn(command: &mut Command) -> Self {
        let mut parent = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(parent.stderr.take().unwrap());
        let (sender, lines) = mpsc::sync_channel(100_000);
        let build = std::thread::Builder::new().name("stderr".into());
        let forward = move || {
            let _ = stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line));
        };
        build.spawn(forward).unwrap();
        Self { parent, child: None, address: String::new(), lines }
    }

    /// Waits for the line that names the address.
    fn announced(&mut self) {
        let line = self.line("listening on http://");
        self.address = line.split("http://").nth(1).unwrap().trim().to_owned();
    }

    /// Waits for a line that contains this.
    fn line(&self, part: &str) -> String {
        let mut before = String::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no {part:?} in:\n{before}"));
            if line.contains(part) {
                return line;
            }
            before = before + &line + "\n";
        }
    }

    /// Waits for a server that can answer, and gives its number.
    fn ready(&self) -> Pid {
        let line = self.line("the server is ready");
        let number = line.split("pid=").nth(1).unwrap().split_whitespace().next().unwrap();
        Pid::from_raw(number.parse().unwrap()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.parent), signal).unwrap();
    }

    fn get(&self, path: &str) -> Reply {
        reply(agent().get(format!("http://{}{path}", self.address)).call())
    }

    /// The exit code.
    fn ended(mut self) -> Option<i32> {
        until("the parent ends", || self.parent.try_wait().unwrap().is_some());
        self.parent.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The child notices.
        let _ = self.parent.kill();
        let _ = self.parent.wait();
    }
}

/// What becomes of one prediction over a connection of its own.
fn predict(address: &str) -> Result<u16, ureq::Error> {
    let request = agent().post(format!("http://{address}/v1/predict"));
    let sent = request.header("content-type", "image/png").send(&grey_png(255, 2, 2)[..]);
    sent.map(|reply| reply.status().as_u16())
}

fn command(settings: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadcrew"));
    command.args(["serve", "--supervised"]);
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    command
}

#[test]
fn a_killed_server_costs_what_it_was_answering_and_nobody_is_refused() {
    const CLIENTS: usize = 3;
    let program = Program::start(&settings(20));
    let mut child = program.child.unwrap();
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let address = program.address.as_str();
    let cut = std::thread::scope(|scope| {
        let trickle = || {
            let mut cut = Vec::new();
            while !over.load(Ordering::Acquire) {
                match predict(address) {
                    Ok(status) => assert_eq!(status, 200),
                    Err(error) => cut.push(error.to_string()),
                }
                answered.fetch_add(1, Ordering::AcqRel);
                std::thread::sleep(Duration::from_millis(10));
            }
            cut
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(trickle)).collect();
        for _ in 0..3 {
            let before = answered.load(Ordering::Acquire);
            until("requests are answered", || answered.load(Ordering::Acquire) > before + 10);
            kill_process(child, Signal::KILL).unwrap();
            program.line("the server died; it is started again");
            child = program.ready();
        }
        let before = answered.load(Ordering::Acquire);
        until("requests are answered", || answered.load(Ordering::Acquire) > before + 10);
        over.store(true, Ordering::Release);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(cut.len() <= 3 * CLIENTS, "more than was in flight: {cut:?}");
    assert!(cut.iter().all(|error| !error.contains("refused")), "{cut:?}");
    assert!(program.get("/metrics").text.contains("roadcrew_process_restarts 3"));
    program.signal(Signal::TERM);
    assert_eq!(program.ended(), Some(0));
}

#[test]
fn connections_wait_while_there_is_no_server() {
    let program = Program::start(&settings(0));
    // Stopped, the child accepts nobody; killed, it never will.
    let child = program.child.unwrap();
    kill_process(child, Signal::STOP).unwrap();
    until("every thread of it has stopped", || threads(child).iter().all(|state| *state == 'T'));
    let waiting: Vec<_> =
        (0..20).map(|_| std::net::TcpStream::connect(&program.address).unwrap()).collect();
    kill_process(child, Signal::KILL).unwrap();
    program.ready();
    for stream in waiting {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let text = raw(stream, head);
        assert!(text.starts_with("HTTP/1.1 200"), "{text:?}");
    }
}

#[test]
fn sigterm_to_both_answers_what_is_in_flight_and_exits_with_0() {
    let program = Program::start(&settings(1_000));
    let child = program.child.unwrap();
    let address = program.address.as_str();
    std::thread::scope(|scope| {
        let request = scope.spawn(|| predict(address));
        until("it is in flight", || {
            program.get("/metrics").text.contains("roadcrew_jobs_in_flight 1")
        });
        // As service managers do.
        kill_process(child, Signal::TERM).unwrap();
        program.signal(Signal::TERM);
        assert_eq!(request.join().unwrap().unwrap(), 200);
    });
    assert_eq!(program.ended(), Some(0));
    assert!(!is_running(child));
}

#[test]
fn a_second_signal_kills_the_server() {
    let program = Program::start(&settings(30_000));
    let address = program.address.as_str();
    std::thread::scope(|scope| {
        let request = scope.spawn(|| predict(address));
        until("it is in flight", || {
            program.get("/metrics").text.contains("roadcrew_jobs_in_flight 1")
        });
        program.signal(Signal::INT);
        program.line("asked to end;");
        program.signal(Signal::INT);
        assert!(request.join().unwrap().is_err());
    });
    assert_eq!(program.ended(), Some(1));
}

#[test]
fn sighup_reaches_the_server() {
    let program = Program::start(&settings(0));
    program.signal(Signal::HUP);
    let unchanged = "roadcrew_reloads_total{outcome=\"unchanged\"} 1";
    until("it has read its settings", || program.get("/metrics").text.contains(unchanged));
}

#[test]
fn a_killed_parent_takes_the_server_along() {
    let program = Program::start(&settings(0));
    let child = program.child.unwrap();
    let address: SocketAddr = program.address.parse().unwrap();
    drop(program);
    until("nobody listens", || std::net::TcpStream::connect(address).is_err());
    until("the child is gone", || !is_running(child));
}

/// Whether a process still runs; one that nobody waits for leaves a zombie behind.
fn is_running(pid: Pid) -> bool {
    let status = fs_err::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let state = status.ok().and_then(|text| Some(text.rsplit(')').next()?.trim().to_owned()));
    state.is_some_and(|state| !state.starts_with('Z'))
}

/// What each thread of a process does, as the kernel names it.
fn threads(pid: Pid) -> Vec<char> {
    let tasks = fs_err::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap();
    let state = |task: std::io::Result<fs_err::DirEntry>| {
        let text = fs_err::read_to_string(task.ok()?.path().join("stat")).ok()?;
        text.rsplit(')').next()?.trim().chars().next()
    };
    tasks.filter_map(state).collect()
}

#[test]
fn a_crash_loop_ends_with_the_servers_code() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(0);
    settings.push(format!("axon.hotkeys=[\"{HOTKEY}\"]"));
    settings.push("axon.port=0".into());
    settings.push(format!("axon.state_dir={:?}", folder.path().display().to_string()));
    // Has what every child of the other needs, and no parent looks at.
    let _first = Program::start(&settings);
    let program = Program::spawn(&mut command(&settings));
    for _ in 0..8 {
        program.line("the server died; it is started again");
    }
    program.line("given up");
    assert_eq!(program.ended(), Some(1));
}

#[test]
fn wrong_settings_end_it_at_once() {
    let told = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roadcrew"));
        let output = command.arg("serve").args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let wrong = ["--set", "http.prot=1"];
    let (code, text) = told(&wrong);
    assert_eq!(code, Some(78), "{text}");
    assert_eq!(told(&[&["--supervised"], &wrong[..]].concat()), (code, text));
}

#[test]
fn settings_that_go_wrong_later_are_not_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    fs_err::write(&file, "").unwrap();
    let mut command = command(&settings(0));
    let mut program = Program::spawn(command.arg("--config").arg(&file));
    program.announced();
    let child = program.ready();
    fs_err::write(&file, "http.prot = 1").unwrap();
    kill_process(child, Signal::KILL).unwrap();
    program.line("http.prot");
    program.line("given up");
    assert_eq!(program.ended(), Some(78));
}

/// `serve` with these sockets under the numbers that systemd uses.
fn activated(sockets: &[TcpListener], names: &str, settings: &[String]) -> Command {
    let stdio = |at: usize| match sockets.get(at) {
        Some(socket) => Stdio::from(OwnedFd::from(socket.try_clone().unwrap())),
        None => Stdio::null(),
    };
    let script = "export LISTEN_PID=$$; exec \"$@\" 3<&0 4<&1 0</dev/null 1>&2";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_roadcrew"), "serve"]);
    shell.args(settings.iter().flat_map(|setting| ["--set", setting]));
    shell.stdin(stdio(0)).stdout(stdio(1));
    shell.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names);
    shell
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[test]
fn sockets_that_are_passed_on_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(0);
    settings.push(format!("axon.hotkeys=[\"{HOTKEY}\"]"));
    settings.push(format!("axon.state_dir={:?}", folder.path().display().to_string()));
    let sockets = [listener(), listener()];
    let [axon, http] = [0, 1].map(|at: usize| sockets[at].local_addr().unwrap().to_string());
    let mut program = Program::spawn(&mut activated(&sockets, "axon:http", &settings));
    program.announced();
    assert_eq!(program.address, http);
    program.line(&format!("axon on http://{axon}"));
    assert_eq!(program.get("/healthz").status, 200);
    program.address = axon;
    assert_eq!(program.get("/").status, 200);
    program.signal(Signal::TERM);
    assert_eq!(program.ended(), Some(0));
}

#[test]
fn sockets_that_do_not_fit_are_refused() {
    let refused = |sockets: &[TcpListener], names, part: &str| {
        let program = Program::spawn(&mut activated(sockets, names, &settings(0)));
        program.line(part);
        assert_eq!(program.ended(), Some(78), "{names}");
    };
    refused(&[listener()], "roadcrew.socket", "a socket named \"roadcrew.socket\" was passed on");
    refused(&[listener()], "http:axon", "with 2 names");
    refused(&[listener()], "axon", "there is no hotkey to answer for");
    let connection = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(connection.local_addr().unwrap()).unwrap();
    refused(&[TcpListener::from(OwnedFd::from(stream))], "http", "it does not listen");
}
