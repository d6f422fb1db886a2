//! What an enemy sends, against the real server. Each time: bounded time, a clear answer, and
//! another client who is served meanwhile. Memory is measured on the program itself, in `memory`.

mod files;
mod leaving;
mod memory;
mod slow;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::support::{PATIENCE, Reply, Setup, agent, grey_png, reply, rest};

/// A connection whose reads do not wait for ever.
fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Asks for a verdict on a file.
fn predict(address: SocketAddr, file: &[u8]) -> Reply {
    let url = format!("http://{address}/v1/predict?deadline_ms=30000");
    reply(agent().post(url).header("content-type", "image/png").send(file))
}

/// Does `work` while a well-behaved client asks again and again, and gets a verdict every time.
fn beside_a_client<T>(address: SocketAddr, work: impl FnOnce() -> T) -> T {
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let over = AtomicBool::new(false);
    let ask = || {
        let png = grey_png(255, 2, 2);
        let mut answers = 0;
        while answers == 0 || !over.load(Ordering::Acquire) {
            let reply = predict(address, &png);
            assert_eq!(reply.status, 200, "after {answers} answers: {}", reply.text);
            answers += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    std::thread::scope(|scope| {
        let client = scope.spawn(ask);
        let done = {
            let _over = Over(&over);
            work()
        };
        client.join().expect("the well-behaved client is served");
        done
    })
}

/// Resets the connection instead of closing it.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// The status of a reply as it came over the wire; none if the connection was closed without one.
fn status(reply: &str) -> Option<u16> {
    reply.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

#[test]
fn huge_heads_are_refused_and_disturb_nobody() {
    let server = Setup::one("heads", "").start();
    let line = format!("x-long: {}\r\n", "x".repeat(1 << 20));
    let many: String = (0..10_000).map(|i| format!("x-{i}: y\r\n")).collect();
    let path = format!("/{}", "p".repeat(1 << 20));
    let heads = [
        format!("POST /v1/predict HTTP/1.1\r\nHost: x\r\n{line}\r\n"),
        format!("POST /v1/predict HTTP/1.1\r\nHost: x\r\n{many}\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"),
        "x".repeat(1 << 20),
    ];
    beside_a_client(server.address, || {
        std::thread::scope(|scope| {
            for head in heads.iter().cycle().take(24) {
                scope.spawn(|| {
                    let stream = connect(server.address);
                    // The server may close before it was told everything.
                    let _ = (&stream).write_all(head.as_bytes());
                    let reply = rest(stream);
                    let refused = status(&reply).is_none_or(|status| (400..500).contains(&status));
                    assert!(refused, "{reply:.300}");
                });
            }
        });
    });
}

#[test]
fn who_sends_requests_and_never_reads_is_cut_off() {
    let mut setup = Setup::one("deaf", "");
    setup.http.read_timeout_ms = 1_000;
    setup.http.keep_alive_s = 1;
    let server = setup.start();
    let asks = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    beside_a_client(server.address, || {
        let stream = connect(server.address);
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let begun = roadcrew::clock::now();
        // Once nothing more fits in between, the server must lose patience.
        while begun.elapsed() < PATIENCE {
            // A write fails only once the system has given up on the connection.
            match (&stream).write_all(asks.as_bytes()) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
                Ok(()) => {}
            }
        }
        panic!("the connection is still open");
    });
}
