#![doc = include_str!("meanings.md")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs,
    reason = "an example that is a check"
)]

mod client;
mod ledger;
mod pictures;
mod report;
mod schedule;
mod server;
mod vitals;

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use roadcrew::clock;
use roadcrew::logging::{self, LogFormat, LogSpec};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, sleep_until};

use client::{GRACE, Pool};
use ledger::{Case, Ledger};
use pictures::Album;
use report::Report;
use server::{HANG, MAX_BATCH, Server};
use vitals::Vitals;

/// The real server under faults, departures and reloads: nothing lost, nothing late.
#[derive(clap::Parser)]
#[command(after_help = include_str!("meanings.md"))]
struct Args {
    /// What the run is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long requests are sent.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Requests per second, crowds left out.
    #[arg(long, default_value_t = 150.0)]
    rate: f64,
    /// The share of poison among them. Poisons that come faster than a stage can be restarted are
    /// beyond what is promised; more than a hundredth is for looking at that.
    #[arg(long, default_value_t = 0.006)]
    poison: f64,
    /// Milliseconds after its deadline at which a reply counts as late: what a shared machine takes
    /// to wake a thread.
    #[arg(long, default_value_t = 250)]
    slack_ms: u64,
    /// Also check that memory, threads and open files are at the end what they were after the first
    /// tenth of the time.
    #[arg(long, alias = "soak")]
    flat: bool,
    /// What the engine logs to standard error, such as `warn`.
    #[arg(long)]
    log: Option<String>,
}

/// What the clients share.
struct Run {
    args: Args,
    album: Album,
    server: Server,
    begun: Instant,
    ledger: RefCell<Ledger>,
    pool: RefCell<Pool>,
    playing: Cell<usize>,
}

impl Run {
    /// Connections that clients hold.
    fn connections(&self) -> usize {
        self.playing.get() + self.pool.borrow().len()
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(filter) = args.log.clone() {
        logging::start(&LogSpec { format: LogFormat::Text, filter }).expect("a filter");
    }
    server::watch_panics();
    let album = Album::draw(&mut generator(&args, 0));
    let server = Server::start(&album);
    let slack = Duration::from_millis(args.slack_ms);
    let run = Rc::new(Run {
        args,
        album,
        server,
        begun: clock::now(),
        ledger: RefCell::new(Ledger::new(slack)),
        pool: RefCell::default(),
        playing: Cell::new(0),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let flat = LocalSet::new().block_on(&runtime, conduct(run.clone()));
    drop(runtime);
    let run = Rc::into_inner(run).expect("every client is done");
    let (report, mut wrong) = Report::of(&run.ledger.borrow());
    wrong.extend(report.offences());
    wrong.extend(flat.err());
    if !run.server.end() {
        wrong.push("the server did not end as it should".into());
    }
    println!("{}", serde_json::to_string(&report).unwrap());
    for offence in &wrong {
        eprintln!("FAILED: {offence}");
    }
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The seed's generator for one purpose.
fn generator(args: &Args, purpose: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    rng.set_stream(purpose);
    rng
}

/// Plays the run to its end. Says what has grown, if that was asked.
async fn conduct(run: Rc<Run>) -> Result<(), String> {
    let reloads = spawn_local(reload(run.clone()));
    let watch = spawn_local(watch(run.clone()));
    let length = Duration::from_secs_f64(run.args.seconds);
    let mut before = None;
    let mix = (run.args.rate, run.args.poison);
    let requests = schedule::requests(generator(&run.args, 1), mix, &run.album);
    for planned in requests.take_while(|planned| planned.due < length) {
        sleep_until((run.begun + planned.due).into()).await;
        if planned.due >= length / 10 {
            before.get_or_insert_with(|| Vitals::take().without(run.connections()));
        }
        run.playing.set(run.playing.get() + 1);
        spawn_local(play(run.clone(), planned));
    }
    until(Duration::MAX, || run.playing.get() == 0).await;
    reloads.abort();
    until(GRACE, || run.server.engine.in_flight() == 0).await;
    let unasked = {
        let mut pool = run.pool.borrow_mut();
        pool.clear();
        pool.unasked
    };
    run.ledger.borrow_mut().duplicated += unasked;
    let flat = match before.filter(|_| run.args.flat) {
        Some(before) => settle(before).await,
        None => Ok(()),
    };
    watch.abort();
    // Both tasks hold the run until they have noticed.
    let _ = (reloads.await, watch.await);
    flat
}

/// Plays one request and judges it.
async fn play(run: Rc<Run>, planned: schedule::Planned) {
    let pictures = if planned.poison { &run.album.poison } else { &run.album.innocent };
    let picture = &pictures[planned.picture];
    let told = client::play(run.server.address, &planned, picture, &run.pool).await;
    let case = Case { planned: &planned, picture, due: run.begun + planned.due };
    let mut ledger = run.ledger.borrow_mut();
    ledger.panicked(server::panics());
    ledger.note(&case, &told);
    run.playing.set(run.playing.get() - 1);
}

/// Reloads settings as planned, for ever.
async fn reload(run: Rc<Run>) {
    for reload in schedule::reloads(generator(&run.args, 2), MAX_BATCH) {
        sleep_until((run.begun + reload.due).into()).await;
        run.server.reload(&reload);
    }
}

/// Tells people now and then how far it is, for ever.
async fn watch(run: Rc<Run>) {
    loop {
        sleep(Duration::from_secs(10)).await;
        let (playing, vitals) = (run.playing.get(), Vitals::take());
        let Ledger { sent, lost, late, hurt, .. } = &*run.ledger.borrow();
        let seconds = run.begun.elapsed().as_secs();
        eprintln!(
            "{seconds} s: {sent} sent, {playing} under way, {lost} lost, {late} late, {hurt} hurt; \
             {vitals}"
        );
    }
}

/// Waits until hung threads have come back and connections are closed, and compares.
async fn settle(before: Vitals) -> Result<(), String> {
    let flat = || Vitals::take().are_flat_since(&before);
    sleep(HANG).await;
    let is_flat = until(2 * HANG, flat).await;
    let after = Vitals::take();
    eprintln!("after a tenth of the time: {before}\nat the end: {after}");
    if is_flat { Ok(()) } else { Err(format!("not flat: {before}, and at the end {after}")) }
}

/// Waits until something holds. False if it took longer than `at_most`.
async fn until(at_most: Duration, holds: impl Fn() -> bool) -> bool {
    let begun = clock::now();
    while !holds() {
        if begun.elapsed() > at_most {
            return false;
        }
        sleep(Duration::from_millis(5)).await;
    }
    true
}
