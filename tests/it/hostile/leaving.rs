//! Clients that leave, by closing or by resetting, wherever their job is.

use std::net::TcpStream;

use super::{beside_a_client, predict, reset, status};
use crate::http_life::{dropped, occupy, send, taken};
use crate::support::{Server, Setup, grey_png, plan, rest, until};

/// Every second client closes, the others reset.
fn leave(streams: Vec<TcpStream>) {
    for (n, stream) in streams.into_iter().enumerate() {
        if n % 2 == 0 { drop(stream) } else { reset(stream) }
    }
}

fn queued(server: &Server, stage: &str, jobs: f64) {
    let series = format!("roadcrew_stage_queue_depth{{stage=\"{stage}\"}}");
    until("the jobs are queued", || server.metric(&series) >= jobs);
}

/// Batches that a stage has finished.
fn finished(server: &Server, stage: &str) -> f64 {
    server.metric(&format!("roadcrew_stage_batch_seconds_count{{stage=\"{stage}\"}}"))
}

/// Asks until there is a place and a verdict, and says how many batches were finished when the
/// request that got it was sent.
fn get_a_place(server: &Server, stage: &str) -> f64 {
    let mut before = 0.0;
    until("there is a place", || {
        before = finished(server, stage);
        let reply = rest(send(server));
        match status(&reply) {
            Some(200) => true,
            Some(429) => false,
            _ => panic!("{reply}"),
        }
    });
    before
}

#[test]
fn who_leaves_the_queue_frees_the_place_and_is_never_computed() {
    let mut setup = Setup::one("leave-queue", "base_ms = 3000");
    // Of which 21 for those who are no validators.
    setup.engine.max_in_flight = 24;
    let server = setup.start();
    let first = occupy(&server, "leave-queue");
    let leavers: Vec<_> = (0..20).map(|_| send(&server)).collect();
    queued(&server, "leave-queue", 20.0);
    assert_eq!(predict(server.address, &grey_png(255, 2, 2)).status, 429, "the gate is full");
    leave(leavers);
    assert_eq!(get_a_place(&server, "leave-queue"), 0.0, "while the first batch is computed");
    assert!(rest(first).starts_with("HTTP/1.1 200"));
    assert_eq!(dropped(&server, "leave-queue"), 20.0);
    assert_eq!(taken(&server, "leave-queue"), 2.0);
}

#[test]
fn who_leaves_while_aboard_frees_the_place_at_once() {
    for (stage, how) in [("leave-by-fin", drop as fn(TcpStream)), ("leave-by-rst", reset)] {
        let mut setup = Setup::one(stage, "base_ms = 3000");
        setup.engine.max_in_flight = 1;
        let server = setup.start();
        how(occupy(&server, stage));
        assert_eq!(get_a_place(&server, stage), 0.0, "while the batch is computed");
    }
}

#[test]
fn who_leaves_between_stages_is_never_seen_by_the_second() {
    let second = plan("leave-second", "base_ms = 3000");
    let server = Setup::with(vec![plan("leave-first", "answer = 0.5"), second]).start();
    let first = send(&server);
    until("the second stage is busy", || taken(&server, "leave-second") >= 1.0);
    let leavers: Vec<_> = (0..20).map(|_| send(&server)).collect();
    queued(&server, "leave-second", 20.0);
    leave(leavers);
    let stays = send(&server);
    assert!(rest(first).starts_with("HTTP/1.1 200"));
    assert!(rest(stays).starts_with("HTTP/1.1 200"));
    until("the leavers are dropped", || dropped(&server, "leave-second") >= 20.0);
    assert_eq!(taken(&server, "leave-first"), 22.0);
    assert_eq!(taken(&server, "leave-second"), 2.0);
}

#[test]
fn who_leaves_in_the_middle_of_a_body_costs_nothing() {
    use std::io::Write as _;
    let server = Setup::one("leave-body", "").start();
    let head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n";
    beside_a_client(server.address, || {
        let held = || server.metric("roadcrew_request_bytes_in_flight");
        let leavers: Vec<_> = (0..12)
            .map(|_| {
                let mut stream = server.connect();
                stream.write_all(head).unwrap();
                stream.write_all(&[0; 1000]).unwrap();
                stream
            })
            .collect();
        until("their bodies take their share", || held() >= 12.0 * 900_000.0);
        leave(leavers);
        // The metric belongs to the process; other tests hold far less than this.
        until("the share comes back", || held() < 900_000.0);
    });
}
