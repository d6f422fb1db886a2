//! The outcome as settings: a TOML overlay for `--config`. Pure.

use std::fmt::Write as _;

use anyhow::Context as _;
use toml::{Table, Value};

use super::report::{Report, Setting};
use crate::calibration::CalibrationSpec;

/// What the overlay says of where it comes from, and holds on to.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// SHA-256 of the data set's names, labels and bytes.
    pub data: String,
    /// `cascade.order` as it was configured, stages for clips included.
    pub order: Vec<String>,
    /// `cascade.exhausted`, as the configuration writes it.
    pub exhausted: String,
    /// Of every stage that was asked, one line: its name, its backend and the backend's settings.
    pub stages: Vec<String>,
}

/// The overlay, with a header that says what is guaranteed. `None` if nothing is certified.
///
/// # Errors
/// If a calibration cannot be written as TOML.
pub fn overlay(report: &Report, provenance: &Provenance) -> anyhow::Result<Option<String>> {
    let Some(outcome) = report.outcome() else { return Ok(None) };
    let mut text = header(report, outcome, provenance);
    let strings = |names: &[String]| names.iter().cloned().map(Value::String).collect::<Vec<_>>();
    let mut root = Table::new();
    let cascade = [
        ("policy", Value::String("cascade".to_owned())),
        ("order", Value::Array(strings(&provenance.order))),
        ("exhausted", Value::String(provenance.exhausted.clone())),
    ];
    let cascade: Table = cascade.map(|(key, value)| (key.to_owned(), value)).into_iter().collect();
    root.insert("cascade".to_owned(), cascade.into());
    let mut stages = Table::new();
    for (place, stage) in report.stages.iter().enumerate() {
        let mut table = Table::new();
        if let Some([below, above]) = outcome.exits.get(place) {
            table.insert("exit_below".to_owned(), short(*below));
            table.insert("exit_above".to_owned(), short(*above));
        }
        table.insert("calibration".to_owned(), calibration(&stage.chosen.spec)?.into());
        stages.insert(stage.name.clone(), table.into());
    }
    root.insert("stages".to_owned(), stages.into());
    text.push_str(&root.to_string());
    Ok(Some(text))
}

fn header(report: &Report, outcome: &Setting, provenance: &Provenance) -> String {
    let options = report.options;
    let confidence = 1.0 - options.delta;
    let answered = report.stages.iter().zip(&outcome.figures.answered);
    let answers: Vec<String> =
        answered.map(|(stage, share)| format!("{} {:.1} %", stage.name, 100.0 * share)).collect();
    let answers = answers.join(", ");
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "# Written by `roadcrew calibrate`. Use it with the configuration it was made from:\n\
         #\n\
         #   roadcrew serve --config FILE\n\
         #\n\
         # With confidence {confidence:.4} over the sample, the probability that this cascade is wrong \
         where\n\
         # the same stages without early exits are right is at most {epsilon}. Degraded verdicts and\n\
         # images unlike the sample are outside of this.\n\
         #\n\
         # data set   sha256 {data}\n\
         # images     {images}: {fitted} to fit, {tested} to test; seed {seed}, fit share {share}\n\
         # groups     {units}, equal files being one; {tested} are tested, by one image each\n\
         # harms      {harms} of {tested}, p-value {p:.3e}\n\
         # accuracy   {accuracy:.4}, of the full cascade {full:.4}, as configured before {before:.4}\n\
         # answers    {answers}\n\
         # cost       {cost:.3} of the full cascade's device time\n",
        epsilon = options.epsilon,
        data = provenance.data,
        images = report.images(),
        units = report.units,
        fitted = report.fitted,
        tested = report.tested,
        seed = options.seed,
        share = options.fit_share,
        harms = outcome.harms,
        p = outcome.p_value,
        accuracy = outcome.figures.accuracy,
        full = report.full.accuracy,
        before = report.before.accuracy,
        cost = outcome.figures.cost.device_ms / report.full.cost.device_ms.max(1e-12),
    );
    for stage in &provenance.stages {
        let _ = writeln!(text, "# stage      {}", stage.replace('\n', " "));
    }
    text.push('\n');
    text
}

/// Every key, so that nothing of an earlier calibration shines through.
fn calibration(spec: &CalibrationSpec) -> anyhow::Result<Table> {
    Table::try_from(spec).context("writing a calibration")
}

/// A threshold with as few digits as give the same number when it is read again.
fn short(threshold: f32) -> Value {
    Value::Float(threshold.to_string().parse().unwrap_or(f64::from(threshold)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_threshold_is_read_as_it_was_tested(threshold in 0.0_f32..=1.0) {
            let text = format!("x = {}", short(threshold));
            let table: Table = text.parse().unwrap();
            prop_assert_eq!(table["x"].as_float().unwrap() as f32, threshold);
        }
    }
}
