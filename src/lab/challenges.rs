//! What score a miner can expect of the subnet: many runs of the validator's challenges over answers
//! that are known, and what each kind of failure costs. Pure.
//!
//! Every run draws the same numbers whatever fails, so two curves differ by the failure and not by
//! chance.

use anyhow::{Result, ensure};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use super::scores::quantile;
use super::validator::{MISS, Validator};

/// Challenges after which the windows are full and the average has forgotten how it began.
pub const SETTLED: usize = 200;
/// Most challenges of all runs together: each keeps its score.
const MOST: usize = 20_000_000;
/// A number that no class is, as a model without a sigmoid would answer.
const OUT_OF_RANGE: f64 = 1.7;

/// Known answers, from which challenges draw: first the label, with one half each, then an image of
/// that label.
#[derive(Clone, Debug)]
pub struct Pool {
    roadwork: Vec<f64>,
    none: Vec<f64>,
}

impl Pool {
    /// Of pairs of label and answer; no answer is a miss.
    ///
    /// # Errors
    /// If one of the labels does not occur: the validator draws both.
    pub fn new(answers: impl IntoIterator<Item = (bool, Option<f64>)>) -> Result<Self> {
        let mut pool = Self { roadwork: Vec::new(), none: Vec::new() };
        for (label, answer) in answers {
            let images = if label { &mut pool.roadwork } else { &mut pool.none };
            images.push(answer.unwrap_or(MISS));
        }
        for (images, name) in [(&pool.roadwork, "with"), (&pool.none, "without")] {
            ensure!(
                !images.is_empty(),
                "there are no images {name} roadwork, and validators draw both"
            );
        }
        Ok(pool)
    }

    /// The share of right answers among those there are, both labels equally often.
    pub fn accuracy(&self) -> f64 {
        let of = |images: &[f64], label: bool| {
            let answered = images.iter().filter(|answer| **answer != MISS);
            let right = answered.clone().filter(|answer| is_right(**answer, label)).count();
            right as f64 / answered.count().max(1) as f64
        };
        f64::midpoint(of(&self.roadwork, true), of(&self.none, false))
    }
}

fn is_right(answer: f64, label: bool) -> bool {
    answer.round_ties_even() == f64::from(u8::from(label))
}

/// Failures on top of what the answers have. The shares are of challenges and exclude each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Faults {
    /// No answer in time.
    pub miss: f64,
    /// One half, the prior, in place of an answer.
    pub prior: f64,
    /// Not a number.
    pub nan: f64,
    /// A number above 1 that rounds to no class.
    pub out_of_range: f64,
    /// Added to the accuracy: some wrong answers become right, or, below 0, right ones wrong.
    pub accuracy: f64,
    /// Challenges in a row without an answer, once the score has settled.
    pub outage: usize,
}

impl Faults {
    /// # Errors
    /// If a share is not one, or all of them are more than everything.
    pub fn check(&self) -> Result<()> {
        let shares = [self.miss, self.prior, self.nan, self.out_of_range];
        let are_shares = shares.iter().all(|share| (0.0..=1.0).contains(share));
        ensure!(are_shares, "shares of failures must be from 0 to 1, and are {shares:?}");
        let sum: f64 = shares.iter().sum();
        ensure!(sum <= 1.0 + 1e-12, "the shares of failures come to {sum}, and must be at most 1");
        ensure!(self.accuracy.abs() <= 1.0, "the change of accuracy must be from -1 to 1");
        Ok(())
    }
}

/// How much to simulate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Challenges of each run, more than [`SETTLED`].
    pub challenges: usize,
    /// Runs, at least 1.
    pub runs: usize,
    /// Seed of the first; the others follow from it.
    pub seed: u64,
}

/// The score over the challenges, in all runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// The mean.
    pub mean: Vec<f64>,
    /// A tenth of the runs is below.
    pub low: Vec<f64>,
    /// A tenth of the runs is above.
    pub high: Vec<f64>,
    /// The mean score of each run once settled.
    #[serde(skip)]
    pub settled: Vec<f64>,
}

impl Curve {
    /// The mean score once settled.
    pub fn steady(&self) -> f64 {
        mean(&self.settled)
    }

    /// The standard error of [`steady`](Self::steady).
    pub fn error(&self) -> f64 {
        standard_error(&self.settled)
    }

    /// How many challenges it takes until the mean is `share` of the steady score.
    pub fn reaches(&self, share: f64) -> Option<usize> {
        let wanted = share * self.steady();
        self.mean.iter().position(|score| *score >= wanted).map(|index| index + 1)
    }

    /// What this curve has less than another of the same draws, and the standard error of that.
    pub fn costs(&self, without: &Self) -> (f64, f64) {
        let less = without.settled.iter().zip(&self.settled).map(|(a, b)| a - b);
        let less: Vec<f64> = less.collect();
        (mean(&less), standard_error(&less))
    }

    /// The deepest point below another curve of the same draws, and the challenges from the first
    /// difference until both agree within a hundredth of the score; `None` if they end apart.
    pub fn dip(&self, without: &Self) -> (f64, Option<usize>) {
        let below = self.mean.iter().zip(&without.mean).map(|(a, b)| b - a);
        let below: Vec<f64> = below.collect();
        let first = below.iter().position(|d| *d > 0.0).unwrap_or(0);
        let near = 0.01 * without.steady();
        let last = below.iter().rposition(|d| *d > near).map_or(first, |index| index + 1);
        let recovers = (last < below.len() || below.is_empty()).then(|| last.saturating_sub(first));
        (below.iter().copied().fold(0.0, f64::max), recovers)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn standard_error(values: &[f64]) -> f64 {
    let middle = mean(values);
    let squares: f64 = values.iter().map(|value| (value - middle).powi(2)).sum();
    (squares / (values.len().max(2) - 1) as f64 / values.len().max(1) as f64).sqrt()
}

/// Runs the challenges.
///
/// # Errors
/// If the faults are none, there are too few challenges for a score to settle, or too many in all.
pub fn simulate(pool: &Pool, faults: &Faults, plan: &Plan) -> Result<Curve> {
    faults.check()?;
    let Plan { challenges, runs, .. } = *plan;
    ensure!(challenges > SETTLED, "a score settles in {SETTLED} challenges: simulate more");
    ensure!(runs > 0, "there must be a run");
    let all = challenges.saturating_mul(runs);
    ensure!(
        all <= MOST,
        "{runs} runs of {challenges} challenges are {all}, more than {MOST}: simulate fewer of either"
    );
    let scores: Vec<Vec<f64>> =
        (0..runs as u64).into_par_iter().map(|run| one(pool, faults, plan, run)).collect();
    let mut curve =
        Curve { mean: Vec::new(), low: Vec::new(), high: Vec::new(), settled: Vec::new() };
    for challenge in 0..challenges {
        let mut at: Vec<f64> = scores.iter().map(|run| run[challenge]).collect();
        at.sort_by(f64::total_cmp);
        curve.mean.push(mean(&at));
        curve.low.push(quantile(&at, 0.1));
        curve.high.push(quantile(&at, 0.9));
    }
    curve.settled = scores.iter().map(|run| mean(&run[SETTLED..])).collect();
    Ok(curve)
}

/// The score along one run.
fn one(pool: &Pool, faults: &Faults, plan: &Plan, run: u64) -> Vec<f64> {
    let mut dice = ChaCha8Rng::seed_from_u64(plan.seed);
    dice.set_stream(run);
    let mut validator = Validator::default();
    let turn = Turn::of(faults.accuracy, pool.accuracy());
    let begins = SETTLED + (plan.challenges - SETTLED) / 4;
    let challenge = |index: usize| {
        let label = dice.random_bool(0.5);
        let images = if label { &pool.roadwork } else { &pool.none };
        // Three draws each time, needed or not.
        let [which, turned, failed]: [f64; 3] = dice.random();
        let image = ((which * images.len() as f64) as usize).min(images.len() - 1);
        let answer = turn.apply(images[image], label, turned);
        let is_out = (begins..begins + faults.outage).contains(&index);
        let answer = if is_out { MISS } else { faults.apply(answer, failed) };
        validator.on(answer, label).score
    };
    (0..plan.challenges).map(challenge).collect()
}

impl Faults {
    fn apply(&self, answer: f64, draw: f64) -> f64 {
        let kinds = [
            (self.miss, MISS),
            (self.prior, 0.5),
            (self.nan, f64::NAN),
            (self.out_of_range, OUT_OF_RANGE),
        ];
        let mut below = 0.0;
        for (share, failure) in kinds {
            below += share;
            if draw < below {
                return failure;
            }
        }
        answer
    }
}

/// Turns wrong answers right, or right ones wrong, with some probability.
#[derive(Clone, Copy)]
struct Turn {
    share: f64,
    to_right: bool,
}

impl Turn {
    fn of(change: f64, accuracy: f64) -> Self {
        let to_right = change > 0.0;
        let eligible = if to_right { 1.0 - accuracy } else { accuracy };
        let share = if eligible > 0.0 { (change.abs() / eligible).min(1.0) } else { 0.0 };
        Self { share, to_right }
    }

    fn apply(self, answer: f64, label: bool, draw: f64) -> f64 {
        let turns = draw < self.share && answer != MISS && is_right(answer, label) != self.to_right;
        if turns { f64::from(u8::from(label == self.to_right)) } else { answer }
    }
}

/// One kind of failure and what it costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// What fails, in words.
    pub what: String,
    /// All failures of this simulation.
    pub faults: Faults,
    /// The mean score once settled.
    pub steady: f64,
    /// How much less that is than without; below 0 it is a gain.
    pub cost: f64,
    /// The standard error of the cost.
    pub error: f64,
    /// How far the mean falls at most.
    pub deepest: f64,
    /// Challenges until the mean is back within a hundredth; none if the failure lasts, or the
    /// simulation ends before.
    pub recovers: Option<usize>,
}

/// The usual failures, each on top of what already fails, as long as that leaves room for it. An outage
/// takes `outage` challenges.
pub fn usual(base: Faults, outage: usize) -> Vec<(String, Faults)> {
    let share = |what: &str, set: &dyn Fn(&mut Faults)| {
        let mut faults = base;
        set(&mut faults);
        (what.to_owned(), faults)
    };
    let mut kinds = vec![
        share("1 % missed", &|f| f.miss += 0.01),
        share("5 % missed", &|f| f.miss += 0.05),
        share("1 % answered 0.5 instead", &|f| f.prior += 0.01),
        share("5 % answered 0.5 instead", &|f| f.prior += 0.05),
        share("0.1 % NaN", &|f| f.nan += 0.001),
        share("1 % NaN", &|f| f.nan += 0.01),
        share("1 % out of range (1.7)", &|f| f.out_of_range += 0.01),
        share("an outage", &|f| f.outage += outage),
        share("a point of accuracy less", &|f| f.accuracy -= 0.01),
        share("a point of accuracy more", &|f| f.accuracy += 0.01),
    ];
    kinds.retain(|(_, faults)| faults.check().is_ok());
    kinds
}

/// What each of these failures costs against the base curve of the same plan.
///
/// # Errors
/// As [`simulate`].
pub fn costs(
    pool: &Pool,
    base: &Curve,
    kinds: Vec<(String, Faults)>,
    plan: &Plan,
    progress: &dyn Fn(u64),
) -> Result<Vec<Cost>> {
    let mut costs = Vec::new();
    for (what, faults) in kinds {
        let curve = simulate(pool, &faults, plan)?;
        let ((cost, error), (deepest, recovers)) = (curve.costs(base), curve.dip(base));
        let recovers = recovers.filter(|_| faults.outage > 0);
        costs.push(Cost { what, faults, steady: curve.steady(), cost, error, deepest, recovers });
        progress(costs.len() as u64);
    }
    Ok(costs)
}

#[cfg(test)]
#[path = "challenges_tests.rs"]
mod tests;
