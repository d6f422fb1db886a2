//! What is printed of a verdict: a line for people, or the fields of the HTTP API.

use std::fmt;

use serde::Serialize;

use crate::prediction::{Hop, Verdict};

/// One image's answer.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Reply<'a> {
    file: &'a str,
    probability: f32,
    label: &'static str,
    stage: &'a str,
    confidence: f32,
    /// Whether the answer is less than it should be, and why.
    degraded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded_reason: Option<&'static str>,
    trace: Vec<Asked<'a>>,
    digest: String,
}

/// One stage that was asked; without a probability if it abstained or failed.
#[derive(Debug, PartialEq, Serialize)]
struct Asked<'a> {
    stage: &'a str,
    probability: Option<f32>,
    latency_ms: f64,
    batch_size: usize,
    /// What the score rests on; or `abstained: …` or `failed: …`.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl<'a> Reply<'a> {
    pub(super) fn new(file: &'a str, verdict: &'a Verdict, digest: String) -> Self {
        let probability = verdict.probability;
        Self {
            file,
            probability: probability.get(),
            label: if probability.is_roadwork() { "roadwork" } else { "not_roadwork" },
            stage: &verdict.stage,
            confidence: probability.confidence(),
            degraded: verdict.degraded.is_some(),
            degraded_reason: verdict.degraded.map(|why| why.as_str()),
            trace: verdict.trace.iter().map(Asked::new).collect(),
            digest,
        }
    }
}

impl<'a> Asked<'a> {
    fn new(hop: &'a Hop) -> Self {
        Self {
            stage: &hop.stage,
            probability: hop.probability().map(|probability| probability.get()),
            latency_ms: (hop.latency.as_secs_f64() * 1e6).round() / 1e3,
            batch_size: hop.batch_size,
            note: hop.note(),
        }
    }
}

/// Columns, separated by tabs.
impl fmt::Display for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, label, probability, stage, .. } = self;
        write!(f, "{file}\t{label}\t{probability:.4}\t{stage}")?;
        match self.degraded_reason {
            Some(why) => write!(f, "\tdegraded: {why}"),
            None => Ok(()),
        }
    }
}
