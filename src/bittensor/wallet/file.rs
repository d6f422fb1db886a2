//! Reads a small file whole, into memory that is zeroed afterwards.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::WalletError;
use super::error::{FileKind, FileProblem};
use super::secret::Secret;

/// The bits of a mode that let others in.
const OTHERS: u32 = 0o077;

/// A file's bytes and its mode.
pub(super) fn read(
    path: &Path,
    kind: FileKind,
    limit: usize,
) -> Result<(Secret, u32), WalletError> {
    let wrong = |problem| WalletError::File { kind, file: path.to_owned(), problem };
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => wrong(FileProblem::Missing),
        kind => wrong(FileProblem::Unreadable(kind)),
    };
    // Looked at before it is opened: opening a pipe waits for somebody to write.
    let about = fs_err::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        return Err(wrong(FileProblem::NotAFile));
    }
    let mut file = fs_err::File::open(path).map_err(unreadable)?;
    let mut bytes = Secret::zeros(limit + 1);
    let length = fill(&mut file, &mut bytes).map_err(unreadable)?;
    if length > limit {
        return Err(wrong(FileProblem::TooLarge { limit }));
    }
    bytes.cut(length);
    Ok((bytes, about.permissions().mode()))
}

/// How much there was, up to what fits.
fn fill(file: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    loop {
        match file.read(&mut into[length..]) {
            Ok(0) => return Ok(length),
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What to tell the owner of a secret that others can read.
pub(super) fn warning(path: &Path, mode: u32) -> Option<String> {
    let (path, mode) = (path.display(), mode & 0o7777);
    (mode & OTHERS != 0)
        .then(|| format!("{path} is open to other users (mode {mode:04o}): run `chmod 600 {path}`"))
}
