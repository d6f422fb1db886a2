use std::time::SystemTime;

use proptest::prelude::*;

use super::super::Neuron;
use super::*;

fn key(n: u8) -> Hotkey {
    Hotkey::new([n; 32])
}

fn snapshot(neurons: &[(u8, bool, f64)]) -> Snapshot {
    let neurons = neurons.iter().map(|&(n, validator_permit, stake)| {
        (key(n), Neuron { uid: n.into(), validator_permit, stake })
    });
    let taken_at = SystemTime::UNIX_EPOCH;
    Snapshot { netuid: 72, block: None, taken_at, neurons: neurons.collect() }
}

fn callers(change: impl FnOnce(&mut CallersSpec)) -> Callers {
    let mut spec = CallersSpec::default();
    change(&mut spec);
    Callers::new(&spec).unwrap()
}

fn caller(n: u8) -> Caller {
    Caller { hotkey: key(n), uid: None, stake: None, class: Class::Normal }
}

#[test]
fn registered_hotkeys_with_a_permit_may_call() {
    let metagraph = snapshot(&[(1, true, 999.9), (2, true, 1000.0), (3, false, 9e9)]);
    let callers = callers(|_| {});
    let allowed = |n: u8| callers.check(key(n), Some(&metagraph));
    let expected = |n: u8, stake, class| {
        Ok(Caller { hotkey: key(n), uid: Some(n.into()), stake: Some(stake), class })
    };
    assert_eq!(allowed(1), expected(1, 999.9, Class::Normal));
    assert_eq!(allowed(2), expected(2, 1000.0, Class::Validator));
    assert_eq!(allowed(3), Err(NotAllowed::NoPermit));
    assert_eq!(allowed(4), Err(NotAllowed::NotRegistered));
    assert_eq!(callers.check(key(1), None), Err(NotAllowed::NoMetagraph));
}

#[test]
fn stake_and_permit_are_asked_for_as_configured() {
    let metagraph = snapshot(&[(1, false, 9.9), (2, false, 10.0), (3, true, f64::NAN)]);
    let callers = callers(|spec| {
        spec.require_permit = false;
        spec.min_stake = 10.0;
    });
    assert_eq!(callers.check(key(1), Some(&metagraph)), Err(NotAllowed::LowStake));
    assert!(callers.check(key(2), Some(&metagraph)).is_ok());
    assert_eq!(callers.check(key(3), Some(&metagraph)), Err(NotAllowed::LowStake));
    assert_eq!(callers.check(key(4), Some(&metagraph)), Err(NotAllowed::NotRegistered));
}

#[test]
fn a_star_lets_everybody_in_but_those_who_are_denied() {
    let mut spec = CallersSpec { allow: vec![EVERYBODY.into()], ..CallersSpec::default() };
    spec.deny = vec![key(2).to_string()];
    let callers = Callers::new(&spec).unwrap();
    assert!(callers.check(key(1), None).is_ok());
    assert_eq!(callers.check(key(2), None), Err(NotAllowed::Denied));
    spec.deny.push(EVERYBODY.into());
    assert!(Callers::new(&spec).is_err());
}

#[test]
fn the_allow_list_needs_no_metagraph_and_the_deny_list_beats_it() {
    let callers = callers(|spec| {
        spec.allow = vec![key(1).to_string(), key(2).to_string()];
        spec.deny = vec![key(2).to_string(), key(3).to_string()];
    });
    let metagraph = snapshot(&[(1, false, 5000.0), (2, true, 5000.0), (3, true, 5000.0)]);
    let stranger = caller(1);
    assert_eq!(callers.check(key(1), None), Ok(stranger));
    assert_eq!(callers.check(key(1), Some(&snapshot(&[]))), Ok(stranger));
    let known = callers.check(key(1), Some(&metagraph)).unwrap();
    assert_eq!((known.uid, known.class), (Some(1), Class::Validator));
    for metagraph in [None, Some(&metagraph)] {
        assert_eq!(callers.check(key(2), metagraph), Err(NotAllowed::Denied));
        assert_eq!(callers.check(key(3), metagraph), Err(NotAllowed::Denied));
    }
}

#[test]
fn settings_that_make_no_sense_are_refused_with_the_place() {
    let said = |change: fn(&mut CallersSpec)| {
        let mut spec = CallersSpec::default();
        change(&mut spec);
        Callers::new(&spec).unwrap_err().to_string()
    };
    let alice = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
    assert!(alice.parse::<Hotkey>().is_ok());
    let second = said(|spec| spec.allow = vec![key(1).to_string(), "5abc".into()]);
    assert!(second.starts_with("allow[1] is no hotkey, not an SS58 address"), "{second}");
    assert!(said(|spec| spec.deny = vec![String::new()]).starts_with("deny[0] is no hotkey"));
    assert!(said(|spec| spec.min_stake = f64::NAN).starts_with("min_stake = NaN"));
    assert!(said(|spec| spec.priority_stake = -1.0).starts_with("priority_stake = -1"));
    assert!(said(|spec| spec.min_stake = f64::INFINITY).starts_with("min_stake = inf"));
    assert!(said(|spec| spec.max_per_minute = 0).starts_with("max_per_minute = 0"));
    assert!(said(|spec| spec.max_concurrent = 0).starts_with("max_concurrent = 0"));
}

#[test]
fn labels_are_few() {
    let reasons = [
        NotAllowed::Denied,
        NotAllowed::NoMetagraph,
        NotAllowed::NotRegistered,
        NotAllowed::NoPermit,
        NotAllowed::LowStake,
    ];
    let labels = reasons.map(NotAllowed::as_str);
    assert_eq!(labels, ["denied", "no_metagraph", "not_registered", "no_permit", "low_stake"]);
    let rate = Busy::Rate { retry_after: Duration::ZERO };
    assert_eq!([rate.as_str(), Busy::Concurrency.as_str()], ["rate", "concurrency"]);
}

#[test]
fn a_minutes_worth_may_come_at_once_and_then_one_by_one() {
    let callers = callers(|spec| spec.max_per_minute = 6);
    let start = crate::clock::now();
    let at = |seconds: f64| callers.enter(&caller(1), start + Duration::from_secs_f64(seconds));
    for _ in 0..6 {
        assert!(at(0.0).is_ok());
    }
    let Err(Busy::Rate { retry_after }) = at(1.0) else { panic!("the bucket is empty") };
    assert_eq!(retry_after, Duration::from_secs(9));
    assert!(at(9.999).is_err());
    assert!(at(10.0).is_ok());
    assert!(at(10.0).is_err());
    assert!(callers.enter(&caller(2), start).is_ok(), "one caller's rate is not another's");
    assert_eq!((0..10).filter(|_| at(1000.0).is_ok()).count(), 6);
}

#[test]
fn seats_are_few_for_each_and_come_back() {
    let callers = callers(|spec| spec.max_concurrent = 2);
    let now = crate::clock::now();
    let (first, second) = (callers.enter(&caller(1), now), callers.enter(&caller(1), now));
    assert_eq!(callers.enter(&caller(1), now).unwrap_err(), Busy::Concurrency);
    assert!(callers.enter(&caller(2), now).is_ok(), "one caller's seats are not another's");
    drop(first);
    let third = callers.enter(&caller(1), now).unwrap();
    assert!(callers.enter(&caller(1), now).is_err());
    drop((second, third));
    assert!(callers.enter(&caller(1), now).is_ok());
}

#[test]
fn those_who_left_are_forgotten_and_those_here_are_not() {
    let callers = callers(|_| {});
    let start = crate::clock::now();
    let stays = callers.enter(&caller(0), start).unwrap();
    for n in 1..=200 {
        drop(callers.enter(&caller(n), start));
    }
    assert_eq!(callers.remembered(), 201);
    let later = start + Duration::from_secs(61);
    drop(callers.enter(&caller(201), later));
    assert_eq!(callers.remembered(), 2, "the one who is here and the last");
    drop(stays);
    drop(callers.enter(&caller(202), later + Duration::from_secs(61)));
    assert_eq!(callers.remembered(), 1);
}

#[test]
fn a_seat_outlives_the_rules_it_was_given_under() {
    let callers = callers(|_| {});
    let seat = callers.enter(&caller(1), crate::clock::now()).unwrap();
    drop(callers);
    drop(seat);
}

/// What happens at the door: after so many milliseconds a caller comes, or one who is in leaves.
#[derive(Clone, Debug)]
enum Event {
    Comes(u8),
    Leaves(prop::sample::Index),
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let event = prop_oneof![
        3 => (0..3_u8).prop_map(Event::Comes),
        1 => any::<prop::sample::Index>().prop_map(Event::Leaves),
    ];
    let pause = prop_oneof![Just(0), 0..50_u64, 0..30_000_u64];
    prop::collection::vec((pause, event), 1..400)
}

proptest! {
    /// Whoever comes when: in no stretch of time does a caller get in more often than the bucket
    /// allows, nobody has more seats than allowed, and whoever keeps to both is let in.
    #[test]
    fn neither_rate_nor_seats_are_ever_exceeded(
        events in events(),
        per_minute in 1..40_u32,
        concurrent in 1..5_u32,
    ) {
        let callers = callers(|spec| {
            spec.max_per_minute = per_minute;
            spec.max_concurrent = concurrent;
        });
        let start = crate::clock::now();
        let mut now = 0;
        let (mut seats, mut entered) = (Vec::new(), [const { Vec::new() }; 3]);
        for (pause, event) in events {
            now += pause;
            match event {
                Event::Leaves(which) if !seats.is_empty() => {
                    drop(seats.swap_remove(which.index(seats.len())));
                }
                Event::Leaves(_) => {}
                Event::Comes(n) => {
                    let inside = seats.iter().filter(|(who, _)| *who == n).count();
                    let entered: &mut Vec<u64> = &mut entered[usize::from(n)];
                    let lately = entered.iter().filter(|at| now - **at < 60_000).count();
                    match callers.enter(&caller(n), start + Duration::from_millis(now)) {
                        Ok(seat) => {
                            prop_assert!(inside < concurrent as usize);
                            entered.push(now);
                            seats.push((n, seat));
                        }
                        Err(Busy::Concurrency) => prop_assert_eq!(inside, concurrent as usize),
                        Err(Busy::Rate { retry_after }) => {
                            prop_assert!(lately > 0 && retry_after <= Duration::from_secs(60));
                            prop_assert!(inside < concurrent as usize);
                        }
                    }
                }
            }
        }
        for times in entered {
            for (first, from) in times.iter().enumerate() {
                for (count, to) in (1..).zip(&times[first..]) {
                    let refilled = (to - from) * u64::from(per_minute) / 60_000;
                    prop_assert!(count <= u64::from(per_minute) + refilled, "{times:?}");
                }
            }
        }
    }

    /// The deny list wins over everything, and nobody gets in without a reason to.
    #[test]
    fn who_may_call_is_what_the_rules_say(
        n in 0..4_u8,
        allow in prop::collection::vec(0..4_u8, 0..3),
        deny in prop::collection::vec(0..4_u8, 0..3),
        neurons in prop::collection::vec((0..4_u8, any::<bool>(), 0.0..20.0_f64), 0..4),
        has_metagraph: bool,
        require_permit: bool,
    ) {
        let text = |list: &[u8]| list.iter().map(|n| key(*n).to_string()).collect::<Vec<_>>();
        let callers = callers(|spec| {
            (spec.allow, spec.deny) = (text(&allow), text(&deny));
            (spec.require_permit, spec.min_stake) = (require_permit, 10.0);
        });
        let metagraph = snapshot(&neurons);
        let metagraph = has_metagraph.then_some(&metagraph);
        let neuron = metagraph.and_then(|metagraph| metagraph.neurons.get(&key(n)));
        let is_fit = neuron.is_some_and(|neuron| {
            neuron.stake >= 10.0 && (neuron.validator_permit || !require_permit)
        });
        let expected = !deny.contains(&n) && (allow.contains(&n) || is_fit);
        prop_assert_eq!(callers.check(key(n), metagraph).is_ok(), expected);
    }
}
