use proptest::prelude::*;

use super::super::dendrite::{NOW, S, at};
use super::*;
use crate::bittensor::window;

pub(super) const SMALL: NonceLimits = NonceLimits { capacity: 8, per_caller: 4 };

pub(super) fn key(caller: u8, nonce: u64) -> Key {
    let (own, caller) = (Hotkey::new([2; 32]), Hotkey::new([caller; 32]));
    Key::from(Claim { own, caller, uuid: "uuid", nonce })
}

pub(super) fn label(outcome: Result<(), Unverified>) -> &'static str {
    outcome.map_or_else(|error| error.as_str(), |()| "ok")
}

fn after(start: Moment, seconds: u64) -> Moment {
    let passed = Duration::from_secs(seconds);
    Moment { wall: start.wall + passed, mono: start.mono + passed }
}

#[test]
fn a_claim_is_all_of_its_parts() {
    let (own, caller) = (Hotkey::new([2; 32]), Hotkey::new([1; 32]));
    let claim = Claim { own, caller, uuid: "uuid", nonce: NOW };
    let others = [
        Claim { own: caller, ..claim },
        Claim { caller: own, ..claim },
        Claim { uuid: "", ..claim },
        Claim { uuid: "uuie", ..claim },
        Claim { nonce: NOW + 1, ..claim },
        Claim { own: caller, caller: own, ..claim },
    ];
    assert_eq!(Key::from(claim).id, Key::from(claim).id);
    for other in others {
        assert_ne!(Key::from(claim).id, Key::from(other).id, "{other:?}");
    }
}

#[test]
fn a_first_start_refuses_what_is_older() {
    let nonces = Nonces::in_memory(SMALL, at(NOW));
    assert_eq!(nonces.settles_in(at(NOW)), Duration::ZERO);
    assert_eq!(label(nonces.accept(&key(1, NOW), at(NOW + S))), "unremembered");
    assert_eq!(label(nonces.accept(&key(1, NOW + 1), at(NOW + S))), "ok");
}

#[test]
fn nothing_is_forgotten_to_make_room() {
    let start = at(NOW);
    let nonces = Nonces::in_memory(SMALL, at(NOW - S));
    for caller in 1..=8 {
        assert_eq!(label(nonces.accept(&key(caller, NOW), start)), "ok");
    }
    assert_eq!(label(nonces.accept(&key(9, NOW), after(start, 59))), "full");
    assert_eq!(label(nonces.accept(&key(1, NOW), after(start, 59))), "replayed");
    assert_eq!(label(nonces.accept(&key(9, NOW + 1), after(start, 60))), "ok");
    assert_eq!(nonces.held(), 1);
    assert_eq!(label(nonces.accept(&key(1, NOW), after(start, 60))), "unremembered");
}

#[test]
fn one_caller_has_its_share_and_no_more() {
    let start = at(NOW);
    let nonces = Nonces::in_memory(SMALL, at(NOW - S));
    for nonce in 0..4 {
        assert_eq!(label(nonces.accept(&key(1, NOW + nonce), start)), "ok");
    }
    assert_eq!(label(nonces.accept(&key(1, NOW + 4), start)), "caller_full");
    assert_eq!(label(nonces.accept(&key(2, NOW + 4), start)), "ok");
    assert_eq!(label(nonces.accept(&key(1, NOW + 5), after(start, 60))), "ok");
}

#[test]
fn limits_of_nothing_hold_one() {
    let nothing = NonceLimits { capacity: 0, per_caller: 0 };
    let nonces = Nonces::in_memory(nothing, at(NOW - S));
    assert_eq!(label(nonces.accept(&key(1, NOW), at(NOW))), "ok");
    assert_eq!(label(nonces.accept(&key(2, NOW), at(NOW))), "full");
}

#[test]
fn a_floor_of_a_clock_that_was_wrong_is_not_believed() {
    // Started with a clock that was an hour ahead, and is set right.
    let nonces = Nonces::in_memory(SMALL, at(NOW + 3600 * S));
    assert_eq!(label(nonces.accept(&key(1, NOW), at(NOW))), "ok");
    assert_eq!(label(nonces.accept(&key(1, NOW), at(NOW))), "replayed");
    // A minute ahead is within what clocks are set back by.
    let nonces = Nonces::in_memory(SMALL, at(NOW + 60 * S));
    assert_eq!(label(nonces.accept(&key(1, NOW), at(NOW))), "unremembered");
}

#[test]
fn strange_records_are_taken_as_they_are() {
    let record =
        |id, sequence| Record { id: [id; 16], caller: [1; 16], nonce: NOW, floor: 0, sequence };
    let records = vec![record(1, 0), record(1, 1), record(2, 2), record(3, u64::MAX)];
    let mut contents = Contents::unknown_until(0);
    contents.records = records;
    let mut memory = Memory::new(&contents, SMALL, at(NOW));
    for nonce in 1..20 {
        let outcome = memory.accept(&key(1, NOW + nonce), at(NOW)).map(|_| ());
        assert!(["ok", "full", "caller_full"].contains(&label(outcome)));
    }
    assert!(memory.order.len() <= SMALL.capacity);
}

#[derive(Clone, Debug)]
enum Event {
    /// A new request, this many milliseconds old.
    Fresh(i64),
    /// An earlier one again.
    Replay(prop::sample::Index),
    /// Time passes.
    Pass(u64),
    /// The wall clock is set, to this many milliseconds behind where it would be if nobody had ever
    /// set it, or behind the furthest that it has been.
    Set(u64),
    /// The process ends and another begins.
    Restart,
}

fn event(furthest_back: u64) -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (-2000..16_000_i64).prop_map(Event::Fresh),
        4 => any::<prop::sample::Index>().prop_map(Event::Replay),
        2 => (0..30_000_u64).prop_map(Event::Pass),
        1 => (0..furthest_back).prop_map(Event::Set),
        1 => Just(Event::Restart),
    ]
}

/// A process, its file and its clocks.
struct World {
    path: PathBuf,
    limits: NonceLimits,
    nonces: Option<Nonces>,
    now: Moment,
    /// What the clock is set back from.
    reference: u64,
    adrift: bool,
    accepted: Vec<u64>,
}

impl World {
    fn new(folder: &Path, limits: NonceLimits, adrift: bool) -> Self {
        let (path, now) = (folder.join("nonces"), at(NOW));
        let nonces = Some(Nonces::open(&path, limits, now).unwrap());
        let mut world =
            Self { path, limits, nonces, now, reference: NOW, adrift, accepted: vec![] };
        world.pass(60_000);
        world
    }

    fn pass(&mut self, ms: u64) {
        self.now.wall += Duration::from_millis(ms);
        self.now.mono += Duration::from_millis(ms);
        self.reference = match self.adrift {
            true => self.reference.max(self.now.nanos()),
            false => self.reference + ms * 1_000_000,
        };
    }

    fn ask(&mut self, nonce: u64) -> &'static str {
        let limit = window::axon(Some(Duration::from_secs(12)));
        if let Err(error) = window::age(nonce, limit, self.now) {
            return error.as_str();
        }
        label(self.nonces.as_ref().unwrap().accept(&key(1, nonce), self.now))
    }

    /// What becomes of a new request, if this is one.
    fn on(&mut self, event: &Event) -> Option<&'static str> {
        match event {
            Event::Fresh(age_ms) => {
                let mut nonce = self.now.nanos().saturating_add_signed(-age_ms * 1_000_000);
                while self.accepted.contains(&nonce) {
                    nonce += 1;
                }
                let outcome = self.ask(nonce);
                if outcome == "ok" {
                    self.accepted.push(nonce);
                }
                return Some(outcome);
            }
            Event::Replay(which) if !self.accepted.is_empty() => {
                let nonce = self.accepted[which.index(self.accepted.len())];
                assert_ne!(self.ask(nonce), "ok", "{nonce} was accepted twice");
            }
            Event::Replay(_) => {}
            Event::Pass(ms) => self.pass(*ms),
            Event::Set(behind_ms) => {
                let behind = behind_ms * 1_000_000;
                self.now.wall = at(self.reference - behind).wall;
            }
            Event::Restart => {
                self.nonces = None;
                self.nonces = Some(Nonces::open(&self.path, self.limits, self.now).unwrap());
            }
        }
        None
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the clocks do within the bound, whenever the process ends, however small the memory.
    #[test]
    fn nothing_comes_back(
        events in prop::collection::vec(event(57_999), 0..200), capacity in 1..20_usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let limits = NonceLimits { capacity, per_caller: capacity };
        let mut world = World::new(folder.path(), limits, true);
        for event in &events {
            world.on(event);
        }
        for nonce in world.accepted.clone() {
            for seconds in [0, 1, 8, 16, 40] {
                world.pass(1000 * seconds);
                prop_assert_ne!(world.ask(nonce), "ok");
            }
        }
    }

    /// And nobody is refused for what the memory has forgotten, when the clock is set back by as much
    /// as is allowed for.
    #[test]
    fn nobody_else_is_refused(events in prop::collection::vec(event(40_000), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let limits = NonceLimits { capacity: 1000, per_caller: 1000 };
        let mut world = World::new(folder.path(), limits, false);
        for event in &events {
            let outcome = world.on(event);
            let edge = matches!(event, Event::Fresh(..-1990)) && outcome == Some("future");
            prop_assert!(outcome.is_none_or(|outcome| outcome == "ok") || edge, "{outcome:?}");
        }
    }
}
