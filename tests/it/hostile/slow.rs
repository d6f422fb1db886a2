//! Clients that send a byte now and then.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{beside_a_client, connect, status};
use crate::support::{Setup, rest, until};

/// Clients of each kind.
const CLIENTS: usize = 40;

#[test]
fn many_dripping_clients_are_cut_off_and_disturb_nobody() {
    let mut setup = Setup::one("drip", "");
    setup.http.read_timeout_ms = 2_000;
    let server = setup.start();
    let begin = |bytes: &str| {
        let stream = connect(server.address);
        (&stream).write_all(bytes.as_bytes()).unwrap();
        stream
    };
    let body = "POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n";
    beside_a_client(server.address, || {
        let heads = (0..CLIENTS).map(|_| begin("POST /v1/predict HTTP/1.1\r\nx-slow: "));
        let bodies = (0..CLIENTS).map(|_| begin(body));
        let streams: Vec<TcpStream> = heads.chain(bodies).collect();
        drip_until_cut(&streams);
        for (n, stream) in streams.into_iter().enumerate() {
            let reply = rest(stream);
            // A reply may be lost to the reset that answers a byte sent too late.
            let is_refusal = status(&reply).is_none_or(|status| status == 408);
            assert!(is_refusal, "client {n}: {reply}");
        }
    });
}

/// Sends a byte a second on every connection until the server has closed each of them.
fn drip_until_cut(streams: &[TcpStream]) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                streams.iter().for_each(|mut stream| drop(stream.write_all(b"x")));
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        let mut open: Vec<&TcpStream> = streams.iter().collect();
        open.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
        until("every connection is closed", || {
            open.retain(|stream| match stream.peek(&mut [0; 1]) {
                Ok(_) => false,
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            });
            open.is_empty()
        });
        over.store(true, Ordering::Release);
        streams.iter().for_each(|stream| stream.set_nonblocking(false).unwrap());
    });
}
