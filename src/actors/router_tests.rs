use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::cascade::{Condition, StageRule, policy};
use crate::prediction::Degraded;

const UP: StageView = StageView { available: true, predicted: Duration::from_millis(10) };
const DOWN: StageView = StageView { available: false, predicted: Duration::ZERO };
const MAX_LENDS: u8 = 3;

fn router(stages: usize) -> Router {
    let rule = StageRule { exit_below: 0.15, exit_above: 0.85, when: Condition::default() };
    let policy = policy("cascade", vec![rule; stages], Exhausted::Last).unwrap();
    let names = (0..stages).map(|i| format!("s{i}").into()).collect();
    Router::new(policy, Exhausted::Last, names, MAX_LENDS)
}

fn arrive(router: &mut Router, job: u64, now: Instant) -> Vec<Effect> {
    let deadline = now + Duration::from_secs(1);
    let arrived = Event::Arrived {
        job: JobId(job),
        kind: InputKind::Image,
        priority: Priority::Normal,
        deadline,
    };
    router.on(arrived, &[UP, UP], now)
}

fn said(stage: StageIndex, says: &[(u64, f32)]) -> Event {
    let predictions = says.iter().map(|(job, p)| (JobId(*job), Prediction::from_raw(*p))).collect();
    Event::Answered { stage, predictions }
}

fn failed(stage: StageIndex, cause: Cause, jobs: &[u64]) -> Event {
    Event::Failed { stage, cause, jobs: jobs.iter().map(|j| JobId(*j)).collect() }
}

fn lent_to(effects: &[Effect]) -> Vec<(u64, StageIndex, bool)> {
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Lend { job, stage, passage, .. } => {
                (job.0, *stage, *passage != Passage::Shared)
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_doubtful_job_escalates_with_its_best_so_far() {
    let now = crate::clock::now();
    let mut router = router(2);
    assert_eq!(lent_to(&arrive(&mut router, 1, now)), [(1, 0, false)]);
    let effects = router.on(said(0, &[(1, 0.6)]), &[UP, UP], now);
    let [Effect::Lend { stage: 1, from: Some(0), best: Some(best), .. }] = effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    assert_eq!(best.probability.get(), 0.6);
    let effects = router.on(said(1, &[(1, 0.9)]), &[UP, UP], now);
    let [Effect::Answer { verdict, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((&*verdict.stage, verdict.trace.len(), verdict.degraded), ("s1", 2, None));
    assert!(router.is_empty());
}

#[test]
fn the_members_of_a_fallen_batch_are_retried_alone_and_the_poison_alone_goes_on() {
    let now = crate::clock::now();
    let mut router = router(2);
    for job in 1..=2 {
        arrive(&mut router, job, now);
    }
    let effects = router.on(failed(0, Cause::Panic, &[1, 2]), &[UP, UP], now);
    assert_eq!(lent_to(&effects), [(1, 0, true), (2, 0, true)]);
    let effects = router.on(failed(0, Cause::Panic, &[1]), &[UP, UP], now);
    // Never to that stage again; and alone, since it may be poison to the next one too.
    assert_eq!(lent_to(&effects), [(1, 1, true)]);
    let effects = router.on(said(0, &[(2, 0.01)]), &[UP, UP], now);
    let [Effect::Answer { verdict, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(verdict.degraded, None, "the batch-mate got its real prediction");
}

#[test]
fn a_poison_without_another_stage_ends_with_a_clear_rejection() {
    let now = crate::clock::now();
    let mut router = router(2);
    arrive(&mut router, 1, now);
    let effects = router.on(failed(0, Cause::Panic, &[1]), &[UP, DOWN], now);
    assert_eq!(lent_to(&effects), [(1, 0, true)], "one fall proves nothing");
    let effects = router.on(failed(0, Cause::Panic, &[1]), &[UP, DOWN], now);
    assert_eq!(lent_to(&effects), [(1, 0, true)], "nobody else can answer: one last chance");
    let effects = router.on(failed(0, Cause::Panic, &[1]), &[UP, DOWN], now);
    let [Effect::Reject { rejection: Rejection::Unavailable { detail }, .. }] = effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    assert_eq!(detail, "s0 failed on this image (panic), s1 is down");
}

#[test]
fn after_a_last_chance_in_vain_two_falls_are_the_end() {
    let now = crate::clock::now();
    let mut router = router(1);
    arrive(&mut router, 1, now);
    for _ in 0..3 {
        router.on(failed(0, Cause::Panic, &[1]), &[UP], now);
    }
    arrive(&mut router, 2, now);
    router.on(failed(0, Cause::Hang, &[2]), &[UP], now);
    let effects = router.on(failed(0, Cause::Hang, &[2]), &[UP], now);
    assert!(matches!(effects.as_slice(), [Effect::Reject { .. }]), "{effects:?}");
}

#[test]
fn a_backend_that_falls_now_and_then_costs_no_innocent_its_answer() {
    let now = crate::clock::now();
    let mut router = router(1);
    for job in 1..=20 {
        arrive(&mut router, job, now);
        router.on(failed(0, Cause::Panic, &[job]), &[UP], now);
        router.on(failed(0, Cause::Panic, &[job]), &[UP], now);
        let effects = router.on(said(0, &[(job, 0.9)]), &[UP], now);
        assert!(matches!(effects.as_slice(), [Effect::Answer { .. }]), "{job}: {effects:?}");
        for calm in 0..8 {
            arrive(&mut router, 1000 + calm, now);
            router.on(said(0, &[(1000 + calm, 0.9)]), &[UP], now);
        }
    }
}

#[test]
fn in_a_flood_of_poison_jobs_travel_alone_and_one_fall_convicts() {
    let now = crate::clock::now();
    let mut router = router(2);
    for job in 1..=4 {
        arrive(&mut router, job, now);
        router.on(failed(0, Cause::Panic, &[job]), &[UP, UP], now);
        let effects = router.on(failed(0, Cause::Panic, &[job]), &[UP, UP], now);
        assert_eq!(lent_to(&effects), [(job, 1, true)]);
    }
    assert_eq!(lent_to(&arrive(&mut router, 9, now)), [(9, 0, true)], "nobody shares its fate");
    let effects = router.on(failed(0, Cause::Panic, &[9]), &[UP, UP], now);
    assert_eq!(lent_to(&effects), [(9, 1, true)], "one fall is enough");
}

#[test]
fn who_is_convicted_gets_one_try_elsewhere() {
    let now = crate::clock::now();
    let mut router = router(2);
    arrive(&mut router, 1, now);
    router.on(failed(0, Cause::Panic, &[1]), &[UP, UP], now);
    router.on(failed(0, Cause::Panic, &[1]), &[UP, UP], now);
    let effects = router.on(failed(1, Cause::Panic, &[1]), &[UP, UP], now);
    assert!(matches!(effects.as_slice(), [Effect::Reject { .. }]), "three falls: {effects:?}");
}

#[test]
fn the_door_learns_where_jobs_go_first() {
    let now = crate::clock::now();
    let router = router(2);
    assert_eq!(router.entries(InputKind::Image, &[UP, UP], now), [0, 1]);
    assert_eq!(router.entries(InputKind::Image, &[DOWN, UP], now), [1]);
    assert!(router.entries(InputKind::Image, &[DOWN, DOWN], now).is_empty());
}

#[test]
fn a_passing_failure_is_tried_again_a_bounded_number_of_times() {
    let now = crate::clock::now();
    let mut router = router(1);
    let mut effects = arrive(&mut router, 1, now);
    for _ in 0..MAX_LENDS {
        assert_eq!(lent_to(&effects), [(1, 0, false)]);
        effects = router.on(failed(0, Cause::Retry, &[1]), &[UP], now);
    }
    assert!(matches!(effects.as_slice(), [Effect::Reject { .. }]), "{effects:?}");
}

#[test]
fn what_was_queued_at_a_stage_that_goes_down_was_not_lent() {
    let now = crate::clock::now();
    let mut router = router(2);
    arrive(&mut router, 1, now);
    let returned = Event::Returned { stage: 0, jobs: vec![JobId(1)] };
    let effects = router.on(returned, &[DOWN, UP], now);
    assert_eq!(lent_to(&effects), [(1, 1, false)], "no suspect");
    let effects = router.on(Event::Returned { stage: 1, jobs: vec![JobId(1)] }, &[DOWN, UP], now);
    let [Effect::Lend { stage: 1, from: None, .. }] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    let effects = router.on(said(1, &[(1, 0.9)]), &[DOWN, UP], now);
    let [Effect::Answer { verdict, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(verdict.trace.len(), 1, "a stage that was not asked is not in the trace");
}

#[test]
fn a_late_answer_from_elsewhere_changes_nothing() {
    let now = crate::clock::now();
    let mut router = router(2);
    arrive(&mut router, 1, now);
    assert!(router.on(said(1, &[(1, 0.9)]), &[UP, UP], now).is_empty(), "not lent there");
    router.on(Event::Closed { job: JobId(1) }, &[UP, UP], now);
    assert!(router.on(said(0, &[(1, 0.9)]), &[UP, UP], now).is_empty(), "closed");
}

#[test]
fn a_failure_that_was_made_up_for_does_not_degrade() {
    let now = crate::clock::now();
    let mut router = router(1);
    arrive(&mut router, 1, now);
    router.on(failed(0, Cause::Retry, &[1]), &[UP], now);
    let effects = router.on(said(0, &[(1, 0.5)]), &[UP], now);
    let [Effect::Answer { verdict, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(verdict.degraded, None);
}

#[test]
fn an_escalation_to_a_fallen_stage_is_degraded() {
    let now = crate::clock::now();
    let mut router = router(2);
    arrive(&mut router, 1, now);
    router.on(said(0, &[(1, 0.5)]), &[UP, UP], now);
    router.on(failed(1, Cause::Panic, &[1]), &[UP, UP], now);
    let effects = router.on(failed(1, Cause::Panic, &[1]), &[UP, UP], now);
    let [Effect::Answer { verdict, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(verdict.degraded, Some(Degraded::StageFailed));
}

/// One random happening in the life of the engine.
#[derive(Clone, Debug)]
enum Happening {
    Arrive,
    Answer { stage: usize, take: usize, p: f32 },
    Fail { stage: usize, take: usize, cause: usize },
    Return { stage: usize, take: usize },
    Close(usize),
    Toggle(usize),
    Pass(u64),
}

fn happening(stages: usize) -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => Just(Happening::Arrive),
        6 => (0..stages, 1usize..5, 0.0f32..=1.0)
            .prop_map(|(stage, take, p)| Happening::Answer { stage, take, p }),
        3 => (0..stages, 1usize..5, 0..Cause::ALL.len())
            .prop_map(|(stage, take, cause)| Happening::Fail { stage, take, cause }),
        1 => (0..stages, 1usize..5).prop_map(|(stage, take)| Happening::Return { stage, take }),
        1 => (0usize..40).prop_map(Happening::Close),
        1 => (0..stages).prop_map(Happening::Toggle),
        1 => (1u64..400).prop_map(Happening::Pass),
    ]
}

/// The world around the router: who holds which job, who has been answered.
#[derive(Default)]
struct World {
    held: Vec<Vec<u64>>,
    lends: std::collections::HashMap<(u64, usize), u8>,
    answered: HashSet<u64>,
    gone: HashSet<u64>,
}

impl World {
    fn apply(&mut self, effects: Vec<Effect>, up: &[bool]) -> Result<(), TestCaseError> {
        for effect in effects {
            match effect {
                Effect::Lend { job, stage, .. } => {
                    prop_assert!(!self.answered.contains(&job.0), "lent after its answer");
                    prop_assert!(up[stage], "lent to a stage that is down");
                    prop_assert!(
                        self.held.iter().all(|h| !h.contains(&job.0)),
                        "lent twice at once"
                    );
                    let lends = self.lends.entry((job.0, stage)).or_default();
                    *lends += 1;
                    prop_assert!(*lends <= MAX_LENDS, "lent too often");
                    self.held[stage].push(job.0);
                }
                Effect::Answer { job, .. } | Effect::Reject { job, .. } => {
                    prop_assert!(self.answered.insert(job.0), "answered twice");
                    prop_assert!(!self.gone.contains(&job.0), "answered after it was closed");
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever happens in whatever order: each job is answered at most once, is in at most one
    /// place, is lent a bounded number of times, and every job that is not out is held by a stage,
    /// so that it can still be answered.
    #[test]
    fn every_promise_holds_under_random_events(
        stages in 1usize..4, happenings in prop::collection::vec(happening(3), 1..120),
    ) {
        let mut router = router(stages);
        let mut now = crate::clock::now();
        let mut up = vec![true; stages];
        let mut world = World { held: vec![Vec::new(); stages], ..World::default() };
        let mut arrived = 0_u64;
        for happening in happenings {
            let mut take = |stage: usize, n: usize| -> Vec<u64> {
                let held = &mut world.held[stage];
                held.drain(..n.min(held.len())).collect()
            };
            let event = match happening {
                Happening::Arrive => {
                    arrived += 1;
                    let deadline = now + Duration::from_millis(500);
                    Event::Arrived {
                        job: JobId(arrived),
                        kind: InputKind::Image,
                        priority: Priority::Normal,
                        deadline,
                    }
                }
                Happening::Answer { stage, take: n, p } if stage < stages => {
                    let jobs: Vec<_> = take(stage, n).into_iter().map(|job| (job, p)).collect();
                    said(stage, &jobs)
                }
                Happening::Fail { stage, take: n, cause } if stage < stages => {
                    failed(stage, Cause::ALL[cause], &take(stage, n))
                }
                Happening::Return { stage, take: n } if stage < stages => {
                    up[stage] = false;
                    let jobs = take(stage, n);
                    for job in &jobs {
                        *world.lends.entry((*job, stage)).or_default() -= 1;
                    }
                    Event::Returned { stage, jobs: jobs.into_iter().map(JobId).collect() }
                }
                Happening::Close(n) => {
                    let job = n as u64 % (arrived + 1);
                    if !world.answered.contains(&job) { world.gone.insert(job); }
                    for held in &mut world.held { held.retain(|h| *h != job); }
                    Event::Closed { job: JobId(job) }
                }
                Happening::Toggle(stage) if stage < stages => { up[stage] = !up[stage]; continue }
                Happening::Pass(ms) => { now += Duration::from_millis(ms); continue }
                _ => continue,
            };
            let views: Vec<_> = up.iter().map(|u| if *u { UP } else { DOWN }).collect();
            let effects = router.on(event, &views, now);
            world.apply(effects, &up)?;
            let held: usize = world.held.iter().map(Vec::len).sum();
            prop_assert_eq!(router.len(), held, "a job is nowhere");
        }
    }
}
