//! The settings that are tested: exits along the front of estimated harm and cost, from the safest to
//! the cheapest. Drawn up from part A alone. Pure.

use super::walk::{Scores, walk};
use crate::cascade::{Exhausted, StageRule};

/// Places for a threshold on either side of one half.
const PLACES: usize = 12;

/// Most combinations of several stages' exits that are looked at.
const COMBINATIONS: f64 = 1024.0;

/// Most settings that are tested.
const MOST: usize = 40;

/// The exits of each early stage: below, above.
pub type Exits = Vec<[f32; 2]>;

/// No exit at all: no probability lies beyond.
pub const NEVER: [f32; 2] = [0.0, 1.0];

/// What candidates are drawn up from.
#[derive(Clone, Copy, Debug)]
pub struct Cascade<'a> {
    /// Calibrated scores.
    pub scores: &'a Scores,
    /// The labels.
    pub labels: &'a [bool],
    /// The configured rules.
    pub rules: &'a [StageRule],
    /// The stages that others follow.
    pub early: &'a [usize],
    /// What an image costs in each stage.
    pub costs: &'a [f64],
    /// What is answered when nobody was sure.
    pub exhausted: Exhausted,
}

/// A setting with what part A says of it.
#[derive(Clone, Debug, PartialEq)]
struct Candidate {
    exits: Exits,
    harm: f64,
    cost: f64,
}

impl Cascade<'_> {
    /// The rules with these exits for the early stages.
    pub fn with(&self, exits: &[[f32; 2]]) -> Vec<StageRule> {
        let mut rules = self.rules.to_vec();
        for (stage, [below, above]) in self.early.iter().zip(exits) {
            (rules[*stage].exit_below, rules[*stage].exit_above) = (*below, *above);
        }
        rules
    }

    /// What `images` cost in all, asked by these rules.
    pub fn cost(&self, asked: u64) -> f64 {
        self.costs
            .iter()
            .enumerate()
            .filter(|(stage, _)| asked >> stage & 1 == 1)
            .map(|(_, c)| c)
            .sum()
    }

    /// Candidates, drawn up from these images.
    pub fn candidates(&self, images: &[usize]) -> Vec<Exits> {
        let never = vec![NEVER; self.early.len()];
        let full: Vec<bool> = {
            let rules = self.with(&never);
            let right = |i: &usize| {
                walk(self.scores.row(*i), &rules, self.exhausted).is_right(self.labels[*i])
            };
            images.iter().map(right).collect()
        };
        let keep =
            COMBINATIONS.powf(1.0 / self.early.len().max(1) as f64).floor().max(2.0) as usize;
        let mut settings: Vec<Exits> = vec![Vec::new()];
        for (place, stage) in self.early.iter().enumerate() {
            let alone = |exits: [f32; 2]| {
                let mut all = never.clone();
                all[place] = exits;
                self.estimate(all, images, &full)
            };
            let mut options: Vec<[f32; 2]> = grid(&self.scores.column(*stage, images));
            if self.early.len() > 1 {
                let estimated = options.into_iter().map(alone).collect();
                options =
                    thinned(front(estimated), keep).into_iter().map(|c| c.exits[place]).collect();
                if !options.contains(&NEVER) {
                    options.push(NEVER);
                }
            }
            settings = settings
                .iter()
                .flat_map(|before| {
                    options.iter().map(move |exits| [&before[..], &[*exits]].concat())
                })
                .collect();
        }
        let estimated = settings.into_iter().map(|exits| self.estimate(exits, images, &full));
        let most = self.estimate(never.clone(), images, &full).cost;
        let mut cheaper = front(estimated.collect());
        cheaper
            .retain(|candidate| candidate.exits != never && candidate.cost < most * (1.0 - 1e-9));
        thinned(cheaper, MOST).into_iter().map(|candidate| candidate.exits).collect()
    }

    /// The harm that was seen, plus that to be expected from how sure the exits are, which still tells
    /// settings apart where none was seen; and the cost.
    fn estimate(&self, exits: Exits, images: &[usize], full: &[bool]) -> Candidate {
        let rules = self.with(&exits);
        let (mut harm, mut cost) = (0.0, 0.0);
        for (image, full_is_right) in images.iter().zip(full) {
            let went = walk(self.scores.row(*image), &rules, self.exhausted);
            cost += self.cost(went.asked);
            let is_harm = *full_is_right && !went.is_right(self.labels[*image]);
            harm += f64::from(u8::from(is_harm));
            let is_exit = went.probability.is_some_and(|p| {
                self.early.contains(&went.stage)
                    && (p < rules[went.stage].exit_below || p > rules[went.stage].exit_above)
            });
            if let (true, Some(p)) = (is_exit, went.probability) {
                harm += f64::from(p.min(1.0 - p));
            }
        }
        Candidate { exits, harm, cost }
    }
}

/// The pairs of exits worth a look for these scores: between neighbours, evenly in rank on each side
/// of one half, and none. Never both at one half: the next stage would never be asked.
fn grid(scores: &[f32]) -> Vec<[f32; 2]> {
    let mut sorted: Vec<f32> = scores.iter().copied().filter(|p| !p.is_nan()).collect();
    sorted.sort_by(f32::total_cmp);
    let half = sorted.partition_point(|p| *p <= 0.5);
    let (low, high) = sorted.split_at(half);
    let mut below = vec![NEVER[0], 0.5];
    let mut above = vec![NEVER[1], 0.5];
    for place in 1..PLACES {
        let at = |side: &[f32]| place * side.len() / PLACES;
        below.extend(gap(low, at(low)));
        above.extend(gap(high, at(high)));
    }
    for side in [&mut below, &mut above] {
        side.sort_by(f32::total_cmp);
        side.dedup();
    }
    let pairs = below.iter().flat_map(|b| above.iter().map(move |a| [*b, *a]));
    pairs.filter(|[b, a]| b < a).collect()
}

/// A threshold strictly between the scores before and from `at` on, as short as that allows.
fn gap(sorted: &[f32], at: usize) -> Option<f32> {
    let next = *sorted.get(at)?;
    let before = *sorted[..at].iter().rev().find(|p| **p < next)?;
    let middle = 0.5 * (f64::from(before) + f64::from(next));
    for digits in 2..9 {
        let unit = 10_f64.powi(digits);
        let short = ((middle * unit).round() / unit) as f32;
        if before < short && short < next {
            return Some(short);
        }
    }
    // Neighbours in binary: "below" excludes and "above" excludes, so either side will do.
    let middle = middle as f32;
    (before < middle && middle < next).then_some(middle)
}

/// Those that no other beats in both harm and cost, the safest first.
fn front(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by(|a, b| a.harm.total_cmp(&b.harm).then(a.cost.total_cmp(&b.cost)));
    let mut cheapest = f64::INFINITY;
    candidates.retain(|candidate| {
        let is_cheaper = candidate.cost < cheapest;
        cheapest = cheapest.min(candidate.cost);
        is_cheaper
    });
    candidates
}

/// At most so many of a front, evenly in cost, both ends included.
fn thinned(front: Vec<Candidate>, most: usize) -> Vec<Candidate> {
    let (Some(first), Some(last)) = (front.first(), front.last()) else { return front };
    if front.len() <= most {
        return front;
    }
    let (dearest, span) = (first.cost, first.cost - last.cost);
    let (end, mut next, mut kept) = (front.len() - 1, 0.0, Vec::new());
    for (place, candidate) in front.into_iter().enumerate() {
        let saved = (dearest - candidate.cost) / span;
        if saved >= next || place == end {
            next = ((saved * (most - 1) as f64).floor() + 1.0) / (most - 1) as f64;
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cascade::Condition;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    fn rules(count: usize) -> Vec<StageRule> {
        let rule = StageRule { exit_below: 0.5, exit_above: 0.5, when: Condition::default() };
        vec![rule; count]
    }

    /// Stages that see ever more of a hidden truth.
    fn scores(stages: usize, images: usize) -> (Scores, Vec<bool>) {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let truth: Vec<f32> = (0..images).map(|_| rng.random_range(-4.0..4.0)).collect();
        let column = |stage: usize, rng: &mut ChaCha8Rng| {
            let noise = 3.0 / (stage + 1) as f32;
            let said = |t: &f32| 1.0 / (1.0 + (-(t + rng.random_range(-noise..noise))).exp());
            truth.iter().map(said).collect::<Vec<f32>>()
        };
        let columns: Vec<_> = (0..stages).map(|stage| column(stage, &mut rng)).collect();
        (Scores::new(&columns), truth.iter().map(|t| *t > 0.0).collect())
    }

    #[test]
    fn candidates_grow_cheaper_and_are_few() {
        for stages in 2..6 {
            let (scores, labels) = scores(stages, 300);
            let early: Vec<usize> = (0..stages - 1).collect();
            let costs: Vec<f64> = (0..stages).map(|s| 4.0_f64.powi(s as i32)).collect();
            let rules = rules(stages);
            let exhausted = Exhausted::Last;
            let cascade = Cascade {
                scores: &scores,
                labels: &labels,
                rules: &rules,
                early: &early,
                costs: &costs,
                exhausted,
            };
            let images: Vec<usize> = (0..300).collect();
            let found = cascade.candidates(&images);
            assert!((5..=MOST + 1).contains(&found.len()), "{stages}: {}", found.len());
            let cost = |exits: &Exits| {
                let rules = cascade.with(exits);
                images
                    .iter()
                    .map(|i| cascade.cost(walk(scores.row(*i), &rules, exhausted).asked))
                    .sum::<f64>()
            };
            let costs: Vec<f64> = found.iter().map(cost).collect();
            assert!(costs.windows(2).all(|pair| pair[1] < pair[0]), "{costs:?}");
            let full = cost(&vec![NEVER; early.len()]);
            assert!(costs[0] < full && costs[costs.len() - 1] < 0.6 * full, "{full} {costs:?}");
            assert!(
                found
                    .iter()
                    .flatten()
                    .all(|[below, above]| below < above && *below <= 0.5 && *above >= 0.5)
            );
        }
    }

    #[test]
    fn thresholds_lie_strictly_between_scores() {
        assert_eq!(gap(&[0.1, 0.2], 1), Some(0.15));
        assert_eq!(gap(&[0.1, 0.1], 1), None);
        assert_eq!(gap(&[0.1], 1), None);
        let (a, b) = (1e-7_f32, 2e-7_f32);
        let between = gap(&[a, b], 1).unwrap();
        assert!(a < between && between < b);
        let next = f32::from_bits(0.3_f32.to_bits() + 1);
        assert_eq!(gap(&[0.3, next], 1), None, "there is nothing between");
    }

    #[test]
    fn equal_or_missing_scores_leave_little_to_choose() {
        assert_eq!(grid(&[f32::NAN; 3]).len(), 3);
        assert!(grid(&[0.2; 50]).len() <= 3);
    }
}
