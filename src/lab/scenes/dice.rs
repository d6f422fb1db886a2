//! Random draws with a fixed meaning: the same key gives the same numbers on every machine and
//! with every version of the random-number crates' distributions, which are not used here.

use rand::RngCore as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

/// A stream of random draws.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream for a list of numbers: each is folded into the state with the SplitMix64
    /// finaliser, so that neighbouring keys give unrelated streams.
    pub(super) fn new(key: &[u64]) -> Self {
        let state = key.iter().fold(0x726f_6164_6372_6577, |state: u64, &part| {
            splitmix(state ^ splitmix(part.wrapping_add(0x9e37_79b9_7f4a_7c15)))
        });
        Self(ChaCha8Rng::seed_from_u64(state))
    }

    /// 32 random bits.
    pub(super) fn word(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// 64 random bits.
    pub(super) fn long(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in 0..1.
    pub(super) fn unit(&mut self) -> f32 {
        (self.word() >> 8) as f32 / 16_777_216.0
    }

    /// Uniform in `from..to`.
    pub(super) fn span(&mut self, from: f32, to: f32) -> f32 {
        from + (to - from) * self.unit()
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// -1 or 1.
    pub(super) fn sign(&mut self) -> f32 {
        if self.chance(0.5) { 1.0 } else { -1.0 }
    }

    /// A whole number from `from` to `to`, both included.
    pub(super) fn count(&mut self, from: u32, to: u32) -> u32 {
        from + ((u64::from(self.word()) * u64::from(to - from + 1)) >> 32) as u32
    }

    /// One of a list that is not empty.
    pub(super) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.count(0, list.len() as u32 - 1) as usize]
    }
}

fn splitmix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
