//! An image file, or standard input, within the limits.

use std::io::Read;
use std::path::Path;

use anyhow::Context as _;

use crate::image::{Image, ImageLimits};

/// Reads and decodes an image; never reads more than the limit and one byte.
pub(super) fn read(path: &Path, limits: &ImageLimits) -> anyhow::Result<Image> {
    let bytes = if path.as_os_str() == "-" {
        read_some(std::io::stdin().lock(), limits).context("standard input")?
    } else {
        let file = fs_err::File::open(path)?;
        limits.check_bytes(file.metadata()?.len())?;
        read_some(file, limits)?
    };
    Ok(Image::decode(&bytes, limits)?)
}

fn read_some(source: impl Read, limits: &ImageLimits) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limits.max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
