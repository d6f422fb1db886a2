//! The public port and who may call it.

use super::Checks;
use super::ranges::is_host;
use crate::bittensor::{EVERYBODY, Hotkey};
use crate::config::Key;

/// Below this, the connections that a dendrite keeps are closed under it.
const KEEP_ALIVE_S: u64 = 30;

/// Longest name of a synapse.
const NAME_MAX: usize = 64;

impl Checks<'_> {
    pub(super) fn axon(&mut self) {
        let axon = &self.config.axon;
        let key = |name| Key::from(["axon", name]);
        let at_least_one = "must be at least 1";
        self.need(is_host(&axon.host), &key("host"), "must be an IP address or a host name");
        self.need(axon.workers <= 1024, &key("workers"), "must be at most 1024");
        self.need(axon.max_body_bytes >= 1, &key("max_body_bytes"), at_least_one);
        let message = format!("must be at most {}", self.other(&key("body_budget_bytes")));
        let fits = axon.max_body_bytes <= axon.body_budget_bytes;
        self.need(fits, &key("max_body_bytes"), message);
        self.need(axon.max_connections >= 1, &key("max_connections"), at_least_one);
        self.need(axon.read_timeout_ms >= 1, &key("read_timeout_ms"), at_least_one);
        self.need(axon.default_timeout_ms >= 1, &key("default_timeout_ms"), at_least_one);
        let message = format!("must be at most {}", self.other(&key("max_timeout_ms")));
        let fits = axon.default_timeout_ms <= axon.max_timeout_ms;
        self.need(fits, &key("default_timeout_ms"), message);
        // A NaN is in no range.
        let fits = (0.0..=1.0).contains(&axon.prior);
        self.need(fits, &key("prior"), "must be a probability, 0 to 1");
        self.need(axon.remember <= 1_000_000, &key("remember"), "must be at most 1000000");
        if axon.keep_alive_s < KEEP_ALIVE_S {
            let message = format!("is less than {KEEP_ALIVE_S}");
            let hint = "a dendrite keeps its end for 15 s and loses a call that meets the close";
            self.warn(&key("keep_alive_s"), message, hint.into());
        }
        self.synapses();
        self.addresses(&key("hotkeys"), &axon.hotkeys);
        self.nobody();
    }

    /// A port that answers for somebody and lets nobody in is most likely a mistake.
    fn nobody(&mut self) {
        let config = self.config;
        let is_open = !config.axon.hotkeys.is_empty() || !config.wallet.hotkey.is_empty();
        let knows = !config.metagraph.file.is_empty() || !config.metagraph.endpoint.is_empty();
        if is_open && !knows && config.callers.allow.is_empty() {
            let message = "nobody may call: there is neither a metagraph nor an allow list".into();
            let hint = "set metagraph.file or metagraph.endpoint, or callers.allow".into();
            self.warn(&Key::from(["callers", "allow"]), message, hint);
        }
    }

    fn synapses(&mut self) {
        let (key, names) = (Key::from(["axon", "synapses"]), &self.config.axon.synapses);
        self.need(!names.is_empty(), &key, "must name at least one synapse");
        for (index, name) in names.iter().enumerate() {
            let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let fits = (1..=NAME_MAX).contains(&name.len()) && name.chars().all(is_fine);
            let message = format!("\"{name}\" must be 1 to {NAME_MAX} letters, digits and `_`");
            self.need(fits, &key, message);
            self.need(!names[..index].contains(name), &key, format!("\"{name}\" is named twice"));
        }
    }

    pub(super) fn callers(&mut self) {
        let callers = &self.config.callers;
        let key = |name| Key::from(["callers", name]);
        let allow: Vec<_> =
            callers.allow.iter().filter(|text| *text != EVERYBODY).cloned().collect();
        self.addresses(&key("allow"), &allow);
        if callers.allow.len() > allow.len() {
            let message = "everybody who signs a request may call".into();
            self.warn(
                &key("allow"),
                message,
                "name the hotkeys that may, once this is no test".into(),
            );
        }
        self.addresses(&key("deny"), &callers.deny);
        let at_least_one = "must be at least 1";
        self.need(callers.max_per_minute >= 1, &key("max_per_minute"), at_least_one);
        self.need(callers.max_concurrent >= 1, &key("max_concurrent"), at_least_one);
        for (stake, name) in
            [(callers.min_stake, "min_stake"), (callers.priority_stake, "priority_stake")]
        {
            let fits = stake.is_finite() && stake >= 0.0;
            self.need(fits, &key(name), "must be a number of TAO, 0 or more");
        }
    }

    fn addresses(&mut self, key: &Key, addresses: &[String]) {
        for text in addresses {
            if let Err(error) = text.parse::<Hotkey>() {
                self.need(false, key, format!("\"{text}\": {error}"));
            }
        }
    }

    pub(super) fn metagraph(&mut self) {
        let metagraph = &self.config.metagraph;
        let key = |name| Key::from(["metagraph", name]);
        self.need(metagraph.refresh_s >= 10, &key("refresh_s"), "must be at least 10");
        let endpoint = &metagraph.endpoint;
        if endpoint.is_empty() {
            return;
        }
        let is_socket = endpoint.starts_with("ws://") || endpoint.starts_with("wss://");
        self.need(is_socket, &key("endpoint"), "must begin with wss:// or ws://");
        let can = cfg!(feature = "chain");
        self.need(can, &key("endpoint"), "this build cannot ask a chain");
    }
}
