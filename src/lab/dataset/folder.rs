//! Folders of images: what is an image there, and in which order.

use std::path::{Path, PathBuf};

/// Folders within folders within folders; more is a circle.
const DEPTH: usize = 32;

/// Files that lie beside images and are none.
const COMPANIONS: [&str; 12] =
    ["cache", "csv", "db", "ini", "json", "jsonl", "lock", "md", "parquet", "txt", "xml", "yaml"];

/// The images below a folder, sorted by path. Hidden files and folders are left out, and so are texts
/// and tables; whatever else is there is taken for an image, so that nothing is lost in silence.
pub(super) fn images(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = walk(dir)?;
    files.retain(|path| extension(path).is_none_or(|e| !COMPANIONS.contains(&e.as_str())));
    Ok(files)
}

/// The files below a folder with that extension, sorted by path.
pub(super) fn with_extension(dir: &Path, wanted: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = walk(dir)?;
    files.retain(|path| extension(path).is_some_and(|found| found == wanted));
    Ok(files)
}

/// The extension in lower case.
pub(super) fn extension(path: &Path) -> Option<String> {
    path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase())
}

/// A path below a folder, with slashes.
pub(super) fn below(dir: &Path, path: &Path) -> String {
    let rest = path.strip_prefix(dir).unwrap_or(path);
    let parts: Vec<_> = rest.components().map(|c| c.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}

fn walk(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    visit(dir, 0, &mut files)?;
    files.sort();
    Ok(files)
}

fn visit(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    anyhow::ensure!(depth < DEPTH, "{} is too deep; do its links form a circle?", dir.display());
    for entry in fs_err::read_dir(dir)? {
        let path = entry?.path();
        let is_hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if is_hidden {
            continue;
        }
        if path.is_dir() {
            visit(&path, depth + 1, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
