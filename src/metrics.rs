//! Every metric: name, labels, buckets, help; and the only functions that emit.
//!
//! Names are a contract with dashboards and alerts, and a snapshot test holds them. Labels are
//! bounded: a stage's name, an outcome, a cause, an actor; never a caller or a request.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::prediction::Cause;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets.
    Histogram,
}

/// One metric of the contract.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name as scraped.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it means, with its unit.
    pub help: &'static str,
}

macro_rules! catalogue {
    ($($id:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(const $id: &str = $name;)*
        /// Every metric that is emitted.
        pub const CATALOGUE: &[Metric] = &[
            $(Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help },)*
        ];
    };
}

catalogue! {
    QUEUE_DEPTH Gauge "roadcrew_stage_queue_depth" ["stage"]
        "Jobs waiting in the stage's mailbox.";
    QUEUE_WAIT Histogram "roadcrew_stage_queue_wait_seconds" ["stage"]
        "Seconds a job waited in the mailbox before its batch was formed.";
    QUEUE_DROPPED Counter "roadcrew_stage_queue_dropped_total" ["stage", "why"]
        "Jobs dropped when a batch was formed: their client left, or their deadline had passed.";
    BATCH_SIZE Histogram "roadcrew_stage_batch_size" ["stage"]
        "Jobs per batch.";
    BATCH_SECONDS Histogram "roadcrew_stage_batch_seconds" ["stage"]
        "Seconds the backend took for a batch.";
    PREDICTIONS Counter "roadcrew_stage_predictions_total" ["stage", "kind"]
        "Predictions by kind: score or abstention.";
    EXITS Counter "roadcrew_stage_exits_total" ["stage"]
        "Jobs whose verdict is this stage's score.";
    ESCALATIONS Counter "roadcrew_stage_escalations_total" ["stage"]
        "Jobs that went on to another stage after this one answered.";
    BATCH_FAILURES Counter "roadcrew_stage_batch_failures_total" ["stage", "cause"]
        "Batches that did not end in predictions.";
    RESTARTS Counter "roadcrew_stage_restarts_total" ["stage", "cause"]
        "Instances restarted, by what ended the one before.";
    UP Gauge "roadcrew_stage_up" ["stage"]
        "1 if an instance of the stage is ready, else 0.";
    INSTANCES Gauge "roadcrew_stage_instances_ready" ["stage"]
        "Instances that are ready.";
    EPOCH Gauge "roadcrew_stage_epoch" ["stage"]
        "How many instances the stage has started; older ones are ignored.";
    BATCH_LIMIT Gauge "roadcrew_stage_batch_limit" ["stage"]
        "Largest batch at present: halves when a batch is too big, then recovers.";
    ABANDONED Gauge "roadcrew_stage_abandoned_threads" ["stage"]
        "Threads of instances that hung, were left behind and still run.";
    LATE_ANSWERS Counter "roadcrew_stage_late_answers_total" ["stage"]
        "Batches that an abandoned instance finished after all; their answers are ignored.";
    IN_FLIGHT Gauge "roadcrew_jobs_in_flight" []
        "Jobs accepted and not yet answered.";
    OUTCOMES Counter "roadcrew_jobs_total" ["outcome"]
        "Jobs by how they ended: answered, degraded, overloaded, too_late, deadline, unavailable, draining, client_gone, internal.";
    DEGRADED Counter "roadcrew_jobs_degraded_total" ["why"]
        "Degraded verdicts: deadline, stage_down, stage_failed.";
    LOST Counter "roadcrew_jobs_lost_total" []
        "Jobs dropped without an answer. Anything but 0 is a bug.";
    JOB_SECONDS Histogram "roadcrew_job_seconds" []
        "Seconds from a job's acceptance to its answer.";
    REQUEST_SECONDS Histogram "roadcrew_request_seconds" ["route", "status"]
        "Seconds from a request's first byte to its reply, by route and status.";
    REQUEST_BYTES Gauge "roadcrew_request_bytes_in_flight" []
        "Bytes of request bodies and of decoded images held at present.";
    AXON_CALLS Counter "roadcrew_axon_calls_total" ["outcome"]
        "Calls of validators by how they ended: answered, degraded, prior, or why they were refused.";
    AXON_PRIORS Counter "roadcrew_axon_priors_total" ["why"]
        "Calls answered with the prior since there was no verdict: overloaded, too_late, deadline, unavailable, draining, undecodable, too_large, internal.";
    AXON_ANSWERS Counter "roadcrew_axon_answers_total" ["source"]
        "Verdicts for validators by where they came from: computed, shared (an identical image was in flight), remembered.";
    AXON_VERIFY Histogram "roadcrew_axon_verify_seconds" []
        "Seconds that it took to verify a caller that was let in.";
    AXON_NONCE_AGE Gauge "roadcrew_axon_nonce_age_seconds" []
        "How old the latest accepted nonce was: travel time plus the difference of the clocks. Beyond 4 s calls are about to be refused.";
    METAGRAPH_AGE Gauge "roadcrew_metagraph_age_seconds" []
        "How old the snapshot of the metagraph is.";
    METAGRAPH_NEURONS Gauge "roadcrew_metagraph_neurons" []
        "Hotkeys in the snapshot of the metagraph; 0 without one.";
    RELOADS Counter "roadcrew_reloads_total" ["outcome"]
        "Times the settings were read again: applied, unchanged, refused.";
    PROCESS_RESTARTS Gauge "roadcrew_process_restarts" []
        "How often the parent of `serve --supervised` has started the server again; always 0 without.";
    ACTOR_EVENTS Counter "roadcrew_actor_events_total" ["actor"]
        "Messages handled, by actor: supervisor, or a stage's name.";
    ACTOR_SECONDS Histogram "roadcrew_actor_handling_seconds" ["actor"]
        "Seconds an actor spent on a message.";
    ACTOR_MAILBOX Gauge "roadcrew_actor_mailbox_depth" ["actor"]
        "Messages sent to an actor and not yet handled.";
    BUILD Gauge "roadcrew_build_info" ["version"]
        "Always 1; the version is the label.";
}

/// Seconds, from a tenth of a millisecond to the nine seconds a validator waits.
const SECONDS: [f64; 18] = [
    0.000_01, 0.000_05, 0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 9.0, 15.0,
];
const SIZES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the process's recorder and describes every metric. Later calls change nothing.
pub fn install() {
    HANDLE.get_or_init(|| {
        let handle = builder().and_then(PrometheusBuilder::install_recorder);
        describe();
        handle.unwrap_or_else(|error| {
            tracing::error!(%error, "metrics are not recorded");
            PrometheusBuilder::new().build_recorder().handle()
        })
    });
}

fn builder() -> Result<PrometheusBuilder, metrics_exporter_prometheus::BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Full(BATCH_SIZE.into()), &SIZES)
}

fn describe() {
    for metric in CATALOGUE {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
    set(BUILD, 1.0, &[("version", env!("CARGO_PKG_VERSION"))]);
    count(LOST, 0, &[]);
    for outcome in ["applied", "unchanged", "refused"] {
        count(RELOADS, 0, &[("outcome", outcome)]);
    }
    set(PROCESS_RESTARTS, 0.0, &[]);
    set(IN_FLIGHT, 0.0, &[]);
    set(REQUEST_BYTES, 0.0, &[]);
}

/// The text that a scrape gets. Empty before [`install`].
pub fn render() -> String {
    HANDLE.get().map(PrometheusHandle::render).unwrap_or_default()
}

/// Folds recorded observations into their buckets; to be called every few seconds, or memory grows
/// between scrapes.
pub fn upkeep() {
    if let Some(handle) = HANDLE.get() {
        handle.run_upkeep();
    }
}

type Labels<'a> = &'a [(&'static str, &'a str)];

fn owned(labels: Labels<'_>) -> Vec<metrics::Label> {
    labels.iter().map(|(key, value)| metrics::Label::new(*key, (*value).to_owned())).collect()
}

#[expect(clippy::disallowed_macros, reason = "the one place that emits")]
fn count(name: &'static str, by: u64, labels: Labels<'_>) {
    metrics::counter!(name, owned(labels)).increment(by);
}

#[expect(clippy::disallowed_macros, reason = "the one place that emits")]
fn set(name: &'static str, value: f64, labels: Labels<'_>) {
    metrics::gauge!(name, owned(labels)).set(value);
}

/// Changes a gauge that several threads count on.
#[expect(clippy::disallowed_macros, reason = "the one place that emits")]
fn shift(name: &'static str, change: f64, labels: Labels<'_>) {
    metrics::gauge!(name, owned(labels)).increment(change);
}

#[expect(clippy::disallowed_macros, reason = "the one place that emits")]
fn observe(name: &'static str, value: f64, labels: Labels<'_>) {
    metrics::histogram!(name, owned(labels)).record(value);
}

/// Makes a stage's series exist from the start, so that a rate over them is defined.
pub fn stage_born(stage: &str) {
    for kind in ["score", "abstention"] {
        count(PREDICTIONS, 0, &[("stage", stage), ("kind", kind)]);
    }
    for cause in Cause::ALL {
        count(RESTARTS, 0, &[("stage", stage), ("cause", cause.as_str())]);
        count(BATCH_FAILURES, 0, &[("stage", stage), ("cause", cause.as_str())]);
    }
    count(EXITS, 0, &[("stage", stage)]);
    count(ESCALATIONS, 0, &[("stage", stage)]);
    count(LATE_ANSWERS, 0, &[("stage", stage)]);
    set(ABANDONED, 0.0, &[("stage", stage)]);
    set(QUEUE_DEPTH, 0.0, &[("stage", stage)]);
}

/// Jobs waiting in a stage's mailbox.
pub fn queue_depth(stage: &str, depth: usize) {
    set(QUEUE_DEPTH, depth as f64, &[("stage", stage)]);
}

/// A job left the mailbox for a batch.
pub fn queue_wait(stage: &str, waited: Duration) {
    observe(QUEUE_WAIT, waited.as_secs_f64(), &[("stage", stage)]);
}

/// A job was dropped when a batch was formed: `why` is `client_gone` or `deadline`.
pub fn queue_dropped(stage: &str, why: &'static str) {
    count(QUEUE_DROPPED, 1, &[("stage", stage), ("why", why)]);
}

/// A batch came back with predictions.
pub fn batch_done(stage: &str, size: usize, took: Duration, abstained: usize) {
    observe(BATCH_SIZE, size as f64, &[("stage", stage)]);
    observe(BATCH_SECONDS, took.as_secs_f64(), &[("stage", stage)]);
    count(PREDICTIONS, (size - abstained) as u64, &[("stage", stage), ("kind", "score")]);
    count(PREDICTIONS, abstained as u64, &[("stage", stage), ("kind", "abstention")]);
}

/// A batch failed.
pub fn batch_failed(stage: &str, cause: Cause) {
    count(BATCH_FAILURES, 1, &[("stage", stage), ("cause", cause.as_str())]);
}

/// A verdict is this stage's score.
pub fn exit(stage: &str) {
    count(EXITS, 1, &[("stage", stage)]);
}

/// A job went on after this stage answered.
pub fn escalation(stage: &str) {
    count(ESCALATIONS, 1, &[("stage", stage)]);
}

/// An instance is started again.
pub fn restart(stage: &str, cause: Cause) {
    count(RESTARTS, 1, &[("stage", stage), ("cause", cause.as_str())]);
}

/// How many of a stage's instances are ready, and how many it has started in all.
pub fn stage_state(stage: &str, ready: usize, epoch: u64) {
    set(UP, f64::from(u8::from(ready > 0)), &[("stage", stage)]);
    set(INSTANCES, ready as f64, &[("stage", stage)]);
    set(EPOCH, epoch as f64, &[("stage", stage)]);
}

/// The largest batch a stage takes at present.
pub fn batch_limit(stage: &str, limit: usize) {
    set(BATCH_LIMIT, limit as f64, &[("stage", stage)]);
}

/// So many more threads of a stage that hung are left behind and still run.
pub fn abandoned_threads(stage: &str, change: f64) {
    shift(ABANDONED, change, &[("stage", stage)]);
}

/// An abandoned instance came back after all.
pub fn late_answer(stage: &str) {
    count(LATE_ANSWERS, 1, &[("stage", stage)]);
}

/// So many more jobs are in flight than before.
pub fn in_flight(change: f64) {
    shift(IN_FLIGHT, change, &[]);
}

/// A job ended; `took` is absent for jobs that were refused at the door.
pub fn job_ended(outcome: &'static str, took: Option<Duration>) {
    count(OUTCOMES, 1, &[("outcome", outcome)]);
    if let Some(took) = took {
        observe(JOB_SECONDS, took.as_secs_f64(), &[]);
    }
}

/// A verdict was less than it should be.
pub fn degraded(why: &'static str) {
    count(DEGRADED, 1, &[("why", why)]);
}

/// A job was dropped without an answer.
pub fn lost() {
    count(LOST, 1, &[]);
}

/// A request was replied to. `route` is the route's pattern, never the path.
pub fn request(route: &'static str, status: u16, took: Duration) {
    let status = status.to_string();
    let labels = [("route", route), ("status", status.as_str())];
    observe(REQUEST_SECONDS, took.as_secs_f64(), &labels);
}

/// So many more bytes of requests are held than before.
pub fn request_bytes(change: f64) {
    shift(REQUEST_BYTES, change, &[]);
}

/// A validator's call ended.
pub fn axon_call(outcome: &'static str) {
    count(AXON_CALLS, 1, &[("outcome", outcome)]);
}

/// A validator's call was answered with the prior.
pub fn axon_prior(why: &'static str) {
    count(AXON_PRIORS, 1, &[("why", why)]);
}

/// A validator got a verdict.
pub fn axon_answer(source: &'static str) {
    count(AXON_ANSWERS, 1, &[("source", source)]);
}

/// A caller was verified, by a nonce of that age in seconds.
pub fn axon_verified(took: Duration, nonce_age_s: f64) {
    observe(AXON_VERIFY, took.as_secs_f64(), &[]);
    set(AXON_NONCE_AGE, nonce_age_s, &[]);
}

/// The snapshot of the metagraph that is in use: its age in seconds and its hotkeys.
pub fn metagraph(age_s: f64, neurons: usize) {
    set(METAGRAPH_AGE, age_s, &[]);
    set(METAGRAPH_NEURONS, neurons as f64, &[]);
}

/// The settings were read again: `outcome` is `applied`, `unchanged` or `refused`.
pub fn reload(outcome: &'static str) {
    count(RELOADS, 1, &[("outcome", outcome)]);
}

/// So many servers that the same parent had started died before this one.
pub fn process_restarts(restarts: u64) {
    set(PROCESS_RESTARTS, restarts as f64, &[]);
}

/// An actor handled a message.
pub fn actor_event(actor: &str, took: Duration, waiting: usize) {
    count(ACTOR_EVENTS, 1, &[("actor", actor)]);
    observe(ACTOR_SECONDS, took.as_secs_f64(), &[("actor", actor)]);
    set(ACTOR_MAILBOX, waiting as f64, &[("actor", actor)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_a_contract() {
        let lines = CATALOGUE.iter().map(|m| format!("{:?} {} {:?}", m.kind, m.name, m.labels));
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn what_is_scraped_is_described_and_in_the_catalogue() {
        install();
        stage_born("unit");
        request("/v1/predict", 200, Duration::from_millis(3));
        let text = render();
        for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
            let name = line.split(' ').nth(2).unwrap();
            let known = CATALOGUE.iter().find(|m| m.name == name);
            assert!(known.is_some(), "{name} is not in the catalogue");
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
        }
    }
}
