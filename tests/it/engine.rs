//! The engine under faults, with scripted stages: what is promised holds whatever a backend does.

use std::sync::Arc;
use std::time::Duration;

use roadcrew::actors::batching::{BatchingSpec, rule};
use roadcrew::actors::board::StageState;
use roadcrew::actors::restart::RestartSpec;
use roadcrew::actors::{
    Engine, EngineSpec, Outcome, Priority, Request, Routing, StagePlan, StageSpec,
};
use roadcrew::backends::{BackendContext, Input, Registry};
use roadcrew::cascade::{Condition, Exhausted, StageRule, policy};
use roadcrew::clock;
use roadcrew::image::Image;
use roadcrew::prediction::{Cause, Degraded, HopOutcome, Rejection};

const LONG: Duration = Duration::from_secs(30);

fn plan(name: &str, script: &str, spec: StageSpec) -> StagePlan {
    let context = BackendContext {
        stage: format!("{name}-{}", std::thread::current().name().unwrap_or("?")),
        max_batch: spec.batching.max_batch,
        settings: script.parse().unwrap(),
        ..BackendContext::default()
    };
    StagePlan {
        name: name.into(),
        rule: StageRule { exit_below: 0.15, exit_above: 0.85, when: Condition::default() },
        factory: Registry::default().get("scripted").unwrap(),
        batching: rule(&spec.batching).unwrap(),
        context,
        spec,
    }
}

fn spec() -> StageSpec {
    StageSpec {
        backend: "scripted".into(),
        batching: BatchingSpec::default(),
        restart: RestartSpec { backoff_ms: 1, ..RestartSpec::default() },
        ..StageSpec::default()
    }
}

fn start(stages: Vec<StagePlan>) -> Engine {
    let rules = stages.iter().map(|stage| stage.rule.clone()).collect();
    let policy = policy("cascade", rules, Exhausted::Last).unwrap();
    let routing = Routing { policy, exhausted: Exhausted::Last };
    Engine::start(
        // Of which 64 for those who are no validators.
        &EngineSpec { max_in_flight: 73, max_lends: 3, max_hung: 8, threads: 0 },
        routing,
        stages,
    )
}

/// An image of one brightness; the same level gives the same digest.
fn grey(level: u8) -> Arc<Image> {
    Arc::new(Image::from_rgb(2, 2, vec![level; 12]).unwrap())
}

/// Twelve white images, and this one in the fourth place.
fn among_others(image: Arc<Image>) -> Vec<Arc<Image>> {
    let mut images = vec![grey(255); 12];
    images.insert(3, image);
    images
}

fn request(image: &Arc<Image>, within: Duration) -> Request {
    let deadline = clock::now() + within;
    Request { input: Input::Image(image.clone()), deadline, priority: Priority::Normal }
}

async fn ask(engine: &Engine, image: &Arc<Image>) -> Outcome {
    engine.submit(request(image, LONG))?.wait().await
}

async fn ask_all(engine: &Engine, images: &[Arc<Image>]) -> Vec<Outcome> {
    let tickets: Vec<_> =
        images.iter().map(|image| engine.submit(request(image, LONG)).unwrap()).collect();
    let mut outcomes = Vec::new();
    for ticket in tickets {
        outcomes.push(ticket.wait().await);
    }
    outcomes
}

#[actix::test]
async fn a_doubtful_image_escalates_and_a_sure_one_exits() {
    let engine = start(vec![plan("a", "", spec()), plan("b", "answer = 0.7", spec())]);
    let sure = ask(&engine, &grey(255)).await.unwrap();
    assert_eq!((&*sure.stage, sure.trace.len()), ("a", 1));
    let doubtful = ask(&engine, &grey(128)).await.unwrap();
    assert_eq!((&*doubtful.stage, doubtful.trace.len()), ("b", 2));
    assert_eq!(doubtful.degraded, None);
    engine.stop().await;
}

#[actix::test]
async fn a_poison_image_fails_alone() {
    let poison = grey(77);
    let script = format!("base_ms = 20\n[image]\npanic = [\"{}\"]", &poison.digest_hex()[..16]);
    let engine = start(vec![plan("a", &script, spec()), plan("b", "answer = 0.6", spec())]);
    assert!(engine.settled(LONG).await);
    for (index, outcome) in ask_all(&engine, &among_others(poison)).await.into_iter().enumerate() {
        let verdict = outcome.unwrap();
        let expected = if index == 3 { "b" } else { "a" };
        assert_eq!(&*verdict.stage, expected, "image {index}: {verdict:?}");
        assert_eq!(verdict.degraded.is_some(), index == 3, "image {index}: {verdict:?}");
    }
    assert_eq!(engine.board().stages()[0].restarts, 2, "its batch, and alone");
    engine.stop().await;
}

#[actix::test]
async fn a_fault_that_the_backend_reports_costs_no_restart() {
    let poison = grey(78);
    let script = format!("base_ms = 20\n[image]\nbroken = [\"{}\"]", &poison.digest_hex()[..16]);
    let engine = start(vec![plan("a", &script, spec()), plan("b", "answer = 0.6", spec())]);
    assert!(engine.settled(LONG).await);
    for (index, outcome) in ask_all(&engine, &among_others(poison)).await.into_iter().enumerate() {
        let verdict = outcome.unwrap();
        assert_eq!(&*verdict.stage, if index == 3 { "b" } else { "a" }, "{index}: {verdict:?}");
    }
    assert_eq!(engine.board().stages()[0].restarts, 0);
    engine.stop().await;
}

#[actix::test]
async fn a_backend_that_is_broken_for_every_image_is_built_afresh() {
    let engine = start(vec![plan("a", "answer = 0.9\nbatch.broken_every = 1", spec())]);
    assert!(engine.settled(LONG).await);
    let outcomes = ask_all(&engine, &vec![grey(1); 8]).await;
    assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
    assert!(engine.board().stages()[0].restarts >= 1);
    engine.stop().await;
}

#[actix::test]
async fn a_hung_instance_is_left_behind_and_its_jobs_are_answered() {
    let hanging = grey(99);
    let script = format!("[image]\nhang = [\"{}\"]", &hanging.digest_hex()[..16]);
    let stage = StageSpec { hang_ms: 100, ..spec() };
    let engine = start(vec![plan("a", &script, stage), plan("b", "answer = 0.6", spec())]);
    assert!(engine.settled(LONG).await);
    let outcomes = ask_all(&engine, &[grey(255), hanging, grey(254)]).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let hung = outcomes[1].as_ref().unwrap();
    assert_eq!(&*hung.stage, "b");
    assert!(hung.trace.iter().any(|hop| hop.outcome == HopOutcome::Failed(Cause::Hang)));
    let status = &engine.board().stages()[0];
    assert!(status.abandoned >= 1 && status.state != StageState::Down, "{status:?}");
    engine.stop().await;
}

#[actix::test]
async fn a_batch_that_is_too_big_is_split() {
    let engine = start(vec![plan("a", "base_ms = 20\ntoo_big_above = 1\nanswer = 0.9", spec())]);
    assert!(engine.settled(LONG).await);
    let outcomes = ask_all(&engine, &vec![grey(1); 16]).await;
    assert!(outcomes.iter().all(|o| o.as_ref().is_ok_and(|v| v.degraded.is_none())));
    assert_eq!(engine.board().stages()[0].restarts, 0, "too big is no reason to restart");
    engine.stop().await;
}

#[actix::test]
async fn a_wrong_number_of_predictions_and_a_broken_backend_lose_nothing() {
    for fault in ["wrong_count_every", "broken_every", "retry_every", "panic_every"] {
        let script = format!("answer = 0.9\nbatch.{fault} = 7");
        let engine = start(vec![plan("a", &script, spec())]);
        let outcomes = ask_all(&engine, &vec![grey(1); 60]).await;
        let answered = outcomes.iter().filter(|o| o.is_ok()).count();
        assert_eq!(answered, 60, "{fault}: {outcomes:?}");
        engine.stop().await;
    }
}

#[actix::test]
async fn a_stage_that_cannot_load_goes_down_and_the_other_answers_degraded() {
    let engine = start(vec![plan("a", "", spec()), plan("b", "fail_loads = 1000", spec())]);
    assert!(engine.settled(LONG).await);
    let states: Vec<_> = engine.board().stages().iter().map(|s| s.state).collect();
    assert_eq!(states, [StageState::Ready, StageState::Down]);
    assert!(engine.board().can_answer());
    let verdict = ask(&engine, &grey(128)).await.unwrap();
    assert_eq!((&*verdict.stage, verdict.degraded), ("a", Some(Degraded::StageDown)));
    engine.stop().await;
}

#[actix::test]
async fn with_every_stage_down_the_rejection_says_why() {
    let engine = start(vec![plan("a", "fail_loads = 1000", spec())]);
    assert!(engine.settled(LONG).await);
    assert!(!engine.board().can_answer());
    let Err(Rejection::Unavailable { detail }) = ask(&engine, &grey(1)).await else { panic!() };
    assert_eq!(detail, "a is down");
    engine.stop().await;
}

#[actix::test]
async fn at_the_deadline_the_best_so_far_goes_out() {
    let slow = plan("b", "base_ms = 60000", spec());
    let engine = start(vec![plan("a", "", spec()), slow]);
    assert!(engine.settled(LONG).await);
    let image = grey(128);
    let ticket = engine.submit(request(&image, Duration::from_millis(500))).unwrap();
    let verdict = ticket.wait().await.unwrap();
    assert_eq!((&*verdict.stage, verdict.degraded), ("a", Some(Degraded::Deadline)));
    let only_slow = start(vec![plan("c", "base_ms = 60000", spec())]);
    let ticket = only_slow.submit(request(&image, Duration::from_millis(100))).unwrap();
    assert_eq!(ticket.wait().await, Err(Rejection::Deadline));
}

#[actix::test]
async fn the_gate_refuses_what_is_too_much_and_cancelling_frees_the_place() {
    let engine = start(vec![plan("a", "base_ms = 60000", spec())]);
    let image = grey(1);
    let mut tickets: Vec<_> =
        (0..64).map(|_| engine.submit(request(&image, LONG)).unwrap()).collect();
    let Err(Rejection::Overloaded { retry_after }) = engine.submit(request(&image, LONG)) else {
        panic!("the gate is open")
    };
    assert!(retry_after >= Duration::from_secs(1));
    tickets.pop();
    assert!(engine.submit(request(&image, LONG)).is_ok(), "a client left, its place is free");
}

#[actix::test]
async fn draining_finishes_what_is_in_flight_and_refuses_the_rest() {
    let engine = start(vec![plan("a", "base_ms = 50\nanswer = 0.9", spec())]);
    let image = grey(1);
    let tickets: Vec<_> = (0..8).map(|_| engine.submit(request(&image, LONG)).unwrap()).collect();
    let waiting = actix::spawn(async move {
        let mut answered = 0;
        for ticket in tickets {
            answered += usize::from(ticket.wait().await.is_ok());
        }
        answered
    });
    assert!(engine.drain(LONG).await);
    assert_eq!(engine.submit(request(&image, LONG)).err(), Some(Rejection::Draining));
    assert_eq!(waiting.await.unwrap(), 8);
    engine.stop().await;
}

#[actix::test]
async fn a_drain_waits_for_whom_it_has_admitted() {
    let engine = start(vec![plan("a", "answer = 0.9", spec())]);
    let admission = engine.admit(clock::now() + LONG, Priority::Normal, Duration::ZERO).unwrap();
    assert!(!engine.drain(Duration::from_millis(50)).await, "somebody is still reading");
    assert!(
        engine.admit(clock::now() + LONG, Priority::Normal, Duration::ZERO).is_err(),
        "nobody else comes in"
    );
    let ticket = engine.submit_admitted(request(&grey(1), LONG), &admission).unwrap();
    drop(admission);
    assert!(ticket.wait().await.is_ok());
    assert!(engine.drain(LONG).await);
    engine.stop().await;
}
