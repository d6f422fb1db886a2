//! Files that are written whole or not at all.

use std::path::{Path, PathBuf};

use serde::Serialize;

/// Writes a file under another name beside it, then renames it: who reads it sees the old content or
/// the new one.
///
/// # Errors
/// If the folder does not exist, is not writable, or the disk is full.
pub fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    whole(path, |partial| Ok(fs_err::write(partial, bytes)?))
}

/// Lets `write` make a file under the name it is given, then renames it to `path`. If either fails,
/// nothing is left of it.
///
/// # Errors
/// What `write` fails with, or if the file cannot be renamed.
pub fn whole<T>(path: &Path, write: impl FnOnce(&Path) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let partial = partial(path);
    let written = write(&partial).and_then(|written| {
        fs_err::rename(&partial, path)?;
        Ok(written)
    });
    if written.is_err() {
        // The first failure is what the user should hear of.
        let _ = fs_err::remove_file(&partial);
    }
    written
}

/// Writes a value as JSON for people and programs.
///
/// # Errors
/// As [`write_whole`].
pub fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    write_whole(path, &bytes)
}

/// The name under which a file is written before it has its own.
pub fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}
