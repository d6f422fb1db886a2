//! Where results go: nothing that exists is written over.

use std::path::Path;

use super::failure::Failure;

const NEXT: &str = "name a place that does not exist yet, or move what is there";

/// Fails if there is something at `path`, or no folder to hold it; to be asked before the work and not
/// after it.
pub(super) fn must_be_new(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() {
        let error = anyhow::anyhow!("{} exists already", path.display());
        return Err(Failure::new(error, NEXT));
    }
    must_have_folder(path)
}

/// Fails if there is no folder to hold what is to be written to `path`.
pub(super) fn must_have_folder(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let error = anyhow::anyhow!("{} is no folder", folder.display());
        return Err(Failure::new(error, "make it first, or name a file elsewhere"));
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
