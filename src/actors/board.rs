//! The status board: how each stage is, readable from anywhere without asking an actor.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use crate::prediction::{Cause, StageName};

/// The state of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageState {
    /// Its first instance is being built.
    Loading,
    /// At least one instance takes batches.
    Ready,
    /// Its instances fell and are being started again; jobs wait.
    Restarting,
    /// It fell too often; the cascade goes round it until the next attempt.
    Down,
    /// Shut down.
    Stopped,
}

impl StageState {
    /// The word used in replies and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Restarting => "restarting",
            Self::Down => "down",
            Self::Stopped => "stopped",
        }
    }

    /// Whether the cascade lends jobs to a stage in this state.
    pub fn takes_jobs(self) -> bool {
        matches!(self, Self::Loading | Self::Ready | Self::Restarting)
    }
}

/// Why the process must end and be started again; what is in flight is answered first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    /// More threads have hung than may be left behind.
    TooManyHung,
    /// A stage's device is gone.
    DeviceLost,
}

impl Doom {
    /// The word used in replies and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooManyHung => "too_many_hung",
            Self::DeviceLost => "device_lost",
        }
    }
}

/// What the board says of a stage.
#[derive(Clone, Debug)]
pub struct StageStatus {
    /// Its name.
    pub name: StageName,
    /// The name of its backend.
    pub backend: String,
    /// Its state.
    pub state: StageState,
    /// Since when.
    pub since: Instant,
    /// Instances that take batches.
    pub instances_ready: usize,
    /// Instances configured.
    pub instances: usize,
    /// Further instances that are loaded and stand by.
    pub spares_ready: usize,
    /// Instances started so far.
    pub epoch: u64,
    /// Restarts so far.
    pub restarts: u64,
    /// What ended the last instance that fell, and its message.
    pub last_fall: Option<(Cause, String)>,
    /// Threads that hung and were left behind so far.
    pub abandoned: usize,
    /// How long the last successful load took.
    pub load_time: Option<Duration>,
    /// What its backends said of their versions when they were loaded: one, unless they differ.
    pub version: String,
}

/// The status of everything.
#[derive(Debug)]
pub struct Board {
    stages: Vec<RwLock<StageStatus>>,
    supervisor_alive: AtomicBool,
    draining: AtomicBool,
    doom: OnceLock<Doom>,
    /// The stages that a new job may be lent to, one bit each; those beyond the 64th are left out.
    entries: AtomicU64,
    settings_version: RwLock<String>,
}

impl Board {
    pub(crate) fn new(stages: Vec<StageStatus>) -> Self {
        Self {
            stages: stages.into_iter().map(RwLock::new).collect(),
            supervisor_alive: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            doom: OnceLock::new(),
            entries: AtomicU64::new(0),
            settings_version: RwLock::default(),
        }
    }

    /// Every stage, in the order of the cascade.
    pub fn stages(&self) -> Vec<StageStatus> {
        self.stages.iter().map(|stage| stage.read().clone()).collect()
    }

    /// What the answers depend on: the settings and every stage's version. While two of these are
    /// equal, the same input gets the same answer.
    pub fn version(&self) -> Vec<String> {
        let stages = self.stages.iter().map(|stage| stage.read().version.clone());
        std::iter::once(self.settings_version.read().clone()).chain(stages).collect()
    }

    pub(crate) fn set_settings_version(&self, version: &str) {
        version.clone_into(&mut self.settings_version.write());
    }

    /// Whether some stage can answer now.
    pub fn can_answer(&self) -> bool {
        self.is_alive()
            && !self.is_draining()
            && !self.has_doom()
            && self.stages.iter().any(|stage| stage.read().state == StageState::Ready)
    }

    /// Whether every stage is ready, or as ready as it will get without help.
    pub fn is_settled(&self) -> bool {
        self.stages.iter().all(|s| matches!(s.read().state, StageState::Ready | StageState::Down))
    }

    /// Whether every stage has been shut down, or nobody is left to do it.
    pub(crate) fn is_stopped(&self) -> bool {
        !self.is_alive() || self.stages.iter().all(|s| s.read().state == StageState::Stopped)
    }

    /// Whether the supervisor is alive. Once false, the process must end with 70.
    pub fn is_alive(&self) -> bool {
        self.supervisor_alive.load(Ordering::Acquire)
    }

    /// Why the process must end with 75 and be started again, if it must.
    pub fn get_doom(&self) -> Option<Doom> {
        self.doom.get().copied()
    }

    pub(crate) fn has_doom(&self) -> bool {
        self.doom.get().is_some()
    }

    /// Nothing but a new process helps.
    pub(crate) fn doom(&self, why: Doom) {
        if self.doom.set(why).is_ok() {
            tracing::error!(why = why.as_str(), "the process must be started again");
        }
    }

    /// Whether the engine refuses new jobs because it is shutting down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn supervisor_died(&self) {
        self.supervisor_alive.store(false, Ordering::Release);
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// The stages that a new job may be lent to. Empty as long as nobody has looked.
    pub(crate) fn entries(&self) -> impl Iterator<Item = usize> {
        let entries = self.entries.load(Ordering::Acquire);
        (0..self.stages.len().min(64)).filter(move |stage| entries & (1 << stage) != 0)
    }

    pub(crate) fn set_entries(&self, stages: &[usize]) {
        let bits =
            stages.iter().filter(|stage| **stage < 64).fold(0, |bits, stage| bits | 1 << stage);
        self.entries.store(bits, Ordering::Release);
    }

    /// What routing must know of a stage: its state, its instances that take batches, and how long it
    /// takes until there is one.
    pub(crate) fn readiness(&self, stage: usize) -> (StageState, usize, Duration) {
        self.stages.get(stage).map_or((StageState::Stopped, 0, Duration::ZERO), |status| {
            let status = status.read();
            let waits = status.state != StageState::Ready;
            let loading = status.load_time.filter(|_| waits).unwrap_or_default();
            (status.state, status.instances_ready, loading)
        })
    }

    /// Changes what is said of a stage.
    pub(crate) fn update(&self, stage: usize, change: impl FnOnce(&mut StageStatus)) {
        if let Some(status) = self.stages.get(stage) {
            change(&mut status.write());
        }
    }

    pub(crate) fn state(&self, stage: usize) -> StageState {
        self.stages.get(stage).map_or(StageState::Stopped, |status| status.read().state)
    }
}
