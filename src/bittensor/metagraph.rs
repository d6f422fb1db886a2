//! Who is registered on the subnet, at one moment.

mod error;
mod json;

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;

use super::Hotkey;

pub use error::SnapshotError;
pub(super) use json::BYTES_MAX;

/// What the chain says of one hotkey on the subnet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neuron {
    /// Its place on the subnet.
    pub uid: u16,
    /// Whether it may validate.
    pub validator_permit: bool,
    /// Its total stake, in TAO.
    pub stake: f64,
}

/// The metagraph of one subnet at one block.
///
/// As a file it is JSON:
///
/// ```json
/// {
///   "netuid": 72,
///   "block": 123,
///   "taken_at": "2026-11-23T00:00:00Z",
///   "neurons": [
///     {"uid": 0, "hotkey": "5Grw…", "validator_permit": true, "stake": 1234.5}
///   ]
/// }
/// ```
///
/// `block` may be left out. So may `taken_at`, and the time when the file was written stands for it;
/// it is a time by RFC 3339, or seconds since 1970. Other keys are ignored. Errors are: a hotkey or a
/// uid that comes twice, a stake that is negative or no number, more than 65,536 neurons, more than
/// 32 MiB.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The subnet.
    pub netuid: u16,
    /// The block it was read at, where that is known.
    pub block: Option<u64>,
    /// When it was read.
    pub taken_at: SystemTime,
    /// Every registered hotkey.
    pub neurons: HashMap<Hotkey, Neuron>,
}

impl Snapshot {
    /// Reads the JSON described above. `written_at` is when it was taken unless it says so itself.
    ///
    /// # Errors
    /// It is not that JSON, or it contradicts itself.
    pub fn from_json(bytes: &[u8], written_at: SystemTime) -> Result<Self, SnapshotError> {
        json::read(bytes, written_at)
    }

    /// The JSON described above, in the order of the uids.
    ///
    /// # Errors
    /// A stake is negative or no number, or the time is one that RFC 3339 cannot write.
    pub fn to_json(&self) -> Result<Vec<u8>, SnapshotError> {
        json::write(self)
    }

    /// Writes the JSON beside the file and puts it in the file's place, so that whoever reads the file
    /// sees the old one or the new one, whatever happens meanwhile.
    ///
    /// # Errors
    /// As [`Snapshot::to_json`], or the file cannot be written.
    pub fn save(&self, file: &Path) -> Result<(), SnapshotError> {
        let text = self.to_json()?;
        let beside = beside(file);
        let saved = replace(&text, &beside, file);
        saved.map_err(|source| {
            // If it is not there, so much the better.
            let _ = fs_err::remove_file(&beside);
            SnapshotError::Save { file: file.to_owned(), kind: source.kind() }
        })
    }
}

/// A name in the same folder that no other process uses.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    file.with_file_name(name)
}

fn replace(text: &[u8], beside: &Path, file: &Path) -> std::io::Result<()> {
    let mut new = fs_err::File::create(beside)?;
    new.write_all(text)?;
    new.sync_all()?;
    fs_err::rename(beside, file)
}

/// The snapshot that is in use, shared by all who ask and whoever renews it.
#[derive(Debug, Default)]
pub struct Metagraph(RwLock<Option<Arc<Snapshot>>>);

impl Metagraph {
    /// The latest snapshot; `None` until there was one.
    pub fn get(&self) -> Option<Arc<Snapshot>> {
        self.0.read().clone()
    }

    /// Puts a snapshot in use.
    pub fn put(&self, snapshot: Snapshot) {
        *self.0.write() = Some(Arc::new(snapshot));
    }

    /// How old the snapshot in use is; one from the future counts as fresh.
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        let snapshot = self.get()?;
        Some(now.duration_since(snapshot.taken_at).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(netuid: u16, taken_at: SystemTime) -> Snapshot {
        Snapshot { netuid, block: None, taken_at, neurons: HashMap::new() }
    }

    #[test]
    fn the_latest_snapshot_is_in_use_and_ages() {
        let (metagraph, start) = (Metagraph::default(), SystemTime::UNIX_EPOCH);
        assert_eq!((metagraph.get(), metagraph.age(start)), (None, None));
        let taken = start + Duration::from_secs(100);
        metagraph.put(snapshot(1, start));
        let held = metagraph.get().unwrap();
        metagraph.put(snapshot(2, taken));
        assert_eq!((held.netuid, metagraph.get().unwrap().netuid), (1, 2));
        assert_eq!(metagraph.age(taken + Duration::from_secs(7)), Some(Duration::from_secs(7)));
        assert_eq!(metagraph.age(start), Some(Duration::ZERO), "clocks may disagree");
    }

    #[test]
    fn saving_replaces_the_file_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("metagraph.json");
        let now = SystemTime::now();
        for netuid in [1, 2] {
            snapshot(netuid, now).save(&file).unwrap();
            let text = fs_err::read(&file).unwrap();
            assert_eq!(Snapshot::from_json(&text, SystemTime::UNIX_EPOCH).unwrap().netuid, netuid);
            assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 1);
        }
        // A folder cannot be replaced by a file.
        let folder = dir.path().join("folder");
        fs_err::create_dir(&folder).unwrap();
        let error = snapshot(1, now).save(&folder).unwrap_err();
        assert!(error.to_string().contains("folder"), "{error}");
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 2);
        assert!(snapshot(1, now).save(&dir.path().join("none/x.json")).is_err());
    }
}
