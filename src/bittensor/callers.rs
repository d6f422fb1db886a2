//! Who may call, and how much. Pure: the metagraph and the time are arguments.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{AddressError, Hotkey, Snapshot};

/// In the place of an address: everybody who signs may call.
pub const EVERYBODY: &str = "*";

/// How often those are forgotten who neither are here nor were lately.
const SWEEP: Duration = Duration::from_secs(60);

/// Settings: `[callers]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallersSpec {
    /// Whether the metagraph must give the caller a validator permit.
    pub require_permit: bool,
    /// Least total stake of a caller, in TAO.
    pub min_stake: f64,
    /// Hotkeys that may call whatever the metagraph says, and also without one; [`EVERYBODY`] for all.
    pub allow: Vec<String>,
    /// Hotkeys that may not call, whatever else says so.
    pub deny: Vec<String>,
    /// Most requests of one hotkey per minute. After a rest a whole minute's worth may come at once.
    pub max_per_minute: u32,
    /// Most requests of one hotkey at the same time.
    pub max_concurrent: u32,
    /// Stake in TAO from which a caller's requests go before others'.
    pub priority_stake: f64,
}

impl Default for CallersSpec {
    fn default() -> Self {
        Self {
            require_permit: true,
            min_stake: 0.0,
            allow: Vec::new(),
            deny: Vec::new(),
            max_per_minute: 15_000,
            max_concurrent: 256,
            priority_stake: 1000.0,
        }
    }
}

/// Why the settings cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallersError {
    /// A hotkey of a list is none.
    #[error("{list}[{index}] is no hotkey, {cause}: correct or remove it")]
    Address {
        /// `allow` or `deny`.
        list: &'static str,
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        cause: AddressError,
    },
    /// A stake below nothing, or no number.
    #[error("{setting} = {stake} is no stake: give it in TAO, 0 or more")]
    Stake {
        /// `min_stake` or `priority_stake`.
        setting: &'static str,
        /// What it is.
        stake: f64,
    },
    /// A limit that nobody could keep.
    #[error("{setting} = 0 lets nobody in: give 1 or more, or deny those who shall not call")]
    Zero {
        /// `max_per_minute` or `max_concurrent`.
        setting: &'static str,
    },
}

/// How much a caller matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Its stake is at least `priority_stake`.
    Validator,
    /// Anybody else.
    Normal,
}

/// A hotkey that may call. Whether it is the one who calls, only its signature tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Caller {
    /// The hotkey.
    pub hotkey: Hotkey,
    /// Its place on the subnet, if it is registered.
    pub uid: Option<u16>,
    /// Its total stake in TAO, if it is registered.
    pub stake: Option<f64>,
    /// How much it matters.
    pub class: Class,
}

/// Why a hotkey may not call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// `deny` names it.
    #[error("this hotkey is on the deny list of this miner")]
    Denied,
    /// There is no metagraph yet, and `allow` does not name it.
    #[error("this miner has no metagraph yet and cannot tell who is registered: try again later")]
    NoMetagraph,
    /// The metagraph does not have it.
    #[error("this hotkey is not registered on the subnet: register it and try again a while later")]
    NotRegistered,
    /// It has no validator permit.
    #[error("this hotkey has no validator permit on the subnet")]
    NoPermit,
    /// Its stake is below `min_stake`.
    #[error("the stake of this hotkey is below what this miner asks for")]
    LowStake,
}

impl NotAllowed {
    /// As a label of a metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NoMetagraph => "no_metagraph",
            Self::NotRegistered => "not_registered",
            Self::NoPermit => "no_permit",
            Self::LowStake => "low_stake",
        }
    }
}

/// Why a caller must wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// It calls more often than `max_per_minute`.
    #[error("this hotkey calls too often: come back in {} ms", retry_after.as_millis() + 1)]
    Rate {
        /// When it may call next.
        retry_after: Duration,
    },
    /// It has `max_concurrent` requests here already.
    #[error("this hotkey has too many requests here at the same time: wait for an answer")]
    Concurrency,
}

impl Busy {
    /// As a label of a metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rate { .. } => "rate",
            Self::Concurrency => "concurrency",
        }
    }
}

/// Who may call, and who is here.
#[derive(Debug)]
pub struct Callers {
    is_open: bool,
    allow: HashSet<Hotkey>,
    deny: HashSet<Hotkey>,
    require_permit: bool,
    min_stake: f64,
    priority_stake: f64,
    pace: Pace,
    max_concurrent: u32,
    book: Arc<Mutex<Book>>,
}

/// A bucket of tokens, counted in time: it is full at a moment, and each call moves that moment on by
/// `step`, at most to `burst` from now.
#[derive(Clone, Copy, Debug)]
struct Pace {
    step: Duration,
    burst: Duration,
}

/// Those who are here, or were within the last minute.
#[derive(Debug, Default)]
struct Book {
    pages: HashMap<Hotkey, Page>,
    sweep_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Page {
    inside: u32,
    full_at: Instant,
}

impl Callers {
    /// Takes the settings.
    ///
    /// # Errors
    /// A hotkey is none, or a number makes no sense.
    pub fn new(spec: &CallersSpec) -> Result<Self, CallersError> {
        let stakes = [("min_stake", spec.min_stake), ("priority_stake", spec.priority_stake)];
        for (setting, stake) in stakes {
            if !stake.is_finite() || stake < 0.0 {
                return Err(CallersError::Stake { setting, stake });
            }
        }
        let limits =
            [("max_per_minute", spec.max_per_minute), ("max_concurrent", spec.max_concurrent)];
        if let Some((setting, _)) = limits.into_iter().find(|(_, limit)| *limit == 0) {
            return Err(CallersError::Zero { setting });
        }
        Ok(Self {
            is_open: spec.allow.iter().any(|text| text == EVERYBODY),
            allow: hotkeys("allow", &spec.allow)?,
            deny: hotkeys("deny", &spec.deny)?,
            require_permit: spec.require_permit,
            min_stake: spec.min_stake,
            priority_stake: spec.priority_stake,
            pace: Pace::per_minute(spec.max_per_minute),
            max_concurrent: spec.max_concurrent,
            book: Arc::default(),
        })
    }

    /// Whether a hotkey may call at all. Changes nothing, so it may be asked before the signature is
    /// checked.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, hotkey: Hotkey, snapshot: Option<&Snapshot>) -> Result<Caller, NotAllowed> {
        if self.deny.contains(&hotkey) {
            return Err(NotAllowed::Denied);
        }
        let neuron = snapshot.and_then(|snapshot| snapshot.neurons.get(&hotkey));
        if !self.is_open && !self.allow.contains(&hotkey) {
            snapshot.ok_or(NotAllowed::NoMetagraph)?;
            let neuron = neuron.ok_or(NotAllowed::NotRegistered)?;
            if self.require_permit && !neuron.validator_permit {
                return Err(NotAllowed::NoPermit);
            }
            let has_enough = neuron.stake >= self.min_stake;
            if !has_enough {
                return Err(NotAllowed::LowStake);
            }
        }
        let stake = neuron.map(|neuron| neuron.stake);
        let matters = stake.is_some_and(|stake| stake >= self.priority_stake);
        let class = if matters { Class::Validator } else { Class::Normal };
        Ok(Caller { hotkey, uid: neuron.map(|neuron| neuron.uid), stake, class })
    }

    /// Lets a caller in, whose signature was checked, until the seat is dropped.
    ///
    /// # Errors
    /// It must wait. A call that is refused does not count.
    pub fn enter(&self, caller: &Caller, now: Instant) -> Result<Seat, Busy> {
        let mut book = self.book.lock();
        book.sweep(now);
        let page = book.pages.entry(caller.hotkey).or_insert(Page { inside: 0, full_at: now });
        if page.inside >= self.max_concurrent {
            return Err(Busy::Concurrency);
        }
        page.full_at = self.pace.take(page.full_at, now)?;
        page.inside += 1;
        Ok(Seat { book: Arc::clone(&self.book), hotkey: caller.hotkey })
    }

    /// How many callers are remembered: those who are here, or were within the last two minutes.
    pub fn remembered(&self) -> usize {
        self.book.lock().pages.len()
    }
}

fn hotkeys(list: &'static str, texts: &[String]) -> Result<HashSet<Hotkey>, CallersError> {
    let read = |(index, text): (usize, &String)| {
        text.parse().map_err(|cause| CallersError::Address { list, index, cause })
    };
    let is_one = |text: &str| list != "allow" || text != EVERYBODY;
    texts.iter().enumerate().filter(|(_, text)| is_one(text)).map(read).collect()
}

impl Pace {
    fn per_minute(most: u32) -> Self {
        // Rounded up: rather a call too few than one too many.
        let step = Duration::from_nanos(60_000_000_000_u64.div_ceil(u64::from(most)));
        Self { step, burst: step * most }
    }

    /// When the bucket is full again after one more call.
    fn take(self, full_at: Instant, now: Instant) -> Result<Instant, Busy> {
        let full_at = full_at.max(now) + self.step;
        let retry_after = full_at.duration_since(now).saturating_sub(self.burst);
        if retry_after.is_zero() { Ok(full_at) } else { Err(Busy::Rate { retry_after }) }
    }
}

impl Book {
    /// Forgets, once a minute, those who are not here and whose bucket is full: a new page would say
    /// the same.
    fn sweep(&mut self, now: Instant) {
        if self.sweep_at.is_some_and(|at| now < at) {
            return;
        }
        self.pages.retain(|_, page| page.inside > 0 || page.full_at > now);
        self.pages.shrink_to(2 * self.pages.len());
        self.sweep_at = Some(now + SWEEP);
    }
}

/// A caller's place; dropping it gives it back.
#[must_use = "dropping it lets the next one in"]
pub struct Seat {
    book: Arc<Mutex<Book>>,
    hotkey: Hotkey,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(page) = self.book.lock().pages.get_mut(&self.hotkey) {
            page.inside -= 1;
        }
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seat({})", self.hotkey)
    }
}

#[cfg(test)]
#[path = "callers_tests.rs"]
mod tests;
