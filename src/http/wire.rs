//! What goes over the wire: the types of every reply and of the JSON request.
//!
//! A snapshot holds their shape: changing a field here is changing a contract.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actors::board::{Board, StageStatus};
use crate::prediction::{Hop, Verdict};

/// A failure.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// What went wrong.
    pub(crate) error: ProblemBody,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProblemBody {
    /// A word for programs; stable.
    #[schema(example = "too_large")]
    pub(crate) code: &'static str,
    /// A sentence for people, with what to do; may change.
    pub(crate) message: String,
    /// The id of the request, also in the header `x-request-id`.
    pub(crate) request_id: String,
}

/// The verdict on an image or a clip.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PredictReply {
    /// Probability of roadwork.
    #[schema(minimum = 0.0, maximum = 1.0)]
    probability: f32,
    /// `roadwork` if the probability is above one half.
    label: Label,
    /// The stage whose score this is.
    stage: String,
    /// How sure the score is of its label: the larger of the probability and its complement.
    #[schema(minimum = 0.5, maximum = 1.0)]
    confidence: f32,
    /// Whether a stage that should have been asked was not, or failed.
    degraded: bool,
    /// Why the verdict is degraded: `deadline`, `stage_down` or `stage_failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded_reason: Option<&'static str>,
    /// The stages that were asked, in order.
    trace: Vec<TraceStep>,
    /// The id of the request, also in the header `x-request-id`.
    request_id: String,
}

/// The two answers.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Label {
    /// There is roadwork.
    Roadwork,
    /// There is none.
    NotRoadwork,
}

/// One stage that was asked.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TraceStep {
    /// The stage.
    stage: String,
    /// What it said; null if it abstained or failed.
    #[schema(required = true, minimum = 0.0, maximum = 1.0)]
    probability: Option<f32>,
    /// Waiting and computing, in milliseconds.
    latency_ms: f64,
    /// How many jobs shared its batch.
    batch_size: usize,
    /// What the score rests on; or `abstained: ...` or `failed: ...`.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl PredictReply {
    pub(crate) fn new(verdict: &Verdict, request_id: &str) -> Self {
        let roadwork = verdict.probability.is_roadwork();
        Self {
            probability: verdict.probability.get(),
            label: if roadwork { Label::Roadwork } else { Label::NotRoadwork },
            stage: verdict.stage.to_string(),
            confidence: verdict.probability.confidence(),
            degraded: verdict.degraded.is_some(),
            degraded_reason: verdict.degraded.map(|why| why.as_str()),
            trace: verdict.trace.iter().map(TraceStep::new).collect(),
            request_id: request_id.to_owned(),
        }
    }
}

impl TraceStep {
    fn new(hop: &Hop) -> Self {
        Self {
            stage: hop.stage.to_string(),
            probability: hop.probability().map(|p| p.get()),
            latency_ms: millis(hop.latency),
            batch_size: hop.batch_size,
            note: hop.note(),
        }
    }
}

/// A request as JSON: either `image` or `frames`. Unknown fields are refused.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PredictDocument<'a> {
    /// A JPEG, PNG or WebP file in base64, with or without a `data:` prefix.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>, format = "byte")]
    pub(crate) image: Option<Text<'a>>,
    /// The frames of a clip in order of time, each in base64.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Vec<String>>)]
    pub(crate) frames: Option<Vec<Text<'a>>>,
    /// Frames per second of the clip; 1 if absent.
    #[serde(default)]
    #[schema(exclusive_minimum = 0.0)]
    pub(crate) fps: Option<f64>,
    /// As the query parameter, which wins over it.
    #[serde(default)]
    #[schema(exclusive_minimum = 0.0)]
    pub(crate) deadline_ms: Option<f64>,
    /// As the query parameter, which wins over it: `validator`, `normal` or `bulk`.
    #[serde(default)]
    pub(crate) priority: Option<String>,
}

/// A string that is not copied unless it has escapes.
#[derive(Debug, Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// A request as a form: either one `image` (or `file`), or several `frame` parts. Unknown fields
/// are refused.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form; the parts are read one by one")]
pub(crate) struct PredictForm {
    /// A JPEG, PNG or WebP file.
    #[schema(format = "binary")]
    image: Option<String>,
    /// Another name for `image`.
    #[schema(format = "binary")]
    file: Option<String>,
    /// A frame of a clip; repeated, in order of time.
    #[schema(value_type = Option<Vec<String>>)]
    frame: Option<Vec<String>>,
    /// Frames per second of the clip; 1 if absent.
    #[schema(exclusive_minimum = 0.0)]
    fps: Option<f64>,
    /// As the query parameter, which wins over it.
    #[schema(exclusive_minimum = 0.0)]
    deadline_ms: Option<f64>,
    /// As the query parameter, which wins over it: `validator`, `normal` or `bulk`.
    priority: Option<String>,
}

/// Whether the process is alive.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`, or why the process must be started again: `supervisor_died`, `too_many_hung` or
    /// `device_lost`.
    pub(crate) status: &'static str,
}

/// Whether requests can be answered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// Whether some stage can answer now.
    ready: bool,
    /// Whether the server is shutting down.
    draining: bool,
    /// Every stage, in the order of the cascade.
    stages: Vec<StageSummary>,
}

/// A stage, in short.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StageSummary {
    /// Its name.
    name: String,
    /// `loading`, `ready`, `restarting`, `down` or `stopped`.
    state: &'static str,
    /// Instances that take batches.
    instances_ready: usize,
    /// Instances configured.
    instances: usize,
    /// For how long it has been in this state, in seconds.
    since_s: f64,
    /// What ended the last instance that fell.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_fall: Option<LastFall>,
}

/// What ended an instance.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LastFall {
    /// A word for programs, as in the metrics.
    cause: &'static str,
    /// What it said, for people.
    message: String,
}

/// Everything the board says of a stage.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StageDetail {
    #[serde(flatten)]
    summary: StageSummary,
    /// The name of its backend.
    backend: String,
    /// Instances started so far.
    epoch: u64,
    /// Restarts so far.
    restarts: u64,
    /// Further instances that are loaded and stand by.
    spares_ready: usize,
    /// Threads that hung and were left behind so far.
    abandoned: usize,
    /// How long the last successful load took, in milliseconds; null before the first.
    #[schema(required = true)]
    load_ms: Option<f64>,
}

/// The board.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StagesReply {
    /// Every stage, in the order of the cascade.
    stages: Vec<StageDetail>,
}

/// What there is on this port.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Index {
    /// `roadcrew`.
    pub(crate) service: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
    /// Where to go.
    pub(crate) links: Vec<Link>,
}

/// A place on this port.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Link {
    /// How to ask.
    pub(crate) method: &'static str,
    /// Where.
    pub(crate) path: &'static str,
    /// What one gets.
    pub(crate) what: &'static str,
}

impl Readiness {
    pub(crate) fn new(board: &Board, now: Instant) -> Self {
        Self {
            ready: board.can_answer(),
            draining: board.is_draining(),
            stages: board.stages().iter().map(|stage| StageSummary::new(stage, now)).collect(),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }
}

impl StageSummary {
    fn new(stage: &StageStatus, now: Instant) -> Self {
        let last_fall = stage.last_fall.as_ref();
        Self {
            name: stage.name.to_string(),
            state: stage.state.as_str(),
            instances_ready: stage.instances_ready,
            instances: stage.instances,
            since_s: millis(now.saturating_duration_since(stage.since)) / 1e3,
            last_fall: last_fall.map(|(cause, message)| LastFall {
                cause: cause.as_str(),
                message: message.clone(),
            }),
        }
    }
}

impl StagesReply {
    pub(crate) fn new(board: &Board, now: Instant) -> Self {
        let detail = |stage: &StageStatus| StageDetail {
            summary: StageSummary::new(stage, now),
            backend: stage.backend.clone(),
            epoch: stage.epoch,
            restarts: stage.restarts,
            spares_ready: stage.spares_ready,
            abandoned: stage.abandoned,
            load_ms: stage.load_time.map(millis),
        };
        Self { stages: board.stages().iter().map(detail).collect() }
    }
}

/// Milliseconds, to the microsecond: more digits would be noise in a reply.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
