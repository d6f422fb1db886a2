//! The memory of nonces: a request that was accepted once is not accepted again, neither at once, nor
//! later, nor after a restart.
//!
//! # Why nothing comes back
//!
//! An accepted nonce is remembered one by one for [`KEPT`], by the clock that never steps; then it is
//! forgotten, and from then on it is *not above the floor*, the largest nonce that was ever forgotten.
//! What is remembered or not above the floor is refused. Both are on disk before the answer is given
//! (see `nonce_file`), so a restart changes neither, however it came about.
//!
//! # Why nobody else is refused
//!
//! A nonce is accepted from 16 s before our wall clock (4 s, and at most 12 s that the caller's unsigned
//! timeout may add) to 2 s after it. One that is accepted at `t` is at most `t + 2 s`, and becomes the
//! floor no sooner than `t + 60 s`. Then the window begins at `t + 44 s`, and even if the wall clock was
//! set back by 40 s meanwhile, at `t + 4 s`: still above the floor.
//!
//! If the wall clock was once far ahead, the floor may be far ahead too, and would refuse everybody
//! until then. So a floor that is more than 60 s ahead is not looked at, which is where the promise
//! ends: nothing comes back as long as the wall clock never stands 58 s or more behind where it once
//! stood. Within 42 s not even the floor is needed: a nonce of at most `t + 2 s` passes the window until
//! `t + 18 s`, and with the clock set back by 40 s until `t + 58 s`, which is within [`KEPT`].
//!
//! # Where nothing is known of what was accepted before
//!
//! Where there never was a file, nothing was accepted before, and there is no floor. After the host's own
//! restart the floor is the start: older nonces may have been accepted by a process whose notes are lost.
//! If the file is damaged or cannot be used, then such a process may have ended a moment ago, and have
//! accepted what was then 2 s in the future; so the floor is 2 s after the start
//! ([`Nonces::settles_in`]).

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use blake2::{Blake2b512, Digest as _};
use parking_lot::Mutex;

use super::moment::Moment;
use super::nonce_file::{Contents, Found, Id, NonceFile, Record, Tag, Unusable};
use super::window::AHEAD;
use super::{Hotkey, Unverified};

/// For how long an accepted nonce is remembered one by one.
const KEPT: Duration = Duration::from_secs(60);

/// How many nonces are remembered. When there is no room, requests are refused: nothing is forgotten
/// before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonceLimits {
    /// Of all callers.
    pub capacity: usize,
    /// Of one caller, so that none takes all the room.
    pub per_caller: usize,
}

impl Default for NonceLimits {
    /// A thousand requests a second, and of one caller a quarter of that: a validator sends one in
    /// twenty minutes. Takes 4 MiB on disk, and less than twice that in memory when full.
    fn default() -> Self {
        Self { capacity: 65_536, per_caller: 16_384 }
    }
}

/// Why nonces cannot be kept in a file.
#[derive(Debug, thiserror::Error)]
pub enum NoncesError {
    /// Two processes with one file would each accept what the other has.
    #[error(
        "another process keeps its nonces in {}: stop it, or give each process a file of its own",
        .0.display()
    )]
    Locked(PathBuf),
}

/// What makes a request the same as another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    pub(super) own: Hotkey,
    pub(super) caller: Hotkey,
    /// Empty where a protocol has none.
    pub(super) uuid: &'a str,
    pub(super) nonce: u64,
}

/// A claim as it is remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    id: Id,
    caller: Tag,
    nonce: u64,
}

impl From<Claim<'_>> for Key {
    fn from(claim: Claim<'_>) -> Self {
        let hash = Blake2b512::new()
            .chain_update(claim.own.bytes())
            .chain_update(claim.caller.bytes())
            .chain_update(claim.nonce.to_le_bytes())
            .chain_update(claim.uuid)
            .finalize();
        let (id, caller) = (std::array::from_fn(|at| hash[at]), claim.caller.bytes());
        Self { id, caller: std::array::from_fn(|at| caller[at]), nonce: claim.nonce }
    }
}

/// The nonces that were accepted, and the file that they are kept in.
#[derive(Debug)]
pub struct Nonces {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    memory: Memory,
    file: Option<NonceFile>,
}

impl Nonces {
    /// Remembers nothing beyond the process, and so refuses what is from before `now`.
    pub fn in_memory(limits: NonceLimits, now: Moment) -> Self {
        let contents = Contents::unknown_until(now.nanos());
        Self::of(Memory::new(&contents, limits, now), None)
    }

    /// Remembers what is in the file, and keeps it there. A file that cannot be used is a matter for
    /// the log and not an error: what is from before `now` is refused instead.
    ///
    /// # Errors
    /// If another process uses the file.
    pub fn open(path: &Path, limits: NonceLimits, now: Moment) -> Result<Self, NoncesError> {
        let limits = limits.sane();
        let unknown = now.nanos().saturating_add(nanos(AHEAD));
        let floors = |found: Found| match found {
            Found::Whole | Found::Nothing => 0,
            Found::Rebooted => now.nanos(),
            Found::Damaged => unknown,
        };
        match NonceFile::open(path, limits.capacity, &floors) {
            Ok((file, contents, found)) => {
                say(path, found);
                Ok(Self::of(Memory::new(&contents, limits, now), Some(file)))
            }
            Err(Unusable::Locked) => Err(NoncesError::Locked(path.to_owned())),
            Err(error) => {
                tracing::error!(
                    path = %path.display(), %error,
                    "nonces cannot be kept on disk: requests from before this start are refused, and \
                     so they will be at every start; name a file that can be written"
                );
                let contents = Contents::unknown_until(unknown);
                Ok(Self::of(Memory::new(&contents, limits, now), None))
            }
        }
    }

    fn of(memory: Memory, file: Option<NonceFile>) -> Self {
        Self { inner: Mutex::new(Inner { memory, file }) }
    }

    /// How long until a request that is signed then is not taken for one from before the start. To be
    /// waited for before the port is opened; zero, unless the file was unusable.
    pub fn settles_in(&self, now: Moment) -> Duration {
        let memory = &self.inner.lock().memory;
        Duration::from_nanos(memory.floor(now).saturating_sub(now.nanos()))
    }

    /// How many are remembered one by one.
    pub fn held(&self) -> usize {
        self.inner.lock().memory.len()
    }

    /// Whether a request may still be accepted.
    pub(super) fn check(&self, key: &Key, now: Moment) -> Result<(), Unverified> {
        self.inner.lock().memory.check(key, now)
    }

    /// Accepts an authentic request, at most once, and notes that on disk.
    pub(super) fn accept(&self, key: &Key, now: Moment) -> Result<(), Unverified> {
        let Inner { memory, file } = &mut *self.inner.lock();
        let record = memory.accept(key, now)?;
        if let Some(file) = file {
            file.write(&record);
        }
        Ok(())
    }
}

fn say(path: &Path, found: Found) {
    let path = path.display();
    match found {
        Found::Whole => tracing::debug!(%path, "nonces: read as they were left"),
        Found::Nothing => tracing::info!(%path, "nonces: the file is new"),
        Found::Rebooted => tracing::info!(
            %path, "nonces: the host was started anew; requests from before this start are refused"
        ),
        Found::Damaged => tracing::warn!(
            %path,
            "nonces: the file was damaged, or could not be written last time, and is made anew; \
             requests from before this start are refused"
        ),
    }
}

impl NonceLimits {
    /// With room for at least one.
    fn sane(self) -> Self {
        Self { capacity: self.capacity.max(1), per_caller: self.per_caller.max(1) }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What is remembered: no I/O.
#[derive(Debug)]
pub(super) struct Memory {
    limits: NonceLimits,
    seen: HashSet<Id>,
    /// In the order of their acceptance.
    order: VecDeque<Entry>,
    shares: HashMap<Tag, usize>,
    /// The largest nonce that was forgotten.
    floor: u64,
    /// The number of the next record.
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: Key,
    sequence: u64,
    at: Instant,
}

impl Memory {
    /// Begins with what a file told.
    pub(super) fn new(contents: &Contents, limits: NonceLimits, now: Moment) -> Self {
        let mut memory = Self {
            limits: limits.sane(),
            seen: HashSet::new(),
            order: VecDeque::new(),
            shares: HashMap::new(),
            floor: contents.floor,
            next: 0,
        };
        for record in &contents.records {
            let key = Key { id: record.id, caller: record.caller, nonce: record.nonce };
            memory.next = record.sequence;
            memory.forget_until(|memory, _| memory.has_slot());
            memory.push(key, now.mono);
        }
        // Their ages are not known, but these are past every window.
        let past = now.nanos().saturating_sub(nanos(KEPT));
        memory.forget_until(|_, oldest| oldest.key.nonce > past);
        memory
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// The floor, unless it is so far ahead that a clock must have been wrong.
    fn floor(&self, now: Moment) -> u64 {
        if self.floor <= now.nanos().saturating_add(nanos(KEPT)) { self.floor } else { 0 }
    }

    fn check(&self, key: &Key, now: Moment) -> Result<(), Unverified> {
        if self.seen.contains(&key.id) {
            return Err(Unverified::Replayed);
        }
        if key.nonce <= self.floor(now) {
            return Err(Unverified::Unremembered);
        }
        Ok(())
    }

    fn accept(&mut self, key: &Key, now: Moment) -> Result<Record, Unverified> {
        self.forget_until(|_, oldest| now.mono.saturating_duration_since(oldest.at) < KEPT);
        self.check(key, now)?;
        if !self.has_slot() {
            return Err(Unverified::Full);
        }
        if self.shares.get(&key.caller).is_some_and(|share| *share >= self.limits.per_caller) {
            return Err(Unverified::CallerFull);
        }
        let sequence = self.next;
        self.push(*key, now.mono);
        let Key { id, caller, nonce } = *key;
        Ok(Record { id, caller, nonce, floor: self.floor, sequence })
    }

    /// Whether the next record overwrites none that is remembered.
    fn has_slot(&self) -> bool {
        let span = self.order.front().map_or(0, |oldest| self.next - oldest.sequence);
        span < self.limits.capacity as u64
    }

    fn push(&mut self, key: Key, at: Instant) {
        if self.seen.insert(key.id) {
            *self.shares.entry(key.caller).or_default() += 1;
            self.order.push_back(Entry { key, sequence: self.next, at });
        }
        self.next = self.next.saturating_add(1);
    }

    /// Forgets the oldest until one is to be kept.
    fn forget_until(&mut self, keep: impl Fn(&Self, &Entry) -> bool) {
        while let Some(oldest) = self.order.front() {
            if keep(self, oldest) {
                break;
            }
            let Key { id, caller, nonce } = oldest.key;
            self.order.pop_front();
            self.seen.remove(&id);
            self.floor = self.floor.max(nonce);
            if let Some(share) = self.shares.get_mut(&caller) {
                *share -= 1;
                if *share == 0 {
                    self.shares.remove(&caller);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "nonces_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "restart_tests.rs"]
mod restart_tests;
