//! Watches the file that the metagraph is read from.

use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use blake2::{Blake2b512, Digest as _};

use super::metagraph::{BYTES_MAX, Snapshot, SnapshotError};

/// Tells whenever there is something new in a file, whether it was replaced, written over or removed.
///
/// A look costs one question to the system unless the file has changed; a changed file is read whole.
/// Nothing is kept of it: whoever asks goes on with the last good snapshot.
#[derive(Debug)]
pub struct FileWatch {
    file: PathBuf,
    seen: Seen,
}

/// What the last look found.
#[derive(Debug, PartialEq)]
enum Seen {
    /// There was no look yet.
    Nothing,
    /// No file, or none that we may read.
    Trouble(Trouble),
    /// This file with this content, by its digest.
    File {
        stamp: Stamp,
        content: [u8; 64],
        /// Whether it was read twice, see [`FileWatch::poll`].
        is_settled: bool,
    },
}

/// Why there is nothing to read.
#[derive(Clone, Debug, PartialEq)]
enum Trouble {
    Missing,
    Other(String),
}

impl Seen {
    /// Whether a file that looks so need not be read.
    fn is_settled(&self, now: Stamp) -> bool {
        matches!(self, Self::File { stamp, is_settled: true, .. } if *stamp == now)
    }

    /// Remembers a file; whether it is another than before.
    fn note(&mut self, stamp: Stamp, bytes: &[u8]) -> bool {
        let content = Blake2b512::digest(bytes).into();
        let is_settled = matches!(self, Self::File { stamp: before, content: known, .. }
            if *before == stamp && *known == content);
        *self = Self::File { stamp, content, is_settled };
        !is_settled
    }
}

/// What changes when a file does: where it is, how long it is, when it was changed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: SystemTime,
    changed: (i64, i64),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Missing,
            kind => Self::Other(kind.to_string()),
        }
    }
}

impl Trouble {
    fn of(self, file: &Path) -> SnapshotError {
        let file = file.to_owned();
        match self {
            Self::Missing => SnapshotError::Missing { file },
            Self::Other(reason) => SnapshotError::Unreadable { file, reason },
        }
    }
}

impl FileWatch {
    /// Watches a file, which need not be there yet.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), seen: Seen::Nothing }
    }

    /// The snapshot, or what is wrong with it, if the file has changed since the last call; `None` if
    /// it has not. What is wrong is said once for every change.
    ///
    /// The system's clock for files is coarse, and a file that changes again right after it was read
    /// may look the same. So what has changed is read once more at the next call.
    pub fn poll(&mut self) -> Option<Result<Snapshot, SnapshotError>> {
        let found = self.look().transpose()?;
        Some(found.and_then(|(bytes, written_at)| {
            Snapshot::from_json(&bytes, written_at).map_err(|cause| SnapshotError::Within {
                file: self.file.clone(),
                cause: Box::new(cause),
            })
        }))
    }

    /// The file's bytes and when they were written, if they are news.
    fn look(&mut self) -> Result<Option<(Vec<u8>, SystemTime)>, SnapshotError> {
        match self.read() {
            Ok(None) => Ok(None),
            Ok(Some((stamp, bytes))) => {
                let is_news = self.seen.note(stamp, &bytes);
                Ok(is_news.then_some((bytes, stamp.modified)))
            }
            Err(trouble) => {
                let is_known = matches!(&self.seen, Seen::Trouble(known) if *known == trouble);
                self.seen = Seen::Trouble(trouble.clone());
                if is_known { Ok(None) } else { Err(trouble.of(&self.file)) }
            }
        }
    }

    /// The file, unless it is known to be the one that was seen.
    fn read(&self) -> Result<Option<(Stamp, Vec<u8>)>, Trouble> {
        // Looked at before it is opened: opening a pipe waits for somebody to write.
        let about = fs_err::metadata(&self.file)?;
        if !about.is_file() {
            return Err(Trouble::Other("it is a folder or a device".into()));
        }
        let known = Stamp::of(&about);
        if self.seen.is_settled(known) {
            return Ok(None);
        }
        read(&self.file).map(Some)
    }
}

/// A file's bytes, with the stamp from before they were read: what changes meanwhile is seen at the
/// next look. Of a file that is too large, as much as shows it.
fn read(path: &Path) -> Result<(Stamp, Vec<u8>), Trouble> {
    let file = fs_err::File::open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    let mut bytes = Vec::new();
    file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok((stamp, bytes))
}

impl Stamp {
    fn of(about: &std::fs::Metadata) -> Self {
        Self {
            device: about.dev(),
            inode: about.ino(),
            bytes: about.len(),
            modified: about.modified().unwrap_or(UNIX_EPOCH),
            changed: (about.ctime(), about.ctime_nsec()),
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
