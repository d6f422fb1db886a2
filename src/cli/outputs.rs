//! Where results go: nothing that exists is written over.

use std::path::Path;

use super::failure::Failure;

const NEXT: &str = "name a place that does not exist yet, or move what is there";

/// Fails if there is something at `path`; to be asked before the work and not after it.
pub(super) fn must_be_new(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() {
        let error = anyhow::anyhow!("{} exists already", path.display());
        return Err(Failure::new(error, NEXT));
    }
    Ok(())
}

/// A folder for results: made if it is missing, refused if it holds anything.
pub(super) fn new_folder(path: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::new(error, NEXT);
    fs_err::create_dir_all(path).map_err(failed)?;
    if fs_err::read_dir(path).map_err(failed)?.next().is_some() {
        let error = anyhow::anyhow!("{} is not empty", path.display());
        return Err(Failure::new(error, NEXT));
    }
    Ok(())
}

/// A result could not be written.
pub(super) fn unwritten(error: anyhow::Error) -> Failure {
    Failure::new(error, "check the disk and the rights of the folder that it was to go to")
}
