//! Files that are written whole or not at all.

use std::path::{Path, PathBuf};

use serde::Serialize;

/// Writes a file under another name beside it, then renames it: who reads it sees the old content or
/// the new one.
///
/// # Errors
/// If the folder does not exist, is not writable, or the disk is full.
pub fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let partial = partial(path);
    fs_err::write(&partial, bytes)?;
    Ok(fs_err::rename(partial, path)?)
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
