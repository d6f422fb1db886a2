//! The universal fake: a backend that does what a script says.
//!
//! The script is the table `[stages.NAME.scripted]`, or a TOML file of the same keys named there by
//! `script`. The keys are a contract (`config/scripted.toml` documents each): tests, benches, chaos
//! runs and outside checks drive the engine through them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Backend, BackendContext, BackendError, Fault, Input};
use crate::prediction::{Prediction, Probability};

/// The keys of the backend's settings: those of a [`Script`], or `script` alone.
pub const KEYS: &[&str] = &[
    "script",
    "base_ms",
    "per_image_ms",
    "slow_load_ms",
    "fail_loads",
    "batch",
    "image",
    "too_big_above",
    "hang_ms",
    "answer",
    "answers",
];

/// The keys of a script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// Milliseconds that every batch takes.
    pub base_ms: f64,
    /// Milliseconds that each image of a batch adds.
    pub per_image_ms: f64,
    /// Milliseconds that building the backend takes.
    pub slow_load_ms: u64,
    /// Fail to build for the first so many attempts of the stage.
    pub fail_loads: u64,
    /// Batches on which to misbehave.
    pub batch: BatchFaults,
    /// Images on which to misbehave, by the SHA-256 of the file's bytes (lower-case hex as
    /// `sha256sum` prints it; a prefix of at least eight digits is enough).
    pub image: ImageFaults,
    /// Batches larger than this fail with "too big"; 0 means that none is.
    pub too_big_above: usize,
    /// Milliseconds that a hang lasts; afterwards the batch goes on.
    pub hang_ms: u64,
    /// The answer for images without one of their own.
    pub answer: Answer,
    /// Answers by image hash.
    pub answers: BTreeMap<String, Answer>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            base_ms: 0.0,
            per_image_ms: 0.0,
            slow_load_ms: 0,
            fail_loads: 0,
            batch: BatchFaults::default(),
            image: ImageFaults::default(),
            too_big_above: 0,
            hang_ms: 3_600_000,
            answer: Answer::default(),
            answers: BTreeMap::new(),
        }
    }
}

impl Script {
    /// Whether anything depends on which image it is.
    fn names_images(&self) -> bool {
        let by_hash = |answer: &Answer| *answer == Answer::Rule(Rule::Hash);
        self.image != ImageFaults::default() || !self.answers.is_empty() || by_hash(&self.answer)
    }
}

/// Misbehaviour by the number of the batch, counted from 1 over the life of the stage, restarts
/// included; every n-th batch; 0 means never.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchFaults {
    /// Panic on every n-th batch.
    pub panic_every: u64,
    /// Hang on every n-th batch.
    pub hang_every: u64,
    /// Return one prediction too few on every n-th batch.
    pub wrong_count_every: u64,
    /// Return "broken" on every n-th batch.
    pub broken_every: u64,
    /// Return "retry" on every n-th batch.
    pub retry_every: u64,
    /// Return "device lost" on every n-th batch.
    pub device_lost_every: u64,
}

/// Misbehaviour by image: a batch that holds one of these fails as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageFaults {
    /// Panic if one of these is in the batch.
    pub panic: Vec<String>,
    /// Hang if one of these is in the batch.
    pub hang: Vec<String>,
    /// Return one prediction too few if one of these is in the batch.
    pub wrong_count: Vec<String>,
    /// Return "broken" if one of these is in the batch.
    pub broken: Vec<String>,
}

/// What to say of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// This probability; `nan` is an abstention, as it would be for a model.
    Score(f64),
    /// `"mean"`: the mean brightness of the image, in 0..=1. `"hash"`: a number drawn from the
    /// image's digest. `"abstain"`: no opinion.
    Rule(Rule),
}

/// Answers that depend on the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// The mean brightness.
    Mean,
    /// A number drawn from the hash.
    Hash,
    /// No opinion.
    Abstain,
}

impl Default for Answer {
    fn default() -> Self {
        Self::Rule(Rule::Mean)
    }
}

/// Where the settings of a stage come from: the keys of a script, or a file of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSettings {
    script: std::path::PathBuf,
}

/// What a stage's instances share: the count of batches goes on across restarts.
#[derive(Debug, Default)]
struct Counts {
    loads: AtomicU64,
    batches: AtomicU64,
}

/// One count per stage and script of this process.
static COUNTS: Mutex<BTreeMap<String, Arc<Counts>>> = Mutex::new(BTreeMap::new());

/// A backend that follows a script.
#[derive(Debug)]
pub struct Scripted {
    script: Script,
    counts: Arc<Counts>,
}

impl Scripted {
    /// Reads the script; takes as long, and fails as often, as it says.
    pub fn new(ctx: &BackendContext) -> anyhow::Result<Self> {
        let script = read_script(ctx)?;
        let counts = COUNTS.lock().entry(counts_key(ctx)).or_default().clone();
        std::thread::sleep(Duration::from_millis(script.slow_load_ms));
        let loads = counts.loads.fetch_add(1, Ordering::Relaxed);
        anyhow::ensure!(loads >= script.fail_loads, "scripted load failure {}", loads + 1);
        Ok(Self { script, counts })
    }

    fn misbehave(&self, batch: u64, digests: &[String]) -> Result<bool, BackendError> {
        let (by_batch, by_image) = (&self.script.batch, &self.script.image);
        let nth = |every: u64| every > 0 && batch.is_multiple_of(every);
        let has = |list: &[String]| digests.iter().any(|d| list.iter().any(|p| matches(d, p)));
        if nth(by_batch.hang_every) || has(&by_image.hang) {
            std::thread::sleep(Duration::from_millis(self.script.hang_ms));
        }
        if nth(by_batch.panic_every) || has(&by_image.panic) {
            std::panic::panic_any(format!("scripted panic on batch {batch}"));
        }
        if nth(by_batch.broken_every) || has(&by_image.broken) {
            return Err(BackendError::new(Fault::Broken, anyhow::anyhow!("scripted: broken")));
        }
        if nth(by_batch.retry_every) {
            return Err(BackendError::new(Fault::Retry, anyhow::anyhow!("scripted: retry")));
        }
        if nth(by_batch.device_lost_every) {
            let lost = anyhow::anyhow!("scripted: device lost");
            return Err(BackendError::new(Fault::DeviceLost, lost));
        }
        Ok(nth(by_batch.wrong_count_every) || has(&by_image.wrong_count))
    }

    fn answer(&self, input: &Input, digest: &str) -> Prediction {
        let own = self.script.answers.iter().find(|(prefix, _)| matches(digest, prefix));
        match own.map_or(&self.script.answer, |(_, answer)| answer) {
            Answer::Score(p) => Prediction::from_raw(*p as f32),
            Answer::Rule(Rule::Mean) => Prediction::from_raw(brightness(input)),
            Answer::Rule(Rule::Hash) => {
                let digits = u32::from_str_radix(&digest[..8], 16).unwrap_or(0);
                let drawn = Probability::new((f64::from(digits) / f64::from(u32::MAX)) as f32);
                Prediction::from_raw(drawn.map_or(f32::NAN, Probability::get))
            }
            Answer::Rule(Rule::Abstain) => {
                Prediction::Abstention { reason: "scripted abstention".into() }
            }
        }
    }
}

impl Backend for Scripted {
    fn infer(&mut self, inputs: &[Input]) -> Result<Vec<Prediction>, BackendError> {
        let batch = self.counts.batches.fetch_add(1, Ordering::Relaxed) + 1;
        let millis = self.script.base_ms + self.script.per_image_ms * inputs.len() as f64;
        std::thread::sleep(Duration::try_from_secs_f64(millis / 1e3).unwrap_or_default());
        if self.script.too_big_above > 0 && inputs.len() > self.script.too_big_above {
            return Err(BackendError::new(Fault::TooBig, anyhow::anyhow!("scripted: too big")));
        }
        let digests: Vec<String> = if self.script.names_images() {
            inputs.iter().map(digest).collect()
        } else {
            vec![String::new(); inputs.len()]
        };
        let one_short = self.misbehave(batch, &digests)?;
        let mut predictions: Vec<_> =
            inputs.iter().zip(&digests).map(|(input, d)| self.answer(input, d)).collect();
        if one_short {
            predictions.pop();
        }
        Ok(predictions)
    }
}

fn read_script(ctx: &BackendContext) -> anyhow::Result<Script> {
    if !ctx.settings.contains_key("script") {
        return ctx.settings();
    }
    let FileSettings { script: path } = ctx.settings()?;
    let text = fs_err::read_to_string(&path)?;
    toml::from_str(&text).with_context(|| format!("script {}", path.display()))
}

fn counts_key(ctx: &BackendContext) -> String {
    format!("{}\n{}", ctx.stage, toml::to_string(&ctx.settings).unwrap_or_default())
}

fn matches(digest: &str, prefix: &str) -> bool {
    prefix.len() >= 8 && digest.starts_with(prefix)
}

/// The name of an input in a script: its image's digest, or its first frame's.
fn digest(input: &Input) -> String {
    if let Input::File(file) = input {
        return file.digest_hex();
    }
    input.frames().first().map(|frame| frame.digest_hex()).unwrap_or_default()
}

/// NaN if there are no pixels.
fn brightness(input: &Input) -> f32 {
    let (mut sum, mut count) = (0_u64, 0_u64);
    let decoded = match input {
        Input::File(file) => file.decode().ok().map(Arc::new),
        _ => None,
    };
    for frame in input.frames().iter().chain(&decoded) {
        sum += frame.pixels().iter().map(|b| u64::from(*b)).sum::<u64>();
        count += frame.pixels().len() as u64;
    }
    (sum as f64 / (count as f64 * 255.0)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;

    fn context(script: &str) -> BackendContext {
        let settings = script.parse().unwrap();
        BackendContext {
            stage: format!("unit-{script}"),
            max_batch: 8,
            settings,
            ..BackendContext::default()
        }
    }

    fn grey(level: u8) -> Input {
        Input::Image(Arc::new(Image::from_rgb(2, 2, vec![level; 12]).unwrap()))
    }

    #[test]
    fn answers_by_rule_by_image_and_by_default() {
        let white = digest(&grey(255));
        let script = format!("answer = \"mean\"\n[answers]\n\"{}\" = nan\n", &white[..12]);
        let mut backend = Scripted::new(&context(&script)).unwrap();
        let said = backend.infer(&[grey(51), grey(255)]).unwrap();
        assert_eq!(said[0].probability().map(Probability::get), Some(0.2));
        assert!(matches!(said[1], Prediction::Abstention { .. }));
    }

    #[test]
    fn misbehaves_on_the_nth_batch_of_the_stage_across_restarts() {
        let ctx = context("batch.broken_every = 3");
        let fault = |backend: &mut Scripted| backend.infer(&[grey(0)]).err().map(|e| e.fault);
        let mut first = Scripted::new(&ctx).unwrap();
        assert_eq!(fault(&mut first), None);
        let mut second = Scripted::new(&ctx).unwrap();
        assert_eq!(fault(&mut second), None);
        assert_eq!(fault(&mut second), Some(Fault::Broken));
    }

    #[test]
    fn too_big_and_wrong_count() {
        let mut backend = Scripted::new(&context("too_big_above = 1")).unwrap();
        let fault = backend.infer(&[grey(0), grey(1)]).err().map(|e| e.fault);
        assert_eq!(fault, Some(Fault::TooBig));
        let mut backend = Scripted::new(&context("batch.wrong_count_every = 1")).unwrap();
        assert_eq!(backend.infer(&[grey(0), grey(1)]).unwrap().len(), 1);
    }

    #[test]
    fn a_hang_ends_and_its_batch_goes_on() {
        let script = "hang_ms = 30\nbatch.hang_every = 1";
        let mut backend = Scripted::new(&context(script)).unwrap();
        let begun = crate::clock::now();
        assert_eq!(backend.infer(&[grey(0)]).unwrap().len(), 1);
        assert!(begun.elapsed() >= Duration::from_millis(30));
    }

    #[test]
    fn the_manual_names_every_key_and_its_default() {
        let manual: Script = toml::from_str(include_str!("../../config/scripted.toml")).unwrap();
        assert_eq!(manual, Script::default());
        let keys = |text: &str| -> Vec<String> {
            let table: toml::Table = text.parse().unwrap();
            let below = |(k, v): (&String, &toml::Value)| match v.as_table() {
                Some(t) => t.keys().map(|inner| format!("{k}.{inner}")).collect(),
                None => vec![k.clone()],
            };
            table.iter().flat_map(below).collect()
        };
        insta::assert_snapshot!(keys(include_str!("../../config/scripted.toml")).join("\n"));
        let code = toml::to_string(&Script::default()).unwrap();
        let own: toml::Table = code.parse().unwrap();
        assert!(own.keys().all(|key| KEYS.contains(&key.as_str())));
        assert_eq!(keys(include_str!("../../config/scripted.toml")), keys(&code));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = Scripted::new(&context("per_imge_ms = 1")).unwrap_err().to_string();
        assert!(error.contains("per_imge_ms"), "{error}");
    }
}
