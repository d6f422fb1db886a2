//! What the public port costs besides the model: requests/s, latency, and the server's CPU time for
//! each request, read from `/proc`.
//!
//! `cargo bench --bench axon_load -- [--requests 20000] [--connections 16] [--set K=V]...`
//!
//! Raw sockets with keep-alive, requests signed in advance, the real binary (or that which the
//! environment variable ROADCREW names) with a stage that answers without looking. The rows build on each other: HTTP alone, then a signature that is refused, then a
//! whole call with a picture of one pixel, then with a JPEG of 98.9 kB, whose decoding the private
//! port's row shows alone. Linux only.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::ExtendedColorType::Rgb8;
use image::codecs::{jpeg::JpegEncoder, png::PngEncoder};
use image::{ImageEncoder as _, Rgb, RgbImage};
use roadcrew::bittensor::{Hotkey, Keypair};

const EMPTY_HASH: &str = "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a";
const JPEG_BYTES: usize = 98_900;
/// Seconds of requests that are signed at a time; they are stale 13 s later.
const BATCH_S: f64 = 3.0;
const WARM_UP: usize = 200;
/// The nonces of one caller are limited, so the calls are spread over several.
const CALLERS: u8 = 16;
/// Clock ticks per second in `/proc`, which is 100 on every Linux of today.
const TICKS: f64 = 100.0;

struct Args {
    requests: usize,
    connections: usize,
    set: Vec<String>,
}

fn args() -> Args {
    let mut args = Args { requests: 20_000, connections: 16, set: vec![] };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--requests" => args.requests = value().parse().unwrap(),
            "--connections" => args.connections = value().parse().unwrap(),
            "--set" => args.set.push(value()),
            "--bench" => {}
            other => panic!("unknown argument {other}"),
        }
    }
    args
}

/// The server, killed when dropped.
struct Server {
    child: Child,
    private: String,
    axon: String,
}

impl Server {
    fn start(signer: &Signer, state: &str, set: &[String]) -> Self {
        let callers = signer.callers.iter().map(|(_, hotkey)| format!(r#""{hotkey}""#));
        let callers = callers.collect::<Vec<_>>().join(",");
        let own = signer.own;
        let ours = env!("CARGO_BIN_EXE_roadcrew");
        let mut command = Command::new(std::env::var("ROADCREW").as_deref().unwrap_or(ours));
        let fixed = [
            "http.port=0".into(),
            "axon.port=0".into(),
            "axon.host=127.0.0.1".into(),
            format!(r#"axon.hotkeys=["{own}"]"#),
            format!("callers.allow=[{callers}]"),
            "callers.max_per_minute=100000000".into(),
            format!("axon.state_dir={state}"),
            r#"cascade.order=["screen"]"#.into(),
            "stages.screen.backend=scripted".into(),
            "stages.screen.scripted.answer=0.9".into(),
        ];
        command.arg("serve");
        for pair in fixed.iter().chain(set) {
            command.args(["--set", pair]);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut address = |mark: &str| {
            let mut said = lines.by_ref().map_while(Result::ok);
            said.find_map(|line| Some(line.split_once(mark)?.1.trim().to_owned()))
                .unwrap_or_else(|| panic!("the server did not print '{mark}'"))
        };
        let private = address("listening on http://");
        let axon = address("axon on http://");
        std::thread::Builder::new()
            .name("drain-stderr".into())
            .spawn(move || lines.for_each(drop))
            .unwrap();
        let server = Self { child, private, axon };
        let give_up = Instant::now() + Duration::from_secs(60);
        while Client::new(&server.private).get("/readyz").ok() != Some(200) {
            assert!(Instant::now() < give_up, "the server is not ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// CPU seconds so far, user and system.
    fn cpu_s(&self) -> f64 {
        let stat = fs_err::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum();
        ticks / TICKS
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection, made anew when the server has ended it, as it does after a refusal.
struct Client {
    address: String,
    stream: BufReader<TcpStream>,
}

impl Client {
    fn new(address: &str) -> Self {
        Self { address: address.to_owned(), stream: Self::connect(address) }
    }

    fn connect(address: &str) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        BufReader::new(stream)
    }

    fn get(&mut self, path: &str) -> std::io::Result<u16> {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
    }

    fn send(&mut self, request: &[u8]) -> std::io::Result<u16> {
        self.stream.get_mut().write_all(request)?;
        let (mut line, mut status, mut length, mut ends) = (String::new(), 0, 0, false);
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap_or(0);
            } else if let Some(rest) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = rest.trim().parse().unwrap_or(0);
            } else if line.eq_ignore_ascii_case("connection: close\r\n") {
                ends = true;
            } else if line == "\r\n" {
                break;
            }
        }
        std::io::copy(&mut (&mut self.stream).take(length), &mut std::io::sink())?;
        if ends {
            self.stream = Self::connect(&self.address);
        }
        Ok(status)
    }
}

/// What one row sends.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Root,
    BadSignature,
    Call,
    CallOfTheSame,
    Private,
}

/// An image as base64, so long that what is put behind it starts on a whole group of digits.
struct Picture(Vec<u8>);

impl Picture {
    fn new(mut bytes: Vec<u8>) -> Self {
        bytes.resize(bytes.len().next_multiple_of(3), 0);
        Self(bytes)
    }

    fn pixel() -> Self {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes).write_image(&[200, 90, 10], 1, 1, Rgb8).unwrap();
        Self::new(bytes)
    }

    /// A frame of 1280x720 with as much grain as fills so many bytes.
    fn jpeg(length: usize) -> Self {
        let mut bytes = Vec::new();
        for quality in (20..100).rev() {
            let mut state = 1u32;
            let frame = RgbImage::from_fn(1280, 720, |x, y| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let grain = (state >> 29) as u8;
                Rgb([(x / 6) as u8, (y / 4) as u8, ((x / 40 + y / 40) % 7 * 30) as u8]
                    .map(|value: u8| value.saturating_add(grain)))
            });
            bytes.clear();
            let encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
            encoder.write_image(&frame, 1280, 720, Rgb8).unwrap();
            if bytes.len() <= length {
                break;
            }
        }
        bytes.resize(length, 0);
        Self::new(bytes)
    }
}

/// The callers and whom they call.
struct Signer {
    callers: Vec<(Keypair, Hotkey)>,
    own: Hotkey,
    next: u64,
}

impl Signer {
    fn new() -> Self {
        let callers = (0..CALLERS).map(|n| Keypair::from_seed(&[n; 32]));
        let callers = callers.map(|keys| {
            let hotkey = keys.hotkey();
            (keys, hotkey)
        });
        Self { callers: callers.collect(), own: Keypair::from_seed(&[255; 32]).hotkey(), next: 0 }
    }

    /// The head of a call whose body will be so long.
    fn head(&mut self, length: usize, kind: Kind) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        // No two alike, however coarse the clock.
        self.next = self.next.max(now.as_nanos() as u64) + 1;
        let (nonce, own) = (self.next, self.own);
        let (keys, caller) = &self.callers[nonce as usize % self.callers.len()];
        let message = format!("{nonce}.{caller}.{own}.bench.{EMPTY_HASH}");
        let mut signature = keys.sign(message.as_bytes());
        if kind == Kind::BadSignature {
            signature = keys.sign(b"something else");
        }
        let signature: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "POST /ImageSynapse HTTP/1.1\r\nhost: x\r\nname: ImageSynapse\r\ntimeout: 9.0\r\n\
             bt_header_axon_ip: 127.0.0.1\r\nbt_header_axon_port: 8091\r\n\
             bt_header_axon_hotkey: {own}\r\nbt_header_dendrite_ip: 192.0.2.10\r\n\
             bt_header_dendrite_version: 10005000\r\nbt_header_dendrite_nonce: {nonce}\r\n\
             bt_header_dendrite_uuid: bench\r\nbt_header_dendrite_hotkey: {caller}\r\n\
             bt_header_dendrite_signature: 0x{signature}\r\nheader_size: 464\r\n\
             total_size: 7530\r\ncomputed_body_hash: {EMPTY_HASH}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        )
    }
}

/// The parts of a request: its head, what is the same in every body, and what is not.
struct Round {
    heads: Vec<String>,
    common: Vec<u8>,
    kind: Kind,
}

impl Round {
    fn new(signer: &mut Signer, kind: Kind, picture: &Picture, count: usize) -> Self {
        let length = picture.0.len() + 8;
        let common = match kind {
            Kind::Root | Kind::BadSignature => vec![],
            Kind::Private => picture.0.clone(),
            Kind::Call | Kind::CallOfTheSame => {
                let text = STANDARD.encode(&picture.0);
                format!(r#"{{"name": "ImageSynapse", "timeout": 9.0, "image": "{text}"#)
                    .into_bytes()
            }
        };
        let body = common.len() + if kind == Kind::Root { 0 } else { Self::end(kind, 0).len() };
        let head = |_| match kind {
            Kind::Root => "GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
            Kind::Private => format!(
                "POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\n\
                 content-length: {length}\r\n\r\n"
            ),
            Kind::BadSignature => signer.head(0, kind),
            Kind::Call | Kind::CallOfTheSame => signer.head(body, kind),
        };
        Self { heads: (0..count).map(head).collect(), common, kind }
    }

    /// What follows the common part. The bytes behind an image's end make it another one.
    fn end(kind: Kind, number: usize) -> Vec<u8> {
        let number = if kind == Kind::CallOfTheSame { 0 } else { number };
        match kind {
            Kind::Root | Kind::BadSignature => vec![],
            Kind::Private => format!("{number:08}").into_bytes(),
            Kind::Call | Kind::CallOfTheSame => {
                let more = STANDARD.encode(format!("{number:09}"));
                format!(r#"{more}", "prediction": -1.0}}"#).into_bytes()
            }
        }
    }

    /// Sends everything over so many connections; latencies in ms and how many came back as wanted.
    fn run(&self, address: &str, connections: usize, first: usize) -> (Vec<f64>, usize) {
        let next = AtomicUsize::new(0);
        let wanted = if self.kind == Kind::BadSignature { 401 } else { 200 };
        let work = || {
            let (mut client, mut buffer) = (Client::new(address), Vec::new());
            let (mut latencies, mut fine) = (Vec::new(), 0);
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(head) = self.heads.get(index) else { return (latencies, fine) };
                buffer.clear();
                buffer.extend_from_slice(head.as_bytes());
                buffer.extend_from_slice(&self.common);
                buffer.extend(Self::end(self.kind, first + index));
                let begun = Instant::now();
                match client.send(&buffer) {
                    Ok(status) => fine += usize::from(status == wanted),
                    Err(_) => client = Client::new(address),
                }
                latencies.push(begun.elapsed().as_secs_f64() * 1e3);
            }
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).fold(
                (vec![], 0),
                |(mut all, count), (some, fine)| {
                    all.extend(some);
                    (all, count + fine)
                },
            )
        })
    }
}

fn percentile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn row(name: &str, server: &Server, signer: &mut Signer, what: (Kind, &Picture), args: &Args) {
    let (kind, picture) = what;
    let address = if kind == Kind::Private { &server.private } else { &server.axon };
    let (mut latencies, mut fine, mut took, mut cpu) = (vec![], 0, 0.0, 0.0);
    let warm_up = Round::new(signer, kind, picture, WARM_UP);
    let begun = Instant::now();
    warm_up.run(address, args.connections, 90_000_000);
    let batch = (WARM_UP as f64 / begun.elapsed().as_secs_f64() * BATCH_S) as usize + 1;
    while latencies.len() < args.requests {
        let count = batch.min(args.requests - latencies.len());
        let round = Round::new(signer, kind, picture, count);
        let (begun, before) = (Instant::now(), server.cpu_s());
        let (some, good) = round.run(address, args.connections, latencies.len());
        took += begun.elapsed().as_secs_f64();
        cpu += server.cpu_s() - before;
        latencies.extend(some);
        fine += good;
    }
    latencies.sort_by(f64::total_cmp);
    let sent = latencies.len() as f64;
    println!(
        "| {name} | {sent} | {:.0} | {:.2} | {:.2} | {:.4} |",
        sent / took,
        percentile(&latencies, 0.5),
        percentile(&latencies, 0.99),
        cpu / sent * 1e3,
    );
    assert_eq!(fine, latencies.len(), "{name}: not all came back as wanted");
}

fn main() {
    let args = args();
    let mut signer = Signer::new();
    let state = tempfile::tempdir().unwrap();
    let server = Server::start(&signer, state.path().to_str().unwrap(), &args.set);
    let (pixel, jpeg) = (Picture::pixel(), Picture::jpeg(JPEG_BYTES));
    println!("{} connections\n", args.connections);
    println!("| what | sent | requests/s | p50 ms | p99 ms | server CPU ms per request |");
    println!("|---|---|---|---|---|---|");
    for (name, kind, picture) in [
        ("GET /: HTTP alone", Kind::Root, &pixel),
        ("a call whose signature is refused", Kind::BadSignature, &pixel),
        ("a call with one pixel", Kind::Call, &pixel),
        ("a call with a 98.9 kB JPEG", Kind::Call, &jpeg),
        ("the same picture again and again", Kind::CallOfTheSame, &jpeg),
        ("the JPEG at the private port: no signature, no base64", Kind::Private, &jpeg),
    ] {
        row(name, &server, &mut signer, (kind, picture), &args);
    }
}
