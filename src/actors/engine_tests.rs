use super::*;
use crate::actors::batching::rule;
use crate::actors::board::Doom;
use crate::actors::killpoint::{POINTS, armed};
use crate::actors::restart::RestartSpec;
use crate::actors::{Priority, StageSpec};
use crate::backends::{BackendContext, Input, Registry};
use crate::cascade::{Condition, Exhausted, StageRule, policy};
use crate::image::Image;

const LONG: Duration = Duration::from_secs(30);

/// An engine of one scripted stage. Kill points and the script's counts go by its name.
fn engine(name: &str, script: &str, change: impl FnOnce(&mut StageSpec)) -> Engine {
    let restart = RestartSpec { backoff_ms: 1, ..RestartSpec::default() };
    let mut spec = StageSpec { backend: "scripted".into(), restart, ..StageSpec::default() };
    change(&mut spec);
    let stage = StageRule { exit_below: 0.15, exit_above: 0.85, when: Condition::default() };
    let plan = StagePlan {
        name: name.into(),
        rule: stage.clone(),
        factory: Registry::default().get("scripted").unwrap(),
        batching: rule(&spec.batching).unwrap(),
        context: BackendContext {
            stage: name.into(),
            max_batch: spec.batching.max_batch,
            settings: script.parse().unwrap(),
            ..BackendContext::default()
        },
        spec,
    };
    let policy = policy("cascade", vec![stage], Exhausted::Last).unwrap();
    let routing = Routing { policy, exhausted: Exhausted::Last };
    let spec = EngineSpec { max_in_flight: 64, max_lends: 3, max_hung: 2, threads: 0 };
    Engine::start(&spec, routing, vec![plan])
}

fn request(within: Duration) -> Request {
    let image = Arc::new(Image::from_rgb(1, 1, vec![0; 3]).unwrap());
    let deadline = clock::now() + within;
    Request { input: Input::Image(image), deadline, priority: Priority::Normal }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = clock::now() + LONG;
    while !holds() {
        assert!(clock::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[actix::test]
async fn jobs_outlive_the_actor_of_their_stage() {
    let engine = engine("actor-crash", "answer = 0.9\nbase_ms = 100", |_| {});
    assert!(engine.settled(LONG).await);
    // Some aboard, some queued behind them.
    let tickets: Vec<_> = (0..20).map(|_| engine.submit(request(LONG)).unwrap()).collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    engine.supervisor.crash_stage(0);
    for ticket in tickets {
        let verdict = ticket.wait().await.unwrap();
        assert_eq!(verdict.degraded, None);
    }
    assert!(engine.board().is_alive(), "the supervisor outlives a stage");
    assert_eq!(engine.board().stages()[0].state, StageState::Ready);
    engine.stop().await;
}

/// Wherever in the engine a thread dies, every job is answered, once, and with its own score.
#[actix::test]
async fn nothing_is_lost_at_any_kill_point() {
    const ROUNDS: usize = 25;
    for point in POINTS {
        let name = format!("kill-{point}");
        // Every eleventh batch falls anyhow, so that each point is come by again and again.
        let script = "answer = 0.9\nbatch.panic_every = 11";
        let engine = engine(&name, script, |_| {});
        for round in 1..=ROUNDS {
            let at = format!("kill point {point}, round {round}");
            assert!(engine.settled(LONG).await, "{at}: the stage does not settle");
            armed::arm(point, &name, 1 + round % 3);
            let tickets: Vec<_> = (0..12).map(|_| engine.submit(request(LONG)).unwrap()).collect();
            for ticket in tickets {
                let outcome = ticket.wait().await;
                assert!(outcome.as_ref().is_ok_and(|v| v.degraded.is_none()), "{at}: {outcome:?}");
            }
            assert_eq!(engine.in_flight(), 0, "{at}: a job is still in flight");
            let end = clock::now() + LONG;
            while armed::is_armed(point, &name) {
                assert!(clock::now() < end, "{at}: never came by");
                engine.submit(request(LONG)).unwrap().wait().await.unwrap();
            }
            assert!(engine.board().is_alive(), "{at}: the supervisor died");
        }
        engine.stop().await;
    }
}

/// With the supervisor gone there are no verdicts any more, but everybody hears so at once.
#[actix::test]
async fn a_dying_supervisor_leaves_nobody_waiting() {
    for round in 1..=10 {
        let at = format!("kill point supervisor.routing, round {round}");
        let name = format!("kill-supervisor-{round}");
        let engine = engine(&name, "answer = 0.9\nbase_ms = 5", |_| {});
        assert!(engine.settled(LONG).await, "{at}");
        armed::arm("supervisor.routing", &name, 3 * round);
        let tickets: Vec<_> = (0..40).filter_map(|_| engine.submit(request(LONG)).ok()).collect();
        let begun = clock::now();
        for ticket in tickets {
            let _whatever = ticket.wait().await;
        }
        assert!(begun.elapsed() < LONG / 2, "{at}: somebody waited for the deadline");
        assert_eq!(engine.in_flight(), 0, "{at}");
        assert!(!engine.board().is_alive(), "{at}: the board does not say so");
        assert!(engine.submit(request(LONG)).is_err(), "{at}");
    }
}

#[actix::test]
async fn a_spare_takes_over_without_a_load() {
    let script = "answer = 0.9\nslow_load_ms = 2000\nbatch.panic_every = 3";
    let engine = engine("spare", script, |spec| spec.spares = 1);
    until("both are loaded", || {
        let stage = &engine.board().stages()[0];
        stage.instances_ready == 1 && stage.spares_ready == 1
    })
    .await;
    for _ in 0..2 {
        engine.submit(request(LONG)).unwrap().wait().await.unwrap();
    }
    // The third batch falls; the spare answers it before anything could have been loaded.
    engine.submit(request(LONG)).unwrap().wait().await.unwrap();
    until("the fall is counted", || engine.board().stages()[0].restarts == 1).await;
    let stage = engine.board().stages()[0].clone();
    assert_eq!(stage.spares_ready, 0, "{stage:?}");
    assert_eq!(stage.state, StageState::Ready);
    until("the fallen one stands by", || engine.board().stages()[0].spares_ready == 1).await;
    engine.stop().await;
}

#[actix::test]
async fn what_cannot_be_answered_in_time_is_refused_at_the_door() {
    let engine = engine("door", "answer = 0.9\nbase_ms = 100", |spec| spec.batching.max_batch = 1);
    assert!(engine.settled(LONG).await);
    for _ in 0..3 {
        engine.submit(request(LONG)).unwrap().wait().await.unwrap();
    }
    until("the door knows where jobs go", || engine.board.entries().count() == 1).await;
    let hopeless = engine.submit(request(Duration::from_millis(20))).err();
    assert_eq!(hopeless, Some(Rejection::Deadline), "not even alone");
    let validator = |within| Request { priority: Priority::Validator, ..request(within) };
    let _queued: Vec<_> = (0..10).map(|_| engine.submit(validator(LONG)).unwrap()).collect();
    until("they are queued", || engine.stages[0].mailbox.len() >= 9).await;
    let Err(Rejection::TooLate { predicted, retry_after }) =
        engine.submit(request(Duration::from_millis(500)))
    else {
        panic!("admitted behind ten others")
    };
    assert!(predicted > Duration::from_millis(800), "{predicted:?}");
    assert!(retry_after > Duration::from_millis(300), "{retry_after:?}");
    let urgent = engine.submit(validator(Duration::from_millis(900)));
    assert!(urgent.is_ok(), "who goes first need not wait for the others: {urgent:?}");
    engine.stop().await;
}

#[actix::test]
async fn a_lost_device_asks_for_a_new_process_and_its_job_is_answered() {
    let engine = engine("device", "answer = 0.9\nbatch.device_lost_every = 2", |_| {});
    assert!(engine.settled(LONG).await);
    assert!(engine.submit(request(LONG)).unwrap().wait().await.is_ok());
    let outcome = engine.submit(request(LONG)).unwrap().wait().await;
    assert!(matches!(outcome, Err(Rejection::Unavailable { .. })), "{outcome:?}");
    assert_eq!(engine.board().get_doom(), Some(Doom::DeviceLost));
    assert_eq!(engine.submit(request(LONG)).err(), Some(Rejection::Draining));
    engine.stop().await;
}

#[actix::test]
async fn too_many_hung_threads_ask_for_a_new_process() {
    let engine = engine("hung", "answer = 0.9\nbatch.hang_every = 1", |spec| {
        spec.hang_ms = 20;
        spec.restart.max_restarts = 50;
    });
    assert!(engine.settled(LONG).await);
    while engine.board().get_doom().is_none() {
        if let Ok(ticket) = engine.submit(request(Duration::from_secs(2))) {
            assert!(ticket.wait().await.is_err(), "nobody can answer");
        }
    }
    assert_eq!(engine.board().get_doom(), Some(Doom::TooManyHung));
    assert!(!engine.board().can_answer());
    assert_eq!(engine.board().stages()[0].abandoned, 3, "one more than max_hung");
    engine.stop().await;
}
