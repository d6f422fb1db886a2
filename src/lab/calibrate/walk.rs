//! The cascade on scores that are there: which stages would be asked, and what would be answered.
//! Pure, and quick enough for a million walks; a test holds it to the policy that serves.

use crate::cascade::{Exhausted, InputKind, StageRule};
use crate::prediction::Probability;

/// Scores of many images by several stages, all asked; NaN where a stage abstained.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    stages: usize,
    values: Vec<f32>,
}

impl Scores {
    /// Puts the columns side by side; they must be of one length.
    pub fn new(columns: &[Vec<f32>]) -> Self {
        let images = columns.first().map_or(0, Vec::len);
        let row = |image| columns.iter().map(move |column| column[image]);
        Self { stages: columns.len(), values: (0..images).flat_map(row).collect() }
    }

    /// What every stage says of an image.
    pub fn row(&self, image: usize) -> &[f32] {
        &self.values[image * self.stages..(image + 1) * self.stages]
    }

    /// What a stage says of these images.
    pub fn column(&self, stage: usize, images: &[usize]) -> Vec<f32> {
        images.iter().map(|image| self.row(*image)[stage]).collect()
    }
}

/// How a walk went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Walk {
    /// What is answered; `None` if no stage has a score.
    pub probability: Option<f32>,
    /// The stage whose score it is.
    pub stage: usize,
    /// The stages that were asked, one bit each.
    pub asked: u64,
}

impl Walk {
    /// Whether the answer is right; none is wrong.
    pub fn is_right(&self, label: bool) -> bool {
        self.probability.is_some_and(|p| (p > 0.5) == label)
    }

    /// Whether a stage was asked.
    pub fn has_asked(&self, stage: usize) -> bool {
        self.asked >> stage & 1 == 1
    }
}

/// Walks one image's scores.
pub fn walk(scores: &[f32], rules: &[StageRule], exhausted: Exhausted) -> Walk {
    let (mut latest, mut asked) = (None::<(usize, f32)>, 0_u64);
    for (stage, (score, rule)) in scores.iter().zip(rules).enumerate() {
        let known = latest.and_then(|(_, p)| Probability::new(p));
        if !rule.when.holds(InputKind::Image, known) {
            continue;
        }
        asked |= 1 << stage;
        if score.is_nan() {
            continue;
        }
        latest = Some((stage, *score));
        if *score < rule.exit_below || *score > rule.exit_above {
            return Walk { probability: Some(*score), stage, asked };
        }
    }
    let Some((last, score)) = latest else {
        return Walk { probability: None, stage: 0, asked };
    };
    let said = || {
        let of = scores.iter().enumerate();
        of.filter(|(stage, score)| asked >> stage & 1 == 1 && !score.is_nan())
    };
    let (stage, probability) = match exhausted {
        Exhausted::Last => (last, score),
        Exhausted::MostConfident => {
            let sure = |p: f32| p.max(1.0 - p);
            let most = said().max_by(|(_, a), (_, b)| sure(**a).total_cmp(&sure(**b)));
            most.map_or((last, score), |(stage, score)| (stage, *score))
        }
        Exhausted::Mean => {
            let (sum, count) = said().fold((0.0_f32, 0.0_f32), |(s, n), (_, p)| (s + p, n + 1.0));
            (last, sum / count)
        }
    };
    Walk { probability: Some(probability), stage, asked }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::cascade::{Cascade, Condition, JobView, RoutingPolicy as _, StageView, Step};
    use crate::prediction::{Hop, HopOutcome, Prediction};

    /// The same by the policy that serves.
    fn served(scores: &[f32], rules: &[StageRule], exhausted: Exhausted) -> Walk {
        let policy = Cascade { rules: rules.to_vec(), exhausted };
        let up = StageView { available: true, predicted: Duration::from_millis(1) };
        let views = vec![up; rules.len()];
        let (mut hops, mut closed, mut asked) = (Vec::new(), vec![false; rules.len()], 0);
        loop {
            let remaining = Duration::from_secs(1);
            let kind = InputKind::Image;
            let job = JobView { kind, hops: &hops, closed: &closed, remaining };
            match policy.next(&job, &views) {
                Step::Ask(stage) => {
                    let outcome = HopOutcome::Predicted(Prediction::from_raw(scores[stage]));
                    let latency = Duration::ZERO;
                    hops.push((stage, Hop { stage: "s".into(), outcome, latency, batch_size: 1 }));
                    closed[stage] = true;
                    asked |= 1 << stage;
                }
                Step::Answer { probability, stage, degraded } => {
                    assert_eq!(degraded, None);
                    return Walk { probability: Some(probability.get()), stage, asked };
                }
                Step::GiveUp(_) => return Walk { probability: None, stage: 0, asked },
            }
        }
    }

    fn score() -> impl Strategy<Value = f32> {
        prop_oneof![
            1 => Just(f32::NAN),
            2 => prop::sample::select(vec![0.0_f32, 0.25, 0.5, 0.75, 1.0]),
            6 => 0.0_f32..=1.0,
        ]
    }

    fn rule() -> impl Strategy<Value = StageRule> {
        let bound = || prop::sample::select(vec![0.0_f32, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 1.0]);
        let input = prop_oneof![
            6 => Just(None), 1 => Just(Some(InputKind::Clip)), 1 => Just(Some(InputKind::Image))
        ];
        let range = prop_oneof![Just((0.0, 1.0)), (bound(), bound())];
        (bound(), bound(), range, input).prop_map(|(a, b, (low, high), input)| StageRule {
            exit_below: a.min(b),
            exit_above: a.max(b),
            when: Condition { score_at_least: low, score_at_most: high, input },
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_walk_goes_as_the_policy_goes(
            stages in prop::collection::vec((score(), rule()), 1..6),
            exhausted in prop::sample::select(vec![
                Exhausted::Last, Exhausted::MostConfident, Exhausted::Mean,
            ]),
        ) {
            let (scores, rules): (Vec<f32>, Vec<StageRule>) = stages.into_iter().unzip();
            prop_assert_eq!(walk(&scores, &rules, exhausted), served(&scores, &rules, exhausted));
        }
    }

    #[test]
    fn rows_and_columns() {
        let scores = Scores::new(&[vec![0.1, 0.2, 0.3], vec![0.4, 0.5, 0.6]]);
        assert_eq!(scores.row(1), [0.2, 0.5]);
        assert_eq!(scores.column(1, &[2, 0]), [0.6, 0.4]);
    }
}
