//! Where a job goes next: the routing policies. Pure; no I/O, no clock.
//!
//! A policy sees what a job has been told so far and how the stages are, and answers with one
//! [`Step`]. It is asked again after every prediction and after every failure, so there is no
//! second path for failures.

mod policies;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::prediction::{Degraded, Hop, HopOutcome, Probability};

pub use policies::{Policies, PolicyContext};

/// The position of a stage in the configured order.
pub type StageIndex = usize;

/// What kind of input a job carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    /// One picture.
    Image,
    /// Several pictures in order of time.
    Clip,
}

/// Settings of the cascade as a whole: `[cascade]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CascadeSpec {
    /// Name of the routing policy.
    pub policy: String,
    /// The stages that are asked, cheapest first.
    pub order: Vec<String>,
    /// What to answer when no stage is left to ask and none was sure.
    pub exhausted: Exhausted,
}

/// What to answer when every stage has been asked and none was sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exhausted {
    /// The score of the last stage that gave one: the most expensive opinion.
    Last,
    /// The score farthest from one half.
    MostConfident,
    /// The mean of all scores.
    Mean,
}

/// When a stage's score ends the walk, and when the stage is asked at all: keys of `[stages.NAME]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRule {
    /// A score strictly below this is answered at once (not roadwork).
    pub exit_below: f32,
    /// A score strictly above this is answered at once (roadwork).
    pub exit_above: f32,
    /// When the stage is asked.
    pub when: Condition,
}

/// The condition under which a stage is asked; a stage whose condition does not hold is passed over
/// and its absence does not degrade the verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Condition {
    /// Only if the latest score is at least this (a job without a score passes).
    pub score_at_least: f32,
    /// Only if the latest score is at most this (a job without a score passes).
    pub score_at_most: f32,
    /// Only for this kind of input; absent means both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<InputKind>,
}

impl Default for Condition {
    fn default() -> Self {
        Self { score_at_least: 0.0, score_at_most: 1.0, input: None }
    }
}

impl Condition {
    /// Whether a job of this kind, and with this latest score, is for the stage.
    pub fn holds(&self, kind: InputKind, score: Option<Probability>) -> bool {
        let score_fits =
            score.is_none_or(|p| (self.score_at_least..=self.score_at_most).contains(&p.get()));
        score_fits && self.input.is_none_or(|wanted| wanted == kind)
    }
}

/// What a policy may know of a job.
#[derive(Clone, Debug)]
pub struct JobView<'a> {
    /// What kind of input it carries.
    pub kind: InputKind,
    /// What has been said so far, in order, with the stage that said it.
    pub hops: &'a [(StageIndex, Hop)],
    /// Stages that this job must not be lent to (again).
    pub closed: &'a [bool],
    /// Time until its deadline.
    pub remaining: Duration,
}

impl JobView<'_> {
    fn scores(&self) -> impl DoubleEndedIterator<Item = (StageIndex, Probability)> {
        self.hops.iter().filter_map(|(stage, hop)| Some((*stage, hop.probability()?)))
    }

    /// Whether some stage failed this job and never made up for it.
    fn has_failure(&self) -> bool {
        let answered = |stage| self.hops.iter().any(|(s, h)| *s == stage && h.is_answer());
        self.hops
            .iter()
            .any(|(stage, hop)| matches!(hop.outcome, HopOutcome::Failed(_)) && !answered(*stage))
    }
}

/// What a policy may know of a stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StageView {
    /// Whether the stage takes jobs.
    pub available: bool,
    /// Predicted waiting plus computing time of a job lent to it now.
    pub predicted: Duration,
}

/// What happens to a job next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Lend the job to this stage.
    Ask(StageIndex),
    /// Answer with this probability.
    Answer {
        /// Probability of roadwork.
        probability: Probability,
        /// The stage whose score it is.
        stage: StageIndex,
        /// `Some` if the answer is less than it should be.
        degraded: Option<Degraded>,
    },
    /// There is nothing to answer with.
    GiveUp(GiveUp),
}

/// Why a job without any score ends without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// Every stage that could have answered is down, failed or abstained.
    NoStage,
    /// The deadline has passed.
    Deadline,
}

/// Decides where jobs go. Chosen by name in `cascade.policy`.
pub trait RoutingPolicy: Send {
    /// The next step of a job. Called again after each hop; must end, given that `closed` grows
    /// with every stage that answered or failed for good.
    fn next(&self, job: &JobView<'_>, stages: &[StageView]) -> Step;
}

/// The cascade: ask the stages in order, stop at the first that is sure.
#[derive(Clone, Debug)]
pub struct Cascade {
    /// One rule per stage, in order.
    pub rules: Vec<StageRule>,
    /// What to answer when nobody was sure.
    pub exhausted: Exhausted,
}

impl RoutingPolicy for Cascade {
    fn next(&self, job: &JobView<'_>, stages: &[StageView]) -> Step {
        if let Some((stage, probability)) = self.early_exit(job) {
            return Step::Answer { probability, stage, degraded: None };
        }
        walk(&self.rules, job, stages, self.exhausted)
    }
}

impl Cascade {
    /// The latest hop's score, if it is sure enough to end the walk.
    fn early_exit(&self, job: &JobView<'_>) -> Option<(StageIndex, Probability)> {
        let (stage, hop) = job.hops.last()?;
        let probability = hop.probability()?;
        let rule = self.rules.get(*stage)?;
        let sure = probability.get() < rule.exit_below || probability.get() > rule.exit_above;
        sure.then_some((*stage, probability))
    }
}

/// The committee: ask every stage whose condition holds, answer the mean. A yardstick for what the
/// early exits cost in accuracy.
#[derive(Clone, Debug)]
pub struct Committee {
    /// One rule per stage, in order; exits are ignored.
    pub rules: Vec<StageRule>,
}

impl RoutingPolicy for Committee {
    fn next(&self, job: &JobView<'_>, stages: &[StageView]) -> Step {
        walk(&self.rules, job, stages, Exhausted::Mean)
    }
}

/// Asks the next stage that can help in time, or settles for what there is.
fn walk(
    rules: &[StageRule],
    job: &JobView<'_>,
    stages: &[StageView],
    exhausted: Exhausted,
) -> Step {
    let latest = job.scores().next_back();
    let first = job.hops.iter().map(|(stage, _)| *stage).max().unwrap_or(0);
    let mut missing = job.has_failure().then_some(Degraded::StageFailed);
    for (index, (rule, stage)) in rules.iter().zip(stages).enumerate().skip(first) {
        if job.closed.get(index).copied().unwrap_or(true) {
            continue;
        }
        if !rule.when.holds(job.kind, latest.map(|(_, p)| p)) {
            continue;
        }
        if !stage.available {
            missing = missing.or(Some(Degraded::StageDown));
            continue;
        }
        // A job that has nothing yet is lent even if the prediction says it will be late, unless
        // another stage would be in time: the prediction may be wrong, and the deadline's own timer
        // answers whatever happens.
        let in_time = |other: StageIndex| {
            job.closed.get(other) == Some(&false)
                && rules.get(other).is_some_and(|rule| rule.when.holds(job.kind, None))
                && stages[other].available
                && stages[other].predicted <= job.remaining
        };
        let late = stage.predicted > job.remaining;
        if late && (latest.is_some() || (index + 1..stages.len()).any(in_time)) {
            missing = missing.or(Some(Degraded::Deadline));
            continue;
        }
        return if job.remaining.is_zero() {
            settle(job, exhausted, missing)
        } else {
            Step::Ask(index)
        };
    }
    settle(job, exhausted, missing)
}

/// The best answer from what has been said, if anything has.
fn settle(job: &JobView<'_>, exhausted: Exhausted, missing: Option<Degraded>) -> Step {
    let Some((last_stage, last)) = job.scores().next_back() else {
        let late = job.remaining.is_zero();
        return Step::GiveUp(if late { GiveUp::Deadline } else { GiveUp::NoStage });
    };
    let (stage, probability) = match exhausted {
        Exhausted::Last => (last_stage, last),
        Exhausted::MostConfident => job
            .scores()
            .max_by(|(_, a), (_, b)| a.confidence().total_cmp(&b.confidence()))
            .unwrap_or((last_stage, last)),
        Exhausted::Mean => {
            let (sum, count) =
                job.scores().fold((0.0_f32, 0.0_f32), |(s, n), (_, p)| (s + p.get(), n + 1.0));
            (last_stage, Probability::new(sum / count).unwrap_or(last))
        }
    };
    Step::Answer { probability, stage, degraded: missing }
}

/// The verdict a job would get if its time were up now: `None` if nothing has been said.
pub fn best_so_far(job: &JobView<'_>, exhausted: Exhausted) -> Option<(StageIndex, Probability)> {
    match settle(job, exhausted, None) {
        Step::Answer { probability, stage, .. } => Some((stage, probability)),
        _ => None,
    }
}

/// The policy of that name among those that come with roadcrew, or `None`.
pub fn policy(
    name: &str,
    rules: Vec<StageRule>,
    exhausted: Exhausted,
) -> Option<Box<dyn RoutingPolicy>> {
    Policies::default().build(name, PolicyContext { stages: Vec::new(), rules, exhausted })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction::{Cause, Prediction};
    use proptest::prelude::*;

    fn rule(below: f32, above: f32) -> StageRule {
        StageRule { exit_below: below, exit_above: above, when: Condition::default() }
    }

    fn hop(stage: StageIndex, p: f32) -> (StageIndex, Hop) {
        let outcome = HopOutcome::Predicted(Prediction::from_raw(p));
        (stage, Hop { stage: "s".into(), outcome, latency: Duration::ZERO, batch_size: 1 })
    }

    fn failed(stage: StageIndex) -> (StageIndex, Hop) {
        let outcome = HopOutcome::Failed(Cause::Panic);
        (stage, Hop { stage: "s".into(), outcome, latency: Duration::ZERO, batch_size: 1 })
    }

    const UP: StageView = StageView { available: true, predicted: Duration::from_millis(10) };
    const DOWN: StageView = StageView { available: false, predicted: Duration::ZERO };

    fn two() -> Cascade {
        Cascade { rules: vec![rule(0.15, 0.85), rule(0.5, 0.5)], exhausted: Exhausted::Last }
    }

    fn view<'a>(hops: &'a [(StageIndex, Hop)], closed: &'a [bool]) -> JobView<'a> {
        JobView { kind: InputKind::Image, hops, closed, remaining: Duration::from_secs(1) }
    }

    #[test]
    fn a_sure_score_exits_and_the_thresholds_themselves_escalate() {
        for (p, exits) in [(0.149, true), (0.15, false), (0.5, false), (0.85, false), (0.851, true)]
        {
            let step = two().next(&view(&[hop(0, p)], &[true, false]), &[UP, UP]);
            assert_eq!(matches!(step, Step::Answer { stage: 0, degraded: None, .. }), exits, "{p}");
        }
    }

    #[test]
    fn a_stage_that_is_down_is_passed_over_and_the_answer_says_so() {
        let step = two().next(&view(&[hop(0, 0.6)], &[true, false]), &[UP, DOWN]);
        let Step::Answer { degraded, stage, .. } = step else { panic!("{step:?}") };
        assert_eq!((degraded, stage), (Some(Degraded::StageDown), 0));
    }

    #[test]
    fn escalation_needs_time() {
        let hops = [hop(0, 0.6)];
        let mut job = view(&hops, &[true, false]);
        job.remaining = Duration::from_millis(9);
        let step = two().next(&job, &[UP, UP]);
        assert!(
            matches!(step, Step::Answer { degraded: Some(Degraded::Deadline), .. }),
            "{step:?}"
        );
    }

    #[test]
    fn a_stage_that_would_be_late_is_passed_over_where_another_is_in_time() {
        let slow = StageView { predicted: Duration::from_secs(9), ..UP };
        let nothing = [false, false];
        assert_eq!(two().next(&view(&[], &nothing), &[slow, UP]), Step::Ask(1));
        assert_eq!(two().next(&view(&[], &nothing), &[slow, slow]), Step::Ask(0));
        let step = two().next(&view(&[hop(1, 0.9)], &[false, true]), &[slow, UP]);
        assert!(matches!(step, Step::Answer { stage: 1, .. }), "{step:?}");
    }

    #[test]
    fn a_failed_stage_is_passed_over_once_it_is_closed() {
        let step = two().next(&view(&[failed(0)], &[true, false]), &[UP, UP]);
        assert_eq!(step, Step::Ask(1));
        let hops = [failed(0), hop(1, 0.9)];
        let step = Committee { rules: two().rules }.next(&view(&hops, &[true, true]), &[UP, UP]);
        assert!(matches!(step, Step::Answer { degraded: Some(Degraded::StageFailed), .. }));
    }

    #[test]
    fn nothing_to_ask_and_nothing_said_is_given_up() {
        let step = two().next(&view(&[], &[false, false]), &[DOWN, DOWN]);
        assert_eq!(step, Step::GiveUp(GiveUp::NoStage));
    }

    #[test]
    fn a_condition_that_does_not_hold_does_not_degrade() {
        let mut cascade = two();
        cascade.rules[1].when.input = Some(InputKind::Clip);
        let step = cascade.next(&view(&[hop(0, 0.6)], &[true, false]), &[UP, DOWN]);
        assert!(matches!(step, Step::Answer { degraded: None, .. }), "{step:?}");
    }

    #[test]
    fn exhausted_rules() {
        let hops = [hop(0, 0.2), hop(1, 0.6)];
        let job = view(&hops, &[true, true]);
        let at = |rule| best_so_far(&job, rule).map(|(_, p)| p.get());
        assert_eq!(at(Exhausted::Last), Some(0.6));
        assert_eq!(at(Exhausted::MostConfident), Some(0.2));
        assert_eq!(at(Exhausted::Mean), Some(0.4));
    }

    fn outcomes() -> impl Strategy<Value = Vec<Option<f32>>> {
        prop::collection::vec(prop::option::of(0.0f32..=1.0), 1..6)
    }

    proptest! {
        /// Whatever the stages say, a walk ends after at most one visit per stage and never turns
        /// back, under every policy.
        #[test]
        fn a_walk_ends_and_never_revisits(
            says in outcomes(),
            up in prop::collection::vec(any::<bool>(), 6),
            committee in any::<bool>(),
        ) {
            let rules = vec![rule(0.15, 0.85); says.len()];
            let name = if committee { "committee" } else { "cascade" };
            let policy = policy(name, rules, Exhausted::Last).unwrap();
            let stages: Vec<_> = up.iter().take(says.len()).map(|u| if *u { UP } else { DOWN }).collect();
            let (mut hops, mut closed) = (Vec::new(), vec![false; says.len()]);
            for _ in 0..=says.len() {
                match policy.next(&view(&hops, &closed), &stages) {
                    Step::Ask(i) => {
                        prop_assert!(!closed[i] && up[i]);
                        prop_assert!(hops.iter().all(|(s, _)| *s < i), "turned back");
                        closed[i] = true;
                        hops.push(says[i].map_or_else(|| failed(i), |p| hop(i, p)));
                    }
                    _ => return Ok(()),
                }
            }
            prop_assert!(false, "did not end");
        }

        /// Widening the exits never makes a job go further.
        #[test]
        fn exits_are_monotone(p in 0.0f32..=1.0, low in 0.0f32..0.5, high in 0.5f32..=1.0, more in 0.0f32..0.2) {
            let exits = |below: f32, above: f32| {
                let cascade = Cascade { rules: vec![rule(below, above); 2], exhausted: Exhausted::Last };
                matches!(cascade.next(&view(&[hop(0, p)], &[true, false]), &[UP, UP]), Step::Answer { .. })
            };
            prop_assert!(!exits(low, high) || exits(low + more, high - more));
        }
    }
}
