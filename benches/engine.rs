//! What the engine itself costs: router, mailbox, and a whole job with a backend that does nothing.
//!
//! `cargo bench --bench engine`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use parking_lot::Mutex;
use roadcrew::actors::batching::{BatchingSpec, rule};
use roadcrew::actors::former::{Passage, Queued};
use roadcrew::actors::latency::LatencyTable;
use roadcrew::actors::mailbox::Mailbox;
use roadcrew::actors::router::{Event, Router};
use roadcrew::actors::{
    Engine, EngineSpec, JobId, Priority, Request, Routing, StagePlan, StageSpec,
};
use roadcrew::backends::{BackendContext, Input, Registry};
use roadcrew::cascade::{Condition, Exhausted, InputKind, StageRule, StageView, policy};
use roadcrew::clock;
use roadcrew::image::Image;
use roadcrew::prediction::Prediction;

const UP: StageView = StageView { available: true, predicted: Duration::from_millis(1) };

fn stage_rule() -> StageRule {
    StageRule { exit_below: 0.15, exit_above: 0.85, when: Condition::default() }
}

/// A job escalates once: three events.
fn router(c: &mut Criterion) {
    let mut group = c.benchmark_group("router");
    group.throughput(Throughput::Elements(1));
    group.bench_function("job through two stages", |b| {
        let policy = policy("cascade", vec![stage_rule(); 2], Exhausted::Last).unwrap();
        let names = vec!["screen".into(), "confirm".into()];
        let mut router = Router::new(policy, Exhausted::Last, names, 3);
        let now = clock::now();
        let mut id = 0;
        b.iter(|| {
            id += 1;
            let job = JobId(id);
            let deadline = now + Duration::from_secs(9);
            let arrived = Event::Arrived {
                job,
                kind: InputKind::Image,
                priority: Priority::Normal,
                deadline,
            };
            black_box(router.on(arrived, &[UP, UP], now));
            for (stage, p) in [(0, 0.5), (1, 0.9)] {
                let predictions = vec![(job, Prediction::from_raw(p))];
                black_box(router.on(Event::Answered { stage, predictions }, &[UP, UP], now));
            }
        });
        assert!(router.is_empty());
    });
    group.finish();
}

struct Waiting(u64, Instant);

impl Queued for Waiting {
    fn id(&self) -> JobId {
        JobId(self.0)
    }
    fn priority(&self) -> Priority {
        Priority::Normal
    }
    fn deadline(&self) -> Instant {
        self.1
    }
    fn is_closed(&self) -> bool {
        false
    }
}

fn mailbox(c: &mut Criterion) {
    let mut group = c.benchmark_group("mailbox");
    for size in [1_usize, 8, 32] {
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(format!("push and take {size}"), |b| {
            let spec = BatchingSpec { max_batch: size, ..BatchingSpec::default() };
            let latency = Mutex::new(LatencyTable::new(size));
            b.iter_batched(
                || Mailbox::new(64, rule(&spec).unwrap()),
                |mailbox| {
                    let now = clock::now();
                    for id in 0..size as u64 {
                        let job = Waiting(id, now + Duration::from_secs(9));
                        mailbox.push(job, Passage::Shared, now).unwrap();
                    }
                    black_box(mailbox.take(&|| size, &latency, &|| false)).map(|b| b.entries.len())
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// Submission to verdict through every actor and thread, one job in flight, and 64.
fn whole_job(c: &mut Criterion) {
    let system = actix::System::new();
    let engine = system.block_on(async {
        let registry = Registry::default();
        let context = BackendContext {
            stage: "null".into(),
            max_batch: 32,
            settings: "answer = 0.9".parse().unwrap(),
            ..BackendContext::default()
        };
        let spec = StageSpec { backend: "scripted".into(), ..StageSpec::default() };
        let plan = StagePlan {
            name: "null".into(),
            batching: rule(&spec.batching).unwrap(),
            spec,
            rule: stage_rule(),
            factory: registry.get("scripted").unwrap(),
            context,
        };
        let policy = policy("cascade", vec![stage_rule()], Exhausted::Last).unwrap();
        let routing = Routing { policy, exhausted: Exhausted::Last };
        let engine = Engine::start(
            &EngineSpec { max_in_flight: 256, max_lends: 3, max_hung: 8, threads: 0 },
            routing,
            vec![plan],
        );
        assert!(engine.settled(Duration::from_secs(10)).await);
        engine
    });
    let image = Arc::new(Image::from_rgb(8, 8, vec![128; 192]).unwrap());
    let submit = || {
        let deadline = clock::now() + Duration::from_secs(9);
        let input = Input::Image(image.clone());
        engine.submit(Request { input, deadline, priority: Priority::Normal }).unwrap()
    };
    let mut group = c.benchmark_group("engine");
    for in_flight in [1_usize, 64] {
        group.throughput(Throughput::Elements(in_flight as u64));
        group.bench_function(format!("verdict, {in_flight} in flight"), |b| {
            b.iter(|| {
                system.block_on(async {
                    let tickets: Vec<_> = (0..in_flight).map(|_| submit()).collect();
                    for ticket in tickets {
                        ticket.wait().await.unwrap();
                    }
                });
            });
        });
    }
    let deadline = clock::now() + Duration::from_secs(3600);
    group.throughput(Throughput::Elements(1));
    group.bench_function("admission at the door", |b| {
        b.iter(|| black_box(engine.admit(deadline, Priority::Normal, Duration::ZERO)).is_ok());
    });
    group.bench_function("refusal at the door", |b| {
        b.iter(|| black_box(engine.admit(clock::now(), Priority::Normal, Duration::ZERO)).is_err());
    });
    group.finish();
    system.block_on(engine.clone().stop());
}

criterion_group!(benches, router, mailbox, whole_job);
criterion_main!(benches);
