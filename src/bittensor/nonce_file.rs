//! The nonces on disk: a ring of records in a file of fixed size, so that it needs no compaction and,
//! once made, no more space.
//!
//! ```text
//! slot 0      header   magic, boot, capacity, floor, zeros, check
//! slot 1..    records  id, caller, nonce, floor, sequence, check; or zeros, if never written
//! ```
//!
//! All of 64 bytes, so that none lies on two pages and a killed process leaves each whole or not
//! written. Record `n` has slot `1 + n % capacity`. Its *floor* is the largest nonce that was forgotten
//! when it was written; the record that it overwrites is among the forgotten. So whatever the moment
//! of the end, each nonce that was ever accepted is in the file or not above the largest floor there.
//!
//! What is written is in the kernel's hands and outlives the process. It does not outlive the host,
//! unless one waits for the disk at each request; instead the header says in which life of the host it
//! was written, and after another nothing from before the start is believed.
//!
//! Must not know: what an id is made of, and for how long it counts.

use std::fs::TryLockError;
use std::io;
use std::path::Path;
use std::time::Duration;

use blake2::{Blake2b512, Digest as _};
use fs_err::os::unix::fs::FileExt as _;
use fs_err::{File, OpenOptions};

pub(super) const SLOT: usize = 64;
const CHECKED: usize = SLOT - 8;
const MAGIC: &[u8; 16] = b"roadcrew nonces1";
/// A process that is ending, or a child of it that is not yet its own, may hold the lock a moment
/// longer.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// What one accepted request is remembered by.
pub(super) type Id = [u8; 16];
/// What a caller's share is counted by: half of its key.
pub(super) type Tag = [u8; 16];

/// One accepted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) id: Id,
    pub(super) caller: Tag,
    pub(super) nonce: u64,
    pub(super) floor: u64,
    pub(super) sequence: u64,
}

/// What a file told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    boot: [u8; 16],
    /// Every nonce that is not above it counts as accepted.
    pub(super) floor: u64,
    /// What was accepted, in that order.
    pub(super) records: Vec<Record>,
    /// Something in it was not as it was written.
    pub(super) damaged: bool,
}

/// Why there is no file to keep nonces in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it is held by another process")]
    Locked,
    #[error("it holds something else, which is left as it is")]
    Foreign,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How the file was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There was none.
    Nothing,
    /// As it was left.
    Whole,
    /// As it was left, in an earlier life of the host.
    Rebooted,
    /// Something was missing or wrong.
    Damaged,
}

/// The file, locked.
#[derive(Debug)]
pub(super) struct NonceFile {
    file: File,
    capacity: u64,
    health: Health,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Sound,
    /// It lacks a record, and could not yet be made to show it.
    Lacking,
    /// It lacks records, and shows it.
    Spoiled,
}

impl NonceFile {
    /// Opens or makes the file, and leaves a sound one: if it was found otherwise than whole, with
    /// `floors(found)` in it.
    pub(super) fn open(
        path: &Path,
        capacity: usize,
        floors: &dyn Fn(Found) -> u64,
    ) -> Result<(Self, Contents, Found), Unusable> {
        let boot = boot_id();
        let (file, new) = lock(path)?;
        let (contents, found) = if new {
            (Contents::default(), Found::Nothing)
        } else {
            examine(&file, capacity, boot)?
        };
        let mut contents = Contents { boot, ..contents };
        contents.floor = contents.floor.max(floors(found));
        match found {
            Found::Whole => {}
            // The floor alone makes up for all that is missing, so it is written before the rest.
            Found::Rebooted => file.write_all_at(&header(&contents, capacity), 0)?,
            Found::Nothing | Found::Damaged => {
                let image = image(&contents, capacity);
                file.write_all_at(&image[..SLOT], 0)?;
                file.set_len(image.len() as u64)?;
                file.write_all_at(&image[SLOT..], SLOT as u64)?;
            }
        }
        let capacity = capacity as u64;
        Ok((Self { file, capacity, health: Health::Sound }, contents, found))
    }

    /// Writes a record. When that fails, this is said once, and the file is made such that who opens it
    /// next sees that it lacks something.
    pub(super) fn write(&mut self, record: &Record) {
        let offset = SLOT as u64 * (1 + record.sequence % self.capacity);
        match self.health {
            Health::Sound => {
                if let Err(error) = self.file.write_all_at(&encode_record(record), offset) {
                    tracing::error!(
                        %error,
                        "a nonce could not be kept on disk: requests are answered on, and after the \
                         next start those from before it are refused; see to the disk and restart"
                    );
                    self.spoil();
                }
            }
            Health::Lacking => self.spoil(),
            Health::Spoiled => {}
        }
    }

    /// A file that is open for reading only.
    #[cfg(test)]
    pub(super) fn unwritable(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        Self { file, capacity: 8, health: Health::Sound }
    }

    /// An empty file is damaged, and needs no space. (One that is gone would be a first start.)
    fn spoil(&mut self) {
        let spoiled = self.file.set_len(0).is_ok();
        self.health = if spoiled { Health::Spoiled } else { Health::Lacking };
    }
}

/// The file, locked for this process, and whether it is new.
fn lock(path: &Path) -> Result<(File, bool), Unusable> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let (file, new) = match options.clone().create_new(true).open(path) {
        Ok(file) => (file, true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (options.open(path)?, false),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Err(Unusable::Foreign);
    }
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok((file, new)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
    Err(Unusable::Locked)
}

fn examine(file: &File, capacity: usize, boot: [u8; 16]) -> Result<(Contents, Found), Unusable> {
    let size = SLOT * (1 + capacity);
    // One byte more shows whether it is longer.
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).min(size + 1);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    let contents = read(&bytes, capacity).ok_or(Unusable::Foreign)?;
    let found = match (contents.damaged, contents.boot == boot) {
        (true, _) => Found::Damaged,
        (false, false) => Found::Rebooted,
        (false, true) => Found::Whole,
    };
    Ok((contents, found))
}

/// What the bytes of a file tell; nothing, if they are not of one that was begun here.
pub(super) fn read(bytes: &[u8], capacity: usize) -> Option<Contents> {
    let damaged = bytes.len() != SLOT * (1 + capacity);
    let mut contents = Contents { damaged, ..Contents::default() };
    let (slots, _) = bytes.as_chunks::<SLOT>();
    let Some((first, slots)) = slots.split_first() else {
        // Begun, and ended by a kill or a full disk.
        let begun = MAGIC.starts_with(bytes) || bytes.starts_with(MAGIC);
        return begun.then_some(contents);
    };
    if first != &[0; SLOT] && !first.starts_with(MAGIC) {
        return None;
    }
    match decode_header(first) {
        Some((boot, room, floor)) if room == capacity as u64 => {
            (contents.boot, contents.floor) = (boot, floor);
            contents.read_records(slots, capacity);
        }
        _ => contents.damaged = true,
    }
    Some(contents)
}

impl Contents {
    /// Of no file: nothing is known but that what is not above the floor may have been accepted.
    pub(super) fn unknown_until(floor: u64) -> Self {
        Self { floor, ..Self::default() }
    }

    fn read_records(&mut self, slots: &[[u8; SLOT]], capacity: usize) {
        for (index, slot) in slots.iter().take(capacity).enumerate() {
            if slot == &[0; SLOT] {
                continue;
            }
            match decode_record(slot) {
                Some(record) if record.sequence % capacity as u64 == index as u64 => {
                    self.floor = self.floor.max(record.floor);
                    self.records.push(record);
                }
                _ => self.damaged = true,
            }
        }
        self.records.sort_unstable_by_key(|record| record.sequence);
    }
}

/// A whole file.
pub(super) fn image(contents: &Contents, capacity: usize) -> Vec<u8> {
    let mut bytes = vec![0; SLOT * (1 + capacity)];
    bytes[..SLOT].copy_from_slice(&header(contents, capacity));
    for record in &contents.records {
        // Below the capacity, so it fits.
        let slot = SLOT * (1 + (record.sequence % capacity as u64) as usize);
        bytes[slot..slot + SLOT].copy_from_slice(&encode_record(record));
    }
    bytes
}

fn header(contents: &Contents, capacity: usize) -> [u8; SLOT] {
    let (room, floor) = ((capacity as u64).to_le_bytes(), contents.floor.to_le_bytes());
    sealed(&[MAGIC, &contents.boot, &room, &floor])
}

fn decode_header(slot: &[u8; SLOT]) -> Option<([u8; 16], u64, u64)> {
    let fields = unsealed(slot)?.strip_prefix(MAGIC)?;
    let (boot, fields) = fields.split_first_chunk()?;
    let (room, fields) = fields.split_first_chunk()?;
    let (floor, _) = fields.split_first_chunk()?;
    Some((*boot, u64::from_le_bytes(*room), u64::from_le_bytes(*floor)))
}

fn encode_record(record: &Record) -> [u8; SLOT] {
    let Record { id, caller, nonce, floor, sequence } = record;
    sealed(&[id, caller, &nonce.to_le_bytes(), &floor.to_le_bytes(), &sequence.to_le_bytes()])
}

fn decode_record(slot: &[u8; SLOT]) -> Option<Record> {
    let (id, fields) = unsealed(slot)?.split_first_chunk()?;
    let (caller, fields) = fields.split_first_chunk()?;
    let (nonce, fields) = fields.split_first_chunk()?;
    let (floor, fields) = fields.split_first_chunk()?;
    let (sequence, _) = fields.split_first_chunk()?;
    let [nonce, floor, sequence] = [nonce, floor, sequence].map(|field| u64::from_le_bytes(*field));
    Some(Record { id: *id, caller: *caller, nonce, floor, sequence })
}

/// The fields one after the other, with a check behind them.
pub(super) fn sealed(fields: &[&[u8]]) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    let mut at = 0;
    for field in fields {
        slot[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    }
    let check = check(&slot);
    slot[CHECKED..].copy_from_slice(&check);
    slot
}

fn unsealed(slot: &[u8; SLOT]) -> Option<&[u8]> {
    (slot[CHECKED..] == check(slot)).then_some(&slot[..CHECKED])
}

/// Finds accidents, not forgery: who can write the file can do worse.
fn check(slot: &[u8; SLOT]) -> [u8; SLOT - CHECKED] {
    let hash = Blake2b512::digest(&slot[..CHECKED]);
    std::array::from_fn(|at| hash[at])
}

/// Names the host's present life, where the kernel tells: elsewhere all lives look like one.
fn boot_id() -> [u8; 16] {
    let text = fs_err::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&digits, 16).unwrap_or_default().to_be_bytes()
}

#[cfg(test)]
#[path = "nonce_file_tests.rs"]
mod tests;
