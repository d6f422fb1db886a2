//! The real server under a fixed arrival rate: p50, p99 and goodput.
//!
//! `cargo bench --bench open_loop -- [--rates 5,10,20] [--seconds 10] [--image FILE] [--set K=V]...`
//!
//! Open loop: requests are sent on a schedule whatever the server does, and a latency counts from
//! the moment the request was *due*, so a stall is charged to every request it delayed (no
//! coordinated omission). Without `--rates` it first finds the rate of a closed loop with sixteen
//! clients and then runs at 50, 80, 100 and 300 % of it.

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
use std::time::{Duration, Instant};

/// More than the engine admits, so that overload reaches its gate.
const CLIENTS: usize = 400;

struct Args {
    rates: Vec<f64>,
    seconds: f64,
    image: String,
    set: Vec<String>,
}

fn args() -> Args {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/roadwork.jpg");
    let mut args = Args { rates: vec![], seconds: 10.0, image: sample.into(), set: vec![] };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--rates" => args.rates = value().split(',').map(|r| r.parse().unwrap()).collect(),
            "--seconds" => args.seconds = value().parse().unwrap(),
            "--image" => args.image = value(),
            "--set" => args.set.push(value()),
            "--bench" => {}
            other => panic!("unknown argument {other}"),
        }
    }
    args
}

/// The server, killed when dropped.
struct Server(Child, String);

impl Server {
    fn start(set: &[String]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roadcrew"));
        command.args(["serve", "--set", "http.port=0"]);
        for pair in set {
            command.args(["--set", pair]);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let rest = line.split("http://").nth(1)?;
                Some(rest.split(['/', ' ', '"']).next()?.to_owned())
            })
            .expect("the server did not print its address");
        std::thread::Builder::new()
            .name("drain-stderr".into())
            .spawn(move || lines.for_each(drop))
            .unwrap();
        let server = Self(child, address);
        let give_up = Instant::now() + Duration::from_secs(60);
        while server.get("/readyz") != Some(200) {
            assert!(Instant::now() < give_up, "the server is not ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn get(&self, path: &str) -> Option<u16> {
        let mut stream = TcpStream::connect(&self.1).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok()?;
        reply.split(' ').nth(1)?.parse().ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A keep-alive connection.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn new(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    fn post(&mut self, image: &[u8]) -> std::io::Result<u16> {
        let head = format!(
            "POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\ncontent-length: {}\r\n\r\n",
            image.len()
        );
        self.stream.get_mut().write_all(&[head.as_bytes(), image].concat())?;
        let (mut line, mut status, mut length) = (String::new(), 0, 0);
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap_or(0);
            } else if let Some(rest) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = rest.trim().parse().unwrap_or(0);
            } else if line == "\r\n" {
                break;
            }
        }
        std::io::copy(&mut (&mut self.stream).take(length), &mut std::io::sink())?;
        Ok(status)
    }
}

/// Latencies in ms of the requests that were answered 200, and how many were sent.
fn load(
    address: &str,
    image: &[u8],
    clients: usize,
    rate: Option<f64>,
    seconds: f64,
) -> (Vec<f64>, usize) {
    let next = AtomicUsize::new(0);
    let total = rate.map_or(usize::MAX, |rate| (rate * seconds) as usize);
    // Half a second for every client to connect.
    let start = Instant::now() + Duration::from_millis(500);
    let end = start + Duration::from_secs_f64(seconds);
    let mut latencies: Vec<f64> = std::thread::scope(|scope| {
        let work = || {
            let mut client = Client::new(address);
            let mut latencies = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let due = match rate {
                    Some(rate) if index < total => {
                        start + Duration::from_secs_f64(index as f64 / rate)
                    }
                    None if Instant::now() < end => Instant::now(),
                    _ => return latencies,
                };
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                match client.post(image) {
                    Ok(200) => latencies.push(due.elapsed().as_secs_f64() * 1e3),
                    Ok(_) => {}
                    Err(_) => client = Client::new(address),
                }
            }
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    latencies.sort_by(f64::total_cmp);
    (latencies, total.min(next.load(Ordering::Relaxed)))
}

fn percentile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn main() {
    let args = args();
    let image = fs_err::read(&args.image).unwrap();
    let server = Server::start(&args.set);
    let mut rates = args.rates;
    if rates.is_empty() {
        let (warm, _) = load(&server.1, &image, 16, None, args.seconds / 2.0);
        let (done, _) = load(&server.1, &image, 16, None, args.seconds);
        let rate = done.len() as f64 / args.seconds;
        println!("closed loop, 16 clients: {rate:.1} images/s (warm-up {})", warm.len());
        rates = [0.5, 0.8, 1.0, 3.0].map(|share| share * rate).into();
    }
    println!("| rate /s | sent | answered 200 | goodput /s | p50 ms | p99 ms |");
    println!("|---|---|---|---|---|---|");
    for rate in rates {
        let begun = Instant::now();
        let (ok, sent) = load(&server.1, &image, CLIENTS, Some(rate), args.seconds);
        let took = begun.elapsed().as_secs_f64() - 0.5;
        println!(
            "| {rate:.1} | {sent} | {} | {:.1} | {:.1} | {:.1} |",
            ok.len(),
            ok.len() as f64 / took,
            percentile(&ok, 0.5),
            percentile(&ok, 0.99),
        );
        std::thread::sleep(Duration::from_secs(2));
    }
}
