//! Rows on disk: append-only files of records, each with a checksum.
//!
//! A process appends only to files that it has made itself, so any number may share a folder. A record
//! that is torn or rotten fails its check and is as if it were not there; its row is computed again, and
//! written to a new file. Numbers are little-endian.
//!
//! | bytes | of a record |
//! |---|---|
//! | 32 | SHA-256 of the image's bytes; of a variation, of these 32 bytes and the variation's name |
//! | 4 × width | the row, f32 |
//! | 8 | the first of SHA-256 over all of the above |

use std::collections::{HashMap, HashSet};
use std::io::{BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use fs_err::{File, OpenOptions};
use sha2::{Digest as _, Sha256};

/// What names a row: SHA-256 of the image's bytes, or, of a variation, of that and the variation's name.
pub(super) type Key = [u8; 32];

/// The first bytes of every file; the number after them is the width.
const MAGIC: &[u8; 12] = b"roadcrew-f1\n";
const CHECK: usize = 8;

/// A folder of rows of one width.
pub(super) struct Store {
    dir: PathBuf,
    width: usize,
    /// The file that this process appends to, made with its first row.
    own: Option<File>,
}

impl Store {
    pub(super) fn open(dir: &Path, width: usize) -> anyhow::Result<Self> {
        fs_err::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned(), width, own: None })
    }

    /// The rows of those keys that are there.
    pub(super) fn read(&self, wanted: &HashSet<Key>) -> anyhow::Result<HashMap<Key, Vec<f32>>> {
        let mut rows = HashMap::new();
        for path in self.files()? {
            self.scan(&path, wanted, &mut rows)?;
        }
        Ok(rows)
    }

    /// Adds rows. They are in the operating system's hands when this returns.
    pub(super) fn append(&mut self, rows: &[(Key, Vec<f32>)]) -> anyhow::Result<()> {
        let mut bytes = Vec::with_capacity(rows.len() * self.record());
        for (key, row) in rows {
            let start = bytes.len();
            bytes.extend_from_slice(key);
            row.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
            let check = Sha256::digest(&bytes[start..]);
            bytes.extend_from_slice(&check[..CHECK]);
        }
        if self.own.is_none() {
            self.own = Some(self.create()?);
        }
        if let Some(file) = &mut self.own {
            file.write_all(&bytes)?;
        }
        Ok(())
    }

    fn record(&self) -> usize {
        32 + 4 * self.width + CHECK
    }

    fn header(&self) -> Vec<u8> {
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&(self.width as u32).to_le_bytes());
        header
    }

    /// A new file under the first free name; two processes cannot get the same.
    fn create(&self) -> anyhow::Result<File> {
        for number in 0_u32.. {
            let path = self.dir.join(format!("{number:06}.rows"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    file.write_all(&self.header())?;
                    return Ok(file);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
        anyhow::bail!("{} is full", self.dir.display())
    }

    fn files(&self) -> anyhow::Result<Vec<PathBuf>> {
        let entries = fs_err::read_dir(&self.dir)?;
        let mut files: Vec<PathBuf> =
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        files.retain(|path| path.extension().is_some_and(|e| e == "rows"));
        files.sort();
        Ok(files)
    }

    /// Takes the wanted rows of a file. What fails its check is passed over, and so is a file with
    /// another header.
    fn scan(
        &self,
        path: &Path,
        wanted: &HashSet<Key>,
        rows: &mut HashMap<Key, Vec<f32>>,
    ) -> anyhow::Result<()> {
        let mut reader = BufReader::new(File::open(path)?);
        let mut header = vec![0; self.header().len()];
        if !fill(&mut reader, &mut header)? || header != self.header() {
            return Ok(());
        }
        let mut record = vec![0; self.record()];
        while fill(&mut reader, &mut record)? {
            let (body, check) = record.split_at(record.len() - CHECK);
            let (key, row) = body.split_at(32);
            let Ok(key) = Key::try_from(key) else { continue };
            if wanted.contains(&key) && Sha256::digest(body)[..CHECK] == *check {
                let row = row.chunks_exact(4).filter_map(|b| b.try_into().ok());
                rows.insert(key, row.map(f32::from_le_bytes).collect());
            }
        }
        Ok(())
    }
}

/// Fills the buffer; false if the file ends before.
fn fill(reader: &mut impl std::io::Read, buffer: &mut [u8]) -> anyhow::Result<bool> {
    let mut taken = reader.take(buffer.len() as u64);
    let mut filled = 0;
    loop {
        match taken.read(&mut buffer[filled..])? {
            0 => return Ok(filled == buffer.len()),
            n => filled += n,
        }
    }
}
