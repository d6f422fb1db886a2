//! An ONNX file on its way to the disk: whole or not at all, and its digest on the way.

use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::lab::files::whole;
use crate::onnx::graph::Model;

/// Writes a model; the SHA-256 of the file in lower-case hex.
///
/// # Errors
/// As [`Model::write`]; then there is no file, or the one that was there before.
pub(super) fn write(model: &Model, path: &Path) -> anyhow::Result<String> {
    whole(path, |partial| write_partial(model, partial))
}

fn write_partial(model: &Model, path: &Path) -> anyhow::Result<String> {
    let file = fs_err::File::create(path)?;
    let mut out = Hashing { out: BufWriter::new(file), hasher: Sha256::new() };
    model.write(&mut out)?;
    out.flush()?;
    Ok(format!("{:x}", out.hasher.finalize()))
}

struct Hashing<W> {
    out: W,
    hasher: Sha256,
}

impl<W: io::Write> io::Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
