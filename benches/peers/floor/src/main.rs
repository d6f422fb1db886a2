//! The floor of the null models: what a plain HTTP server with one batching mailbox costs a request.
//!
//! It parses the request, puts it into a bounded mailbox, and a thread that stands for a device takes
//! batches from there. It decodes no image, runs no model and keeps no promise, so it is nobody's
//! peer: it says what is left to gain. `RACE_EAGER=1` takes what is there as soon as the device is
//! idle; without it, a batch waits up to `RACE_MAX_WAIT_MS` for company.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// As many as may wait; beyond it the reply is 429.
const PLACES: usize = 1024;

#[derive(serde::Deserialize)]
struct Question<'a> {
    #[serde(borrow)]
    image: Cow<'a, str>,
}

/// A request that waits for its score, with the body that a model would need.
struct Job {
    _body: Bytes,
    reply: oneshot::Sender<f32>,
}

struct Settings {
    port: u16,
    eager: bool,
    max_batch: usize,
    max_wait: Duration,
    service: Duration,
}

impl Settings {
    fn from_env() -> Self {
        let null2 = read("RACE_MODEL", String::new()) == "null2";
        Self {
            port: read("RACE_PORT", 8080),
            eager: read("RACE_EAGER", 0u8) == 1,
            max_batch: read("RACE_MAX_BATCH", 8),
            max_wait: Duration::from_secs_f64(read("RACE_MAX_WAIT_MS", 5.0) / 1e3),
            service: Duration::from_millis(if null2 { 2 } else { 0 }),
        }
    }
}

fn read<T: FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// The device: takes a batch, is busy, replies; one batch at a time, until the mailbox closes.
fn device(settings: &Settings, mailbox: &mut mpsc::Receiver<Job>, runtime: &Handle) {
    while let Some(first) = mailbox.blocking_recv() {
        let mut batch = vec![first];
        if !settings.eager {
            runtime.block_on(wait_for_company(mailbox, &mut batch, settings));
        }
        while batch.len() < settings.max_batch {
            let Ok(job) = mailbox.try_recv() else { break };
            batch.push(job);
        }
        batch.retain(|job| !job.reply.is_closed());
        if !settings.service.is_zero() {
            std::thread::sleep(settings.service);
        }
        for job in batch {
            let _ = job.reply.send(0.5);
        }
    }
}

async fn wait_for_company(
    mailbox: &mut mpsc::Receiver<Job>,
    batch: &mut Vec<Job>,
    settings: &Settings,
) {
    let until = Instant::now() + settings.max_wait;
    while batch.len() < settings.max_batch {
        match timeout_at(until, mailbox.recv()).await {
            Ok(Some(job)) => batch.push(job),
            _ => return,
        }
    }
}

type Failure = (StatusCode, &'static str);

async fn predict(State(mailbox): State<mpsc::Sender<Job>>, body: Bytes) -> Result<String, Failure> {
    let is_jpeg = body.starts_with(&[0xff, 0xd8]);
    if !is_jpeg {
        let question: Question<'_> =
            serde_json::from_slice(&body).map_err(|_| (StatusCode::BAD_REQUEST, "no JSON"))?;
        std::hint::black_box(question.image.len());
    }
    let (reply, score) = oneshot::channel();
    let job = Job { _body: body, reply };
    mailbox.try_send(job).map_err(|_| (StatusCode::TOO_MANY_REQUESTS, "full"))?;
    let score = score.await.map_err(|_| (StatusCode::INTERNAL_SERVER_ERROR, "lost"))?;
    Ok(format!("{{\"score\":{score}}}"))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> std::io::Result<()> {
    let settings = Settings::from_env();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", settings.port)).await?;
    let (mailbox, mut jobs) = mpsc::channel(PLACES);
    let runtime = Handle::current();
    std::thread::spawn(move || device(&settings, &mut jobs, &runtime));
    let app = axum::Router::new().route("/predict", post(predict)).with_state(mailbox);
    axum::serve(listener, app).await
}
