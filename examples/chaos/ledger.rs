//! The book of what the clients saw: every request is judged once, when it is over.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{End, Reply, Told};
use super::pictures::Picture;
use super::schedule::Planned;
use super::server::STAGES;

/// How far a score may be from its picture's brightness.
const TOLERANCE: f64 = 0.01;

/// Offenders that are listed; the rest is only counted.
const LISTED: usize = 40;

/// A poison, or an innocent request that was hurt: from when to when it was under way.
struct Stay {
    from: Instant,
    to: Instant,
    fine: bool,
}

/// What has been seen so far.
#[derive(Default)]
pub(crate) struct Ledger {
    slack: Duration,
    pub(crate) sent: u64,
    /// Replies with 200, 503 (unavailable) and 500: the engine had accepted these requests.
    pub(crate) ok: u64,
    pub(crate) unavailable: u64,
    pub(crate) internal: u64,
    /// 504: some were accepted, some were over before.
    pub(crate) timeouts: u64,
    pub(crate) refused: u64,
    /// Clients that left after their last byte.
    pub(crate) left: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) late: u64,
    pub(crate) mixed_up: u64,
    pub(crate) degraded: u64,
    pub(crate) hurt: u64,
    patient: u64,
    good: u64,
    poisons: Vec<Stay>,
    hurts: Vec<Stay>,
    latencies: Vec<f32>,
    mates: Vec<f32>,
    panics: Vec<(usize, Instant)>,
    recoveries: Vec<f32>,
    listed: usize,
}

/// A request that is over.
pub(crate) struct Case<'a> {
    pub(crate) planned: &'a Planned,
    pub(crate) picture: &'a Picture,
    /// When it was due.
    pub(crate) due: Instant,
}

impl Ledger {
    /// An empty book. Replies may be later than their deadlines by `slack`.
    pub(crate) fn new(slack: Duration) -> Self {
        Self { slack, ..Self::default() }
    }

    /// Judges a request.
    pub(crate) fn note(&mut self, case: &Case<'_>, told: &Told) {
        self.sent += u64::from(told.whole.is_some());
        match &told.end {
            End::Left => self.left += u64::from(told.whole.is_some()),
            End::Nothing(why) => {
                self.lost += 1;
                self.list("lost", case, why);
            }
            End::Replied(reply) => self.replied(case, told.whole.unwrap_or(case.due), reply),
        }
    }

    fn replied(&mut self, case: &Case<'_>, whole: Instant, reply: &Reply) {
        let code = reply.body["error"]["code"].as_str().unwrap_or_default();
        let say = || format!("{} {}", reply.status, reply.body);
        let counter = match (reply.status, code) {
            (200, _) => &mut self.ok,
            (429, _) | (503, "draining") => &mut self.refused,
            (503, _) => &mut self.unavailable,
            (500, _) => &mut self.internal,
            (504, _) => &mut self.timeouts,
            _ => {
                self.list("unexpected", case, &say());
                &mut self.lost
            }
        };
        *counter += 1;
        let wrong_score = reply.body["probability"]
            .as_f64()
            .is_some_and(|score| (score - f64::from(case.picture.score)).abs() > TOLERANCE);
        if reply.id != case.planned.id.to_string() || wrong_score {
            self.mixed_up += 1;
            self.list("mixed up", case, &say());
        }
        if reply.twice {
            self.duplicated += 1;
            self.list("duplicated", case, &say());
        }
        let took = reply.at.saturating_duration_since(whole);
        if took > case.planned.deadline + self.slack {
            self.late += 1;
            self.list("late", case, &format!("after {took:?}: {}", say()));
        }
        if !matches!((reply.status, code), (429, _) | (503, "draining")) {
            let stay = Stay { from: whole, to: reply.at, fine: true };
            self.accepted(case, stay, reply);
        }
    }

    /// Judges a request that was not refused at the door.
    fn accepted(&mut self, case: &Case<'_>, stay: Stay, reply: &Reply) {
        let verdict = Verdict(&reply.body);
        let undegraded = reply.status == 200 && !verdict.is_degraded();
        self.degraded += u64::from(reply.status == 200 && !undegraded);
        if reply.status == 200 {
            self.recovered(&verdict, &stay);
        }
        if case.picture.is_poison() {
            let faults = case.picture.faults;
            let fell_for = |stage: usize| faults[stage].is_some() && verdict.scored(stage);
            self.poisons.push(Stay { fine: !(0..2).any(fell_for), ..stay });
            return;
        }
        if reply.status == 200 {
            let latency = reply.at.saturating_duration_since(case.due).as_secs_f32() * 1e3;
            self.latencies.push(latency);
            if verdict.was_aboard_a_fall() {
                self.mates.push(latency);
            }
        }
        if case.planned.is_patient() {
            self.patient += 1;
            self.good += u64::from(undegraded);
            if !(undegraded && verdict.is_whole()) {
                self.hurt += 1;
                let took = stay.to.saturating_duration_since(stay.from);
                self.list("hurt", case, &format!("{} {} after {took:?}", reply.status, reply.body));
                self.hurts.push(stay);
            }
        }
    }

    /// A stage has panicked.
    pub(crate) fn panicked(&mut self, panics: Vec<(usize, Instant)>) {
        self.panics.extend(panics);
    }

    /// Ends the outages that this verdict proves to be over.
    fn recovered(&mut self, verdict: &Verdict<'_>, stay: &Stay) {
        let mut computed = stay.from;
        for hop in verdict.hops() {
            computed += Duration::from_secs_f64(hop["latency_ms"].as_f64().unwrap_or(0.0) / 1e3);
            let Some(stage) = stage(hop).filter(|_| !hop["probability"].is_null()) else {
                continue;
            };
            for (_, at) in self.panics.extract_if(.., |(s, at)| *s == stage && *at < computed) {
                self.recoveries.push((stay.to - at).as_secs_f32() * 1e3);
            }
        }
    }

    /// Poisons, and how many of them harmed nobody.
    pub(crate) fn poisons(&self) -> (usize, usize) {
        let together = |a: &Stay, b: &Stay| a.from <= b.to && b.from <= a.to;
        let alone = |poison: &&Stay| !self.hurts.iter().any(|hurt| together(poison, hurt));
        let isolated = self.poisons.iter().filter(|poison| poison.fine).filter(alone).count();
        (self.poisons.len(), isolated)
    }

    pub(crate) fn goodput_ratio(&self) -> f64 {
        self.good as f64 / self.patient.max(1) as f64
    }

    pub(crate) fn p99_ms(&self) -> Option<f64> {
        percentile(&self.latencies, 0.99)
    }

    pub(crate) fn batchmates_p99_ms(&self) -> Option<f64> {
        percentile(&self.mates, 0.99)
    }

    /// Milliseconds from a panic to the next answer: the given quantile.
    pub(crate) fn recovery_ms(&self, quantile: f64) -> Option<f64> {
        percentile(&self.recoveries, quantile)
    }

    fn list(&mut self, what: &str, case: &Case<'_>, say: &str) {
        self.listed += 1;
        if self.listed > LISTED {
            return;
        }
        let Case { planned, picture, .. } = case;
        eprintln!(
            "{what}: request {} due at {:.3} s, {}, deadline {:?}, {}: {say}",
            planned.id,
            planned.due.as_secs_f64(),
            picture.kind(),
            planned.deadline,
            planned.priority,
        );
    }
}

/// The body of a reply with 200, or of any other: then it says nothing.
struct Verdict<'a>(&'a Value);

impl Verdict<'_> {
    fn is_degraded(&self) -> bool {
        self.0["degraded"] != Value::Bool(false)
    }

    fn hops(&self) -> &[Value] {
        self.0["trace"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn scored(&self, index: usize) -> bool {
        self.hops().iter().any(|hop| stage(hop) == Some(index) && !hop["probability"].is_null())
    }

    /// Whether every stage that failed has made up for it.
    fn is_whole(&self) -> bool {
        self.hops().iter().filter_map(stage).all(|stage| self.scored(stage))
    }

    /// Whether an instance fell while it held this request.
    fn was_aboard_a_fall(&self) -> bool {
        const FALLS: [&str; 4] =
            ["failed: panic", "failed: hang", "failed: wrong_count", "failed: broken"];
        let fell = |hop: &Value| hop["note"].as_str().is_some_and(|note| FALLS.contains(&note));
        self.hops().iter().any(fell)
    }
}

/// The stage of a step of a trace.
fn stage(hop: &Value) -> Option<usize> {
    STAGES.iter().position(|stage| hop["stage"] == *stage)
}

/// `None` if there are no samples.
fn percentile(samples: &[f32], quantile: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f32::total_cmp);
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map(|value| (f64::from(*value) * 10.0).round() / 10.0)
}
