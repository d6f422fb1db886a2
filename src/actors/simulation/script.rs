//! What happens to the engine from outside on one day: drawn from a seed, as a list that can be
//! shortened.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::actors::Priority;
use crate::cascade::StageIndex;

/// What a backend does to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Panic,
    WrongCount,
    Hang,
    Broken,
    Retry,
}

const FAULTS: [Fault; 5] =
    [Fault::Panic, Fault::WrongCount, Fault::Hang, Fault::Broken, Fault::Retry];

/// What a request is like.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    /// What each stage would say; NaN is an abstention.
    pub(super) scores: Vec<f32>,
    pub(super) within: Duration,
    pub(super) priority: Priority,
    /// The stage that it fells, and how.
    pub(super) poison: Option<(StageIndex, Fault)>,
    /// When its client leaves.
    pub(super) leaves_after: Option<Duration>,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Arrive(Arrival),
    /// The next batch of the stage goes wrong, whatever is in it.
    Strike {
        stage: StageIndex,
        fault: Fault,
    },
    /// Batches larger than this are too big from now on; 0 means that none is.
    TooBigAbove {
        stage: StageIndex,
        size: usize,
    },
    /// The next so many loads of the stage fail, or hang.
    FailLoads {
        stage: StageIndex,
        count: u32,
        hang: bool,
    },
    /// Loads of the stage take so long from now on.
    LoadTime {
        stage: StageIndex,
        takes: Duration,
    },
    /// Other thresholds and limits.
    Reload {
        exit_below: f32,
        exit_above: f32,
        max_batch: usize,
    },
    /// The stage's actor dies.
    ActorDies {
        stage: StageIndex,
    },
}

/// When, since the day began, and what.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// Stays the same when others are left out.
    pub(super) id: u64,
    pub(super) at: Duration,
    pub(super) act: Act,
}

/// One day.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) seed: u64,
    /// Working instances and spares of each stage.
    pub(super) crews: Vec<(usize, usize)>,
    /// Whether nothing goes wrong but images that fell a stage by panic or error: then whoever else
    /// has time gets a verdict that is not degraded.
    pub(super) only_poison: bool,
    pub(super) inputs: Vec<Input>,
}

impl Script {
    /// The day of this seed.
    pub(super) fn of(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let only_poison = seed.is_multiple_of(3);
        let stages = rng.random_range(1..=3_usize);
        let crews = (0..stages).map(|_| (rng.random_range(1..=2), rng.random_range(0..=1)));
        let mut script = Self { seed, crews: crews.collect(), only_poison, inputs: Vec::new() };
        // From a rush of seconds to a quiet quarter of an hour.
        let mean_gap = Duration::from_secs_f64(f64::powf(10.0, rng.random_range(-2.5..0.4)));
        let most = if only_poison { 0.3 } else { 0.2 };
        let poison = rng.random_range(0.0..most);
        let mut at = Duration::ZERO;
        for id in 0..rng.random_range(50..400) {
            at += mean_gap.mul_f64(-f64::ln(rng.random_range(1e-6..1.0)));
            let act = if only_poison || rng.random_bool(0.93) {
                Act::Arrive(script.arrival(&mut rng, poison))
            } else {
                script.mishap(&mut rng)
            };
            script.inputs.push(Input { id, at, act });
        }
        script
    }

    fn arrival(&self, rng: &mut ChaCha8Rng, poison: f64) -> Arrival {
        let stages = self.crews.len();
        let say = |rng: &mut ChaCha8Rng| {
            if rng.random_bool(0.03) { f32::NAN } else { rng.random_range(0.0..=1.0) }
        };
        let scores = (0..stages).map(|_| say(rng)).collect();
        let millis = if self.only_poison { 8_000 } else { rng.random_range(1..9_000) };
        let priorities = [Priority::Validator, Priority::Normal, Priority::Bulk];
        let kinds = if self.only_poison { &[0, 1, 3][..] } else { &[0, 1, 2, 3, 4][..] };
        let fault = FAULTS[kinds[rng.random_range(0..kinds.len())]];
        let is_poison = rng.random_bool(poison);
        let leaves = rng.random_bool(0.05);
        Arrival {
            scores,
            within: Duration::from_millis(millis),
            priority: priorities[rng.random_range(0..3)],
            poison: is_poison.then(|| (rng.random_range(0..stages), fault)),
            leaves_after: leaves.then(|| Duration::from_millis(rng.random_range(0..300))),
        }
    }

    fn mishap(&self, rng: &mut ChaCha8Rng) -> Act {
        let stage = rng.random_range(0..self.crews.len());
        match rng.random_range(0..7) {
            0 | 1 => Act::Strike { stage, fault: FAULTS[rng.random_range(0..FAULTS.len())] },
            2 => Act::TooBigAbove { stage, size: rng.random_range(0..4) },
            3 => {
                let hang = rng.random_bool(0.3);
                Act::FailLoads { stage, count: rng.random_range(1..9), hang }
            }
            4 => {
                let takes = Duration::from_millis(rng.random_range(1..3_000));
                Act::LoadTime { stage, takes }
            }
            5 => Act::Reload {
                exit_below: rng.random_range(0.0..0.5),
                exit_above: rng.random_range(0.5..1.0),
                max_batch: rng.random_range(1..=8),
            },
            _ => Act::ActorDies { stage },
        }
    }
}
