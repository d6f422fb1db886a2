//! Every value against its range, and the pairs that must be in order.

use std::net::IpAddr;

use super::Checks;
use crate::bittensor::WalletError;
use crate::config::{Key, StageConfig};
use crate::logging;

/// Longest time that any setting may name, in seconds; what adds a time to a moment relies on it.
const DAY_S: i64 = 86_400;

impl Checks<'_> {
    pub(super) fn ranges(&mut self) {
        self.times();
        self.http();
        self.limits();
        self.wallet();
        let config = self.config;
        for (name, stage) in &config.stages {
            self.stage_ranges(name, stage);
        }
        if let Err(message) = logging::check_filter(&config.log.filter) {
            self.need(false, &Key::from(["log", "filter"]), message);
        }
    }

    /// No time, whatever its unit, is longer than a day.
    fn times(&mut self) {
        let tree = self.tree;
        for (key, leaf) in tree.iter() {
            let is_backends_own = match key.stage() {
                Some((_, [first, _, ..])) => {
                    !["batching", "calibration", "restart"].contains(&first.as_str())
                }
                _ => false,
            };
            let most = match key.last().rsplit_once('_') {
                Some((_, "ms")) => DAY_S * 1000,
                Some((_, "s")) => DAY_S,
                _ => continue,
            };
            if !is_backends_own && let Some(value) = leaf.value.as_integer() {
                self.need(value <= most, key, format!("must be at most a day, {most}"));
            }
        }
    }

    fn http(&mut self) {
        let http = &self.config.http;
        let key = |name| Key::from(["http", name]);
        self.need(is_host(&http.host), &key("host"), "must be an IP address or a host name");
        self.need(http.workers <= 1024, &key("workers"), "must be at most 1024");
        self.need(http.max_body_bytes >= 1, &key("max_body_bytes"), "must be at least 1");
        let budget = key("body_budget_bytes");
        let message = format!("must be at most {}", self.other(&budget));
        self.need(http.max_body_bytes <= http.body_budget_bytes, &key("max_body_bytes"), message);
        self.need(http.max_connections >= 1, &key("max_connections"), "must be at least 1");
        self.need(http.read_timeout_ms >= 1, &key("read_timeout_ms"), "must be at least 1");
        let (default, max) = (key("default_deadline_ms"), key("max_deadline_ms"));
        let message = format!("must be at most {}", self.other(&max));
        self.need(http.default_deadline_ms <= http.max_deadline_ms, &default, message);
        let message = format!("must be below {}", self.other(&default));
        let fits = http.deadline_margin_ms < http.default_deadline_ms;
        self.need(fits, &key("deadline_margin_ms"), message);
        // Base64 makes four bytes of three; the rest of the request is small beside it.
        let encoded = self.config.image.max_bytes.div_ceil(3).saturating_mul(4);
        if encoded > http.max_body_bytes as u64 && http.max_body_bytes >= 1 {
            let image = self.other(&Key::from(["image", "max_bytes"]));
            let message = format!("is less than an image in base64 may need, with {image}");
            let hint = format!("raise it to {encoded} or more, or lower image.max_bytes");
            self.warn(&key("max_body_bytes"), message, hint);
        }
    }

    fn limits(&mut self) {
        let config = self.config;
        let (image, engine) = (&config.image, &config.engine);
        let at_least_one = "must be at least 1";
        self.need(image.max_bytes >= 1, &Key::from(["image", "max_bytes"]), at_least_one);
        self.need(image.max_pixels >= 1, &Key::from(["image", "max_pixels"]), at_least_one);
        self.need(image.max_dimension >= 1, &Key::from(["image", "max_dimension"]), at_least_one);
        self.need(config.clip.max_frames >= 1, &Key::from(["clip", "max_frames"]), at_least_one);
        let fits = (1..=1_000_000).contains(&engine.max_in_flight);
        self.need(fits, &Key::from(["engine", "max_in_flight"]), "must be 1 to 1000000");
        let fits = (1..=10).contains(&engine.max_lends);
        self.need(fits, &Key::from(["engine", "max_lends"]), "must be 1 to 10");
        let fits = (1..=1000).contains(&engine.max_hung);
        self.need(fits, &Key::from(["engine", "max_hung"]), "must be 1 to 1000");
        let fits = engine.threads <= 1024;
        self.need(fits, &Key::from(["engine", "threads"]), "must be at most 1024");
    }

    /// The names of the wallet: both or neither, and each of one file.
    fn wallet(&mut self) {
        let (setting, message) = match self.config.wallet.check_names() {
            Err(WalletError::HalfNamed { setting }) => {
                (setting, "must not be empty while the other half of the wallet is named".into())
            }
            Err(WalletError::Name { setting, reason }) => (setting, format!("is {reason}")),
            _ => return,
        };
        self.need(false, &Key::from(["wallet", setting]), message);
    }

    fn stage_ranges(&mut self, name: &str, stage: &StageConfig) {
        let StageConfig { spec, rule, .. } = stage;
        let at = Key::from(["stages", name]);
        let (batching, restart, when) =
            (at.child("batching"), at.child("restart"), at.child("when"));
        let at_least_one = "must be at least 1";
        self.need((1..=64).contains(&spec.instances), &at.child("instances"), "must be 1 to 64");
        self.need(spec.spares <= 8, &at.child("spares"), "must be at most 8");
        self.need(spec.hang_ms >= 1, &at.child("hang_ms"), at_least_one);
        self.need(spec.load_timeout_ms >= 1, &at.child("load_timeout_ms"), at_least_one);
        let fits = (1..=1024).contains(&spec.batching.max_batch);
        self.need(fits, &batching.child("max_batch"), "must be 1 to 1024");
        self.need(spec.restart.backoff_ms >= 1, &restart.child("backoff_ms"), at_least_one);
        let max = restart.child("backoff_max_ms");
        let message = format!("must be at least {}", self.other(&restart.child("backoff_ms")));
        self.need(spec.restart.backoff_ms <= spec.restart.backoff_max_ms, &max, message);
        self.need(spec.restart.window_s >= 1, &restart.child("window_s"), at_least_one);
        self.need(spec.restart.cool_off_s >= 1, &restart.child("cool_off_s"), at_least_one);
        let (least, most) = (rule.when.score_at_least, rule.when.score_at_most);
        for (value, key) in [
            (rule.exit_below, at.child("exit_below")),
            (rule.exit_above, at.child("exit_above")),
            (least, when.child("score_at_least")),
            (most, when.child("score_at_most")),
        ] {
            // A NaN is in no range.
            self.need((0.0..=1.0).contains(&value), &key, "must be a probability, 0 to 1");
        }
        let key = when.child("score_at_least");
        let message = format!("must be at most {}", self.other(&when.child("score_at_most")));
        let is_disordered = least > most;
        self.need(!is_disordered, &key, message);
        for problem in stage.calibration.problems() {
            self.need(false, &at.child("calibration").child(problem.key), problem.message);
        }
    }
}

/// Whether this can be listened on: an address, or a name of letters, digits, dots and hyphens.
pub(super) fn is_host(host: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    host.parse::<IpAddr>().is_ok() || (!host.is_empty() && host.chars().all(is_name))
}
