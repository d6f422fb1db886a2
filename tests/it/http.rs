//! The private port over real sockets: replies, failures, limits.
//!
//! Life and death (draining, leaving clients, crashes) is in [`super::http_life`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roadcrew::image::ImageLimits;
use roadcrew::video::ClipLimits;
use serde_json::{Value, json};

use super::support::{Server, Setup, form, grey_png, plan, raw, until};

/// Replaces what differs from run to run.
fn redact(value: &mut Value, keys: &[&str]) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if keys.contains(&key.as_str()) && !value.is_null() {
                    *value = json!(format!("[{key}]"));
                } else {
                    redact(value, keys);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, keys)),
        _ => {}
    }
}

#[test]
fn the_verdict_as_it_goes_over_the_wire() {
    let cheap = plan("wire-cheap", "answer = 0.5");
    let shy = plan("wire-shy", "answer = \"abstain\"");
    let server = Setup::with(vec![cheap, shy, plan("wire-sure", "")]).start();
    let reply = server.predict("image/png", &grey_png(255, 2, 2));
    assert_eq!(reply.status, 200, "{}", reply.text);
    let mut json = reply.json();
    assert_eq!(json["request_id"], reply.header("x-request-id"));
    redact(&mut json, &["latency_ms", "request_id"]);
    insta::assert_json_snapshot!("predict_reply", json);
}

#[test]
fn every_kind_of_body_gets_the_same_verdict() {
    every_kind_is_answered(&Setup::one("kinds", "").start());
}

#[test]
fn a_file_that_nobody_decoded_gets_the_same_verdict() {
    let mut setup = Setup::one("files", "");
    setup.limits.as_files = true;
    setup.limits.image = ImageLimits { max_pixels: 6, ..ImageLimits::default() };
    let server = setup.start();
    every_kind_is_answered(&server);
    // What its header and the frame of the file do not tell, only the stage finds: it abstains.
    let mut broken = grey_png(51, 3, 2);
    let data = broken.windows(4).position(|bytes| bytes == b"IDAT").unwrap() + 4;
    broken[data] ^= 0xFF;
    let said = server.predict("image/png", &broken);
    assert_eq!(said.status, 503, "{}", said.text);
    assert_eq!(server.predict("image/png", &broken[..50]).status, 400);
    assert_eq!(server.predict("image/png", &grey_png(51, 4, 2)).status, 413);
    assert_eq!(server.predict("image/gif", b"GIF89a\x01\0\x01\0").status, 415);
}

fn every_kind_is_answered(server: &Server) {
    let png = grey_png(51, 3, 2);
    let base64 = STANDARD.encode(&png);
    let (form_type, image_form) = form(&[("image", &png), ("deadline_ms", b"9000")]);
    let (_, file_form) = form(&[("priority", b"bulk"), ("file", &png)]);
    let document =
        json!({ "image": base64, "deadline_ms": 9000.5, "priority": "validator" }).to_string();
    let data_url = json!({ "image": format!("data:image/png;base64,{base64}") }).to_string();
    let bodies: [(&str, &[u8]); 7] = [
        ("image/jpeg", &png),
        ("application/octet-stream", &png),
        ("application/x-www-form-urlencoded", &png),
        (&form_type, &image_form),
        (&form_type, &file_form),
        ("application/json; charset=utf-8", document.as_bytes()),
        ("application/json", data_url.as_bytes()),
    ];
    for (kind, body) in bodies {
        let reply = server.predict(kind, body);
        assert_eq!(reply.status, 200, "{kind}: {}", reply.text);
        let json = reply.json();
        assert_eq!((&json["probability"], &json["label"]), (&json!(0.2), &json!("not_roadwork")));
    }
    let untyped = format!(
        "POST /v1/predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        png.len()
    );
    let reply = raw(server.connect(), &[untyped.as_bytes(), &png].concat());
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
}

#[test]
fn a_clip_is_several_frames() {
    let mut setup = Setup::one("clips", "");
    setup.limits.clip = ClipLimits { max_frames: 3 };
    let server = setup.start();
    let (black, white) = (grey_png(0, 2, 2), grey_png(255, 2, 2));
    let (form_type, body) =
        form(&[("frame", &black), ("frame", &white), ("frame", &white), ("fps", b"2.5")]);
    let reply = server.predict(&form_type, &body);
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert!((reply.json()["probability"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-6);
    let clip = |n: usize, fps: f64| {
        let frames = vec![STANDARD.encode(&white); n];
        json!({ "frames": frames, "fps": fps }).to_string().into_bytes()
    };
    assert_eq!(server.predict("application/json", &clip(3, 1.0)).status, 200);
    let problem = |body: &[u8]| server.predict("application/json", body).problem();
    assert_eq!(problem(&clip(4, 1.0)), (413, "too_large".into()));
    assert_eq!(problem(&clip(0, 1.0)), (400, "empty".into()));
    assert_eq!(problem(&clip(1, -1.0)), (400, "bad_parameter".into()));
    let (form_type, body) = form(&[("frame", &white), ("frame", b"GIF89a......")]);
    let reply = server.predict(&form_type, &body);
    assert_eq!(reply.problem(), (415, "unsupported_media_type".into()));
    assert!(reply.text.contains("frame 1"), "{}", reply.text);
}

#[test]
fn what_is_wrong_with_a_body_is_said() {
    let mut setup = Setup::one("bodies", "");
    setup.limits.image = ImageLimits { max_bytes: 5_000, max_pixels: 100, max_dimension: 50 };
    setup.http.max_body_bytes = 8_000;
    let server = setup.start();
    let png = grey_png(9, 4, 4);
    let (form_type, both) = form(&[("image", &png), ("frame", &png)]);
    let (_, typo) = form(&[("imgae", &png)]);
    let json_type = "application/json";
    let cases: [(&str, &[u8], u16, &str, &str); 16] = [
        ("image/png", b"", 400, "empty", "no body"),
        ("image/png", &png[..png.len() - 20], 400, "corrupt_image", "broken"),
        ("image/png", b"hello, world", 415, "unsupported_media_type", "PNG"),
        ("image/png", &grey_png(9, 11, 10), 413, "too_large", "image.max_pixels"),
        ("image/png", &grey_png(9, 51, 1), 413, "too_large", "image.max_dimension"),
        ("image/png", &[0; 6_000], 413, "too_large", "image.max_bytes"),
        ("image/png", &[0; 9_000], 413, "too_large", "http.max_body_bytes"),
        ("text/html", &png, 415, "unsupported_media_type", "text/html"),
        (json_type, b"{", 400, "bad_body", "JSON"),
        (json_type, b"{}", 400, "bad_body", "image"),
        (json_type, br#"{"imgae": ""}"#, 400, "bad_body", "imgae"),
        (json_type, br#"{"image": "%%"}"#, 400, "bad_body", "base64"),
        (json_type, br#"{"image": ""}"#, 400, "empty", "0 bytes"),
        (json_type, br#"{"image": "", "deadline_ms": -1}"#, 400, "bad_parameter", "deadline"),
        (&form_type, &both, 400, "bad_body", "either"),
        (&form_type, &typo, 400, "bad_body", "imgae"),
    ];
    for (kind, body, status, code, says) in cases {
        let reply = server.predict(kind, body);
        assert_eq!(reply.problem(), (status, code.to_owned()), "{kind} {says}: {}", reply.text);
        assert!(reply.text.contains(says), "{says}: {}", reply.text);
    }
    let reply = server.predict("multipart/form-data; boundary=x", b"no boundary in here");
    assert_eq!(reply.problem(), (400, "bad_body".into()), "{}", reply.text);
    let packed = "POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\n\
                  Connection: close\r\nContent-Length: 2\r\n\r\nxx";
    let reply = raw(server.connect(), packed.as_bytes());
    assert!(reply.starts_with("HTTP/1.1 415"), "{reply}");
}

#[test]
fn a_body_too_large_is_refused_before_it_is_sent_or_while_it_is() {
    let mut setup = Setup::one("large", "");
    setup.http.max_body_bytes = 1_000;
    let server = setup.start();
    let head = "POST /v1/predict HTTP/1.1\r\nHost: x\r\n";
    // Nothing of the body is ever sent.
    let declared = format!("{head}Content-Length: 1001\r\nConnection: close\r\n\r\n");
    let reply = read_head(&server, &declared);
    assert!(reply.starts_with("HTTP/1.1 413"), "{reply}");
    let chunk = "x".repeat(600);
    let chunk = format!("258\r\n{chunk}\r\n");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}{chunk}");
    let reply = read_head(&server, &chunked);
    assert!(reply.starts_with("HTTP/1.1 413"), "{reply}");
}

/// Sends bytes and reads what comes first, leaving the connection open meanwhile.
fn read_head(server: &Server, bytes: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = server.connect();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut head = [0; 64];
    let n = stream.read(&mut head).unwrap();
    String::from_utf8_lossy(&head[..n]).into_owned()
}

#[test]
fn the_byte_budget_is_shared_and_comes_back() {
    use std::io::Write as _;
    let mut setup = Setup::one("budget", "");
    setup.http.max_body_bytes = 700_000;
    setup.http.body_budget_bytes = 1_000_000;
    let server = setup.start();
    let png = grey_png(255, 2, 2);
    let held = || server.metric("roadcrew_request_bytes_in_flight");
    let mut slow = server.connect();
    slow.write_all(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\n\r\n")
        .unwrap();
    // The metric belongs to the process; other tests hold far less than this.
    until("the first body takes its share", || held() >= 600_000.0);
    let refused = server.predict("image/png", &vec![0; 500_000]);
    assert_eq!(refused.problem(), (429, "overloaded".into()));
    assert!(!refused.header("retry-after").is_empty());
    assert!(refused.text.contains("http.body_budget_bytes"), "{}", refused.text);
    assert_eq!(server.predict("image/png", &png).status, 200, "a small one still fits");
    drop(slow);
    until("the share comes back", || {
        server.predict("image/png", &vec![0; 500_000]).problem().0 == 415
    });
}

#[test]
fn what_is_said_in_the_head_is_checked_and_ranked() {
    let server = Setup::one("head", "base_ms = 200").start();
    let png = grey_png(255, 2, 2);
    for query in ["deadline_ms=soon", "deadline_ms=0", "deadline_ms=-5", "priority=urgent", "x=1"] {
        let reply = server.predict_at(&format!("/v1/predict?{query}"), "image/png", &png);
        assert_eq!(reply.problem(), (400, "bad_parameter".into()), "{query}");
    }
    let post = || super::support::agent().post(server.url("/v1/predict?deadline_ms=50000"));
    let sent = post().header("x-deadline-ms", "1").header("x-priority", "bulk").send(&png[..]);
    assert_eq!(super::support::reply(sent).status, 200, "the query wins over the header");
    let reply = server.predict_at("/v1/predict?deadline_ms=5", "image/png", &png);
    assert_eq!(reply.problem(), (504, "deadline".into()));
    let sent = post().header("x-request-id", "my-id.7").send(&b""[..]);
    let reply = super::support::reply(sent);
    assert_eq!(reply.header("x-request-id"), "my-id.7");
    assert_eq!(reply.problem().0, 400);
    let sent = post().header("x-request-id", "not sane!").send(&b""[..]);
    assert_ne!(super::support::reply(sent).header("x-request-id"), "not sane!");
}

#[test]
fn unknown_paths_and_methods_fail_in_the_same_shape() {
    let server = Setup::one("shape", "").start();
    assert_eq!(server.get("/v1/predictt").problem(), (404, "not_found".into()));
    let reply = server.get("/v1/predict");
    assert_eq!(reply.problem(), (405, "method_not_allowed".into()));
    assert_eq!(reply.header("allow"), "POST");
    let reply = server.predict_at("/healthz", "text/plain", b"x");
    assert_eq!(reply.problem(), (405, "method_not_allowed".into()));
    assert_eq!(reply.header("allow"), "GET, HEAD");
    let head = super::support::agent().head(server.url("/healthz")).call();
    assert_eq!(super::support::reply(head).status, 200);
    let seen = "roadcrew_request_seconds_count{route=\"unmatched\",status=\"404\"}";
    assert!(server.metric(seen) >= 1.0);
}

#[test]
fn the_interface_is_described() {
    let server = Setup::one("described", "").start();
    let mut document = server.get("/openapi.json").json();
    document["info"]["version"] = json!("[version]");
    insta::assert_json_snapshot!("openapi", document);
    let page = server.get("/docs");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(page.header("x-frame-options"), "DENY");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    let index = server.get("/").json();
    for link in index["links"].as_array().unwrap() {
        let path = link["path"].as_str().unwrap();
        let reply = server.get(path);
        assert!(reply.status == 200 || link["method"] == "POST", "{path}: {}", reply.status);
        let described = document["paths"].get(path).is_some();
        assert!(described || ["/openapi.json", "/docs"].contains(&path), "{path}");
    }
    let metrics = server.get("/metrics");
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4");
    assert!(metrics.text.contains("roadcrew_build_info"));
}

#[test]
fn the_board_as_it_goes_over_the_wire() {
    let broken = plan("board-down", "fail_loads = 1000000");
    let server = Setup::with(vec![broken, plan("board-up", "")]).start();
    let mut json = server.get("/v1/stages").json();
    redact(&mut json, &["since_s", "load_ms", "epoch", "restarts", "message"]);
    insta::assert_json_snapshot!("stages_reply", json);
}

#[test]
fn ready_means_that_some_stage_can_answer() {
    let broken = || plan("ready-down", "fail_loads = 1000000");
    let server = Setup::with(vec![broken(), plan("ready-up", "")]).start();
    let ready = server.get("/readyz");
    assert_eq!(ready.status, 200, "{}", ready.text);
    let json = ready.json();
    assert_eq!((&json["ready"], &json["stages"][0]["state"]), (&json!(true), &json!("down")));
    assert_eq!(json["stages"][0]["last_fall"]["cause"], "load");
    assert_eq!(json["stages"][1]["state"], "ready");
    let verdict = server.predict("image/png", &grey_png(255, 2, 2)).json();
    assert_eq!((&verdict["degraded"], &verdict["degraded_reason"]), (&json!(false), &Value::Null));

    let server = Setup::with(vec![broken()]).start();
    assert_eq!(server.get("/readyz").status, 503);
    assert_eq!(server.get("/healthz").status, 200, "not ready is not dead");
    let reply = server.predict("image/png", &grey_png(255, 2, 2));
    assert_eq!(reply.problem(), (503, "unavailable".into()));
    assert!(!reply.header("retry-after").is_empty());
}
