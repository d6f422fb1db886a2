//! What is done when: requests and reloads, drawn from the seed.

use std::iter;
use std::time::Duration;

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use roadcrew::actors::batching::BatchingSpec;

use super::pictures::{Album, Fault};

/// A request whose deadline is at least this far away is patient: a hang (three times `hang_ms`, at
/// most) with its restarts and the queue behind it fits.
pub(crate) const PATIENT: Duration = Duration::from_secs(2);

/// Pictures that hang a stage are this far apart: two at once do not fit into [`PATIENT`].
const BETWEEN_HANGS: Duration = Duration::from_millis(2_500);

/// One client leaves before its reply in so many.
const LEAVES: f64 = 1.0 / 12.0;
/// One body comes in pieces in so many.
const SLOW: f64 = 1.0 / 20.0;
/// One deadline is tight in so many.
const TIGHT: f64 = 1.0 / 10.0;
/// One arrival in so many brings a crowd.
const CROWD: f64 = 1.0 / 400.0;
/// So many requests are due together with a poison.
const COMPANY: u32 = 4;

/// How a client leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leaving {
    /// Says goodbye.
    Fin,
    /// Slams the door.
    Rst,
}

/// When a client leaves, if it has no reply by then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leave {
    pub(crate) how: Leaving,
    /// After half the body, or after all of it.
    pub(crate) whole: bool,
    /// So long after that part was sent.
    pub(crate) after: Duration,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) id: u64,
    /// After the beginning.
    pub(crate) due: Duration,
    pub(crate) poison: bool,
    /// Its number among the poisons, or among the innocent.
    pub(crate) picture: usize,
    pub(crate) deadline: Duration,
    pub(crate) priority: &'static str,
    /// A pause in the middle of the body.
    pub(crate) pause: Option<Duration>,
    pub(crate) leave: Option<Leave>,
    /// Whether the connection is used again.
    pub(crate) keep: bool,
}

impl Planned {
    pub(crate) fn is_patient(&self) -> bool {
        self.deadline >= PATIENT
    }
}

/// The requests of a run, in order of time: so many per second on average, crowds left out, and such
/// a share of them poison. Never ends.
pub(crate) fn requests(
    mut rng: ChaCha8Rng,
    (rate, poison): (f64, f64),
    album: &Album,
) -> impl Iterator<Item = Planned> {
    let (mut due, mut crowd, mut hung, mut id) = (0.0, 0_u32, None, 0);
    iter::repeat_with(move || {
        if crowd > 0 {
            crowd -= 1;
        } else {
            due += -(1.0 - rng.random::<f64>()).ln() / rate;
            crowd = if rng.random_bool(CROWD) { rng.random_range(10..30) } else { 0 };
        }
        id += 1;
        let due = Duration::from_secs_f64(due);
        let poisonous = rng.random_bool(poison);
        let mut planned = draw(&mut rng, (id, due), poisonous, album);
        if planned.poison && album.poison[planned.picture].faults.contains(&Some(Fault::Hang)) {
            if hung.is_some_and(|last| due < last + BETWEEN_HANGS) {
                planned.picture = 0;
            } else {
                hung = Some(due);
            }
        }
        // A poison does not travel alone, or there would be no batch-mates.
        crowd += if planned.poison { COMPANY } else { 0 };
        planned
    })
}

fn draw(rng: &mut ChaCha8Rng, (id, due): (u64, Duration), poison: bool, album: &Album) -> Planned {
    let pictures = if poison { &album.poison } else { &album.innocent };
    let tight = rng.random_bool(TIGHT);
    Planned {
        id,
        due,
        poison,
        picture: rng.random_range(0..pictures.len()),
        deadline: millis(rng, if tight { 150..700 } else { 2_000..5_000 }),
        priority: ["validator", "normal", "normal", "normal", "bulk"][rng.random_range(0..5)],
        pause: rng.random_bool(SLOW).then(|| millis(rng, 1..40)),
        leave: rng.random_bool(LEAVES).then(|| leave(rng)),
        keep: rng.random_bool(0.5),
    }
}

fn leave(rng: &mut ChaCha8Rng) -> Leave {
    let how = if rng.random_bool(0.5) { Leaving::Fin } else { Leaving::Rst };
    // Most replies take a few milliseconds; a stage that is being restarted takes longer.
    let after = if rng.random_bool(0.7) { millis(rng, 0..12) } else { millis(rng, 12..150) };
    Leave { how, whole: rng.random_bool(0.8), after }
}

fn millis(rng: &mut ChaCha8Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_micros(rng.random_range(range.start * 1_000..range.end * 1_000))
}

/// Settings that a reload brings.
#[derive(Clone, Debug)]
pub(crate) struct Reload {
    /// After the beginning.
    pub(crate) due: Duration,
    /// The thresholds of the first stage.
    pub(crate) exits: (f32, f32),
    /// By stage.
    pub(crate) batching: [BatchingSpec; 2],
    pub(crate) hang_ms: u64,
}

/// The reloads of a run, in order of time. Never ends.
pub(crate) fn reloads(mut rng: ChaCha8Rng, max_batch: usize) -> impl Iterator<Item = Reload> {
    let mut due = Duration::ZERO;
    iter::repeat_with(move || {
        due += millis(&mut rng, 200..700);
        let batching = [(); 2].map(|()| BatchingSpec {
            rule: ["adaptive", "window", "immediate"][rng.random_range(0..3)].into(),
            max_batch: rng.random_range(2..=max_batch),
            max_wait_ms: rng.random_range(0..8),
        });
        let exits = (rng.random_range(0.10..0.20), rng.random_range(0.80..0.90));
        Reload { due, exits, batching, hang_ms: rng.random_range(250..350) }
    })
}
