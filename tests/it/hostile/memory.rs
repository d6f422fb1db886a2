//! What hostile clients cost in memory: the program itself, in a process of its own, whose memory
//! the kernel counts.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::files::{overfull_png, profile_png, tables_webp};
use super::{beside_a_client, connect, predict, reset, status};
use crate::support::{agent, grey_png, rest, until};

/// Two scripted stages, and no line per request.
const SETTINGS: [&str; 5] = [
    "http.port=0",
    "http.workers=2",
    "log.filter=\"warn\"",
    "stages.screen.backend=scripted",
    "stages.confirm.backend=scripted",
];

/// `roadcrew serve`. Killed when dropped.
struct Program {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Program {
    fn start(settings: &[&str]) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_roadcrew")), settings)
    }

    /// With a limit of open files.
    fn start_with_files(files: u64, settings: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -n {files} && exec \"$@\"");
        shell.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_roadcrew")]);
        Self::run(shell, settings)
    }

    fn run(mut command: Command, settings: &[&str]) -> Self {
        command.arg("serve").stderr(Stdio::piped()).env_remove("MINER_PORT");
        for setting in SETTINGS.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().unwrap();
        let keep = log.clone();
        let reader = std::thread::Builder::new().name("log".into());
        reader.spawn(move || read_log(stderr, &keep)).unwrap();
        until("the program listens", || address(&log.lock()).is_some());
        let address = address(&log.lock()).unwrap();
        let program = Self { child, address, log };
        until("the stages are ready", || {
            let ready = agent().get(format!("http://{address}/readyz")).call();
            ready.is_ok_and(|reply| reply.status() == 200)
        });
        // What the first requests allocate once does not count.
        for _ in 0..20 {
            assert_eq!(predict(address, &grey_png(255, 2, 2)).status, 200);
        }
        program
    }

    /// A line of the process's status, in bytes: `VmRSS` is its memory, `VmHWM` the most it was.
    fn memory(&self, line: &str) -> u64 {
        let status = fs_err::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
        let kib = found.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() * 1024
    }

    fn open_files(&self) -> usize {
        fs_err::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_log(stderr: ChildStderr, log: &Mutex<String>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let mut log = log.lock();
        log.push_str(&line);
        log.push('\n');
    }
}

fn address(log: &str) -> Option<SocketAddr> {
    let (_, after) = log.split_once("listening on http://")?;
    after.lines().next()?.parse().ok()
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_disturb_nobody() {
    let limit = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
    // Fewer where a process may not open so many files: the other tests need some too.
    let most = limit.map_or(usize::MAX, |limit| limit.saturating_sub(1_000) as usize);
    let count = most.min(10_000);
    let patient = ["http.read_timeout_ms=80000", "http.keep_alive_s=80"];
    let program = Program::start(&patient);
    let (memory, files) = (program.memory("VmRSS"), program.open_files());
    beside_a_client(program.address, || {
        let mut idle = Vec::with_capacity(count);
        for n in 0..count {
            let mut stream = connect(program.address);
            // Every second one has asked before, and is kept alive.
            if n % 2 == 0 {
                stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                assert_ne!(stream.read(&mut [0; 1024]).unwrap(), 0);
            }
            idle.push(stream);
        }
        until("all are accepted", || program.open_files() >= files + count);
        let each = program.memory("VmRSS").saturating_sub(memory) / count as u64;
        println!("{count} idle connections: {each} bytes each");
        assert!(each < 48 << 10, "{each} bytes per idle connection");
        assert_eq!(predict(program.address, &grey_png(0, 2, 2)).status, 200);
        idle.into_iter().for_each(reset);
        until("all are closed", || program.open_files() < files + 100);
    });
}

#[test]
fn too_few_open_files_are_said_with_what_to_do() {
    let settings = ["http.read_timeout_ms=1000", "http.keep_alive_s=1"];
    let program = Program::start_with_files(356, &settings);
    until("it is said", || program.log.lock().contains("ulimit -n"));
    assert!(program.log.lock().contains("http.max_connections"));
    // More than there are files for: they wait, and are served or cut off in their turn.
    beside_a_client(program.address, || {
        let silent: Vec<TcpStream> = (0..400).map(|_| connect(program.address)).collect();
        until("the last is served", || predict(program.address, &grey_png(0, 2, 2)).status == 200);
        drop(silent);
    });
}

#[test]
fn many_large_bodies_at_once_stay_within_the_budget() {
    const BODY: usize = 8 << 20;
    const CLIENTS: usize = 24;
    let budget = ["http.max_body_bytes=8388608", "http.body_budget_bytes=37748736"];
    let program = Program::start(&[&budget[..], &["http.read_timeout_ms=40000"]].concat());
    let before = program.memory("VmHWM");
    let head = format!("POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY}\r\n\r\n");
    let refused = Mutex::new(0);
    beside_a_client(program.address, || {
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut stream = connect(program.address);
                    // All but the last byte; whoever is refused may be cut off while sending.
                    let _ = stream.write_all(head.as_bytes());
                    let _ = stream.write_all(&vec![0; BODY - 1]);
                    let is_held = || {
                        stream.set_nonblocking(true).unwrap();
                        let nothing_said = stream.peek(&mut [0; 1]);
                        stream.set_nonblocking(false).unwrap();
                        nothing_said.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
                    };
                    until("it is refused, or all others are", || {
                        !is_held() || *refused.lock() == CLIENTS - 4
                    });
                    if is_held() {
                        stream.write_all(b"\0").unwrap();
                        stream.shutdown(std::net::Shutdown::Write).unwrap();
                        return;
                    }
                    *refused.lock() += 1;
                    // The reply may be lost to the reset that answers what is sent too late.
                    let reply = rest(stream);
                    assert!(matches!(status(&reply), None | Some(429)), "{reply:.300}");
                });
            }
        });
    });
    assert_eq!(*refused.lock(), CLIENTS - 4);
    let grown = mib(program.memory("VmHWM") - before);
    println!("{CLIENTS} bodies of {} MiB: {grown} MiB", BODY >> 20);
    assert!(grown < 36 + 40, "{grown} MiB");
}

#[test]
fn heads_without_end_are_not_kept() {
    let program = Program::start(&[]);
    let before = program.memory("VmHWM");
    beside_a_client(program.address, || {
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    let mut stream = connect(program.address);
                    let line = [b'x'; 64 << 10];
                    let _ = stream.write_all(b"GET / HTTP/1.1\r\nx-long: ");
                    // 4 MiB, unless the server closes before.
                    let _ = (0..64).try_for_each(|_| stream.write_all(&line));
                    let refused = status(&rest(stream)).is_none_or(|s| (400..500).contains(&s));
                    assert!(refused);
                });
            }
        });
    });
    let grown = mib(program.memory("VmHWM") - before);
    println!("100 heads without end: {grown} MiB");
    assert!(grown < 60, "{grown} MiB");
}

#[test]
fn bombs_at_once_stay_within_what_a_picture_of_their_size_takes() {
    let program = Program::start(&[]);
    let before = program.memory("VmHWM");
    let bombs = [overfull_png(), profile_png()];
    beside_a_client(program.address, || {
        std::thread::scope(|scope| {
            for bomb in bombs.iter().cycle().take(16) {
                scope.spawn(|| {
                    let reply = predict(program.address, bomb);
                    assert!(matches!(reply.status, 200 | 400), "{}", reply.text);
                });
            }
        });
    });
    let grown = mib(program.memory("VmHWM") - before);
    println!("bombs: {grown} MiB");
    // A profile may be 4 MiB, and there is one decoder for each core.
    assert!(grown < 100, "{grown} MiB");
}

#[test]
fn pictures_with_far_more_tables_than_pixels_are_decoded_one_at_a_time() {
    let program = Program::start(&[]);
    let bomb = tables_webp(8_000);
    let before = program.memory("VmHWM");
    assert_eq!(predict(program.address, &bomb).problem().0, 400);
    let one = mib(program.memory("VmHWM") - before);
    beside_a_client(program.address, || {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!(predict(program.address, &bomb).problem().0, 400));
            }
        });
    });
    let grown = mib(program.memory("VmHWM") - before);
    println!("tables from {} bytes: {one} MiB alone, {grown} MiB for 8", bomb.len());
    assert!(grown < one + one / 2 + 16, "{one} MiB alone, {grown} MiB for 8");
}

#[test]
fn large_pictures_in_small_files_count_towards_the_budget() {
    // 12 MB of pixels each, of which two fit; the decoder holds up to four times as much.
    let settings = ["image.max_pixels=4000000", "http.body_budget_bytes=30000000"];
    let program = Program::start(&[&settings[..], &["http.max_body_bytes=28000000"]].concat());
    let before = program.memory("VmHWM");
    let mut file = std::io::Cursor::new(Vec::new());
    let picture = image::ImageBuffer::<image::Rgba<u16>, _>::new(2_000, 2_000);
    picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
    let file = file.into_inner();
    beside_a_client(program.address, || {
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let reply = predict(program.address, &file);
                    assert!(matches!(reply.status, 200 | 429), "{}", reply.text);
                });
            }
        });
    });
    let grown = mib(program.memory("VmHWM") - before);
    println!("16 pictures of 12 MB in {} bytes: {grown} MiB", file.len());
    assert!(grown < 2 * 48 + 40, "{grown} MiB");
}
