//! A parquet file with embedded images, as Hugging Face's `datasets` writes it: the column `image`
//! is a struct of `bytes` and `path`, or plain binary.
//!
//! Labels and other short columns are read at once, image bytes on demand. Memory: each file keeps
//! at most [`READERS`] readers, each with one decompressed page (about 1 MiB, or one image if that
//! is larger) and the dictionary of its row group (about 1 MiB as usual writers limit it); row groups
//! are never in memory as a whole, so their size does not matter. Reading in order costs each page
//! once; reading at random costs a page for each image, and a look at the headers of the pages
//! before it in the row group.

mod columns;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use parking_lot::Mutex;
use parquet::basic::Type;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::FileReader as _;
use parquet::file::serialized_reader::{SerializedFileReader, SerializedPageReader};

pub(super) use columns::cells;

/// Most readers kept open for one file.
const READERS: usize = 8;

/// An open parquet file.
pub struct Shard {
    path: PathBuf,
    metadata: ParquetMetaData,
    /// The column with the images' bytes, counted among the leaves.
    column: usize,
    /// The first row of each row group, and the number of rows.
    starts: Vec<u64>,
    readers: Mutex<Vec<Cursor>>,
}

/// A reader somewhere in a row group.
struct Cursor {
    group: usize,
    /// The row that is read next, counted in the file.
    next: u64,
    reader: ColumnReaderImpl<ByteArrayType>,
}

impl Shard {
    /// Opens a file and reads its footer.
    ///
    /// # Errors
    /// If it is not parquet, or has no column of images.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let name = || path.display().to_string();
        let (file, _) = fs_err::File::open(path)?.into_parts();
        let reader = SerializedFileReader::new(file).with_context(name)?;
        let metadata = reader.metadata().clone();
        let column = image_column(&metadata).with_context(name)?;
        let mut starts = vec![0];
        for group in metadata.row_groups() {
            let rows = u64::try_from(group.num_rows()).with_context(name)?;
            starts.push(starts.last().unwrap_or(&0) + rows);
        }
        let readers = Mutex::default();
        Ok(Self { path: path.to_owned(), metadata, column, starts, readers })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The bytes of the image in a row.
    ///
    /// # Errors
    /// If there is no such row, it has no bytes, or the file is broken.
    pub fn bytes(&self, row: u64) -> anyhow::Result<Vec<u8>> {
        let place = || format!("{}, row {row}", self.path.display());
        anyhow::ensure!(row < self.rows(), "{}: the file has {} rows", place(), self.rows());
        let group = self.starts.partition_point(|start| *start <= row) - 1;
        let mut cursor = match self.nearest(group, row) {
            Some(cursor) => cursor,
            None => self.cursor(group).with_context(place)?,
        };
        let image = cursor.read(row).with_context(place)?.with_context(|| {
            format!(
                "{}: the row has no bytes (if it only has a path, write the file again with the \
                 images embedded)",
                place()
            )
        })?;
        self.put_back(cursor);
        Ok(image.data().to_vec())
    }

    /// The reader in this row group that has the shortest way to a row.
    fn nearest(&self, group: usize, row: u64) -> Option<Cursor> {
        let mut readers = self.readers.lock();
        let fits = |c: &Cursor| c.group == group && c.next <= row;
        let all = readers.iter().enumerate().filter(|(_, c)| fits(c));
        let (index, _) = all.max_by_key(|(_, c)| c.next)?;
        Some(readers.remove(index))
    }

    /// Keeps a reader for the next row, unless there is none; the one kept longest makes room.
    fn put_back(&self, cursor: Cursor) {
        if self.starts.get(cursor.group + 1).is_some_and(|end| cursor.next < *end) {
            let mut readers = self.readers.lock();
            if readers.len() >= READERS {
                readers.remove(0);
            }
            readers.push(cursor);
        }
    }

    /// A new reader at the beginning of a row group. It has a file descriptor of its own, since it
    /// seeks.
    fn cursor(&self, group: usize) -> anyhow::Result<Cursor> {
        let (file, _) = fs_err::File::open(&self.path)?.into_parts();
        let row_group = self.metadata.row_group(group);
        let rows = usize::try_from(row_group.num_rows())?;
        let chunk = row_group.column(self.column);
        let pages = SerializedPageReader::new(file.into(), chunk, rows, None)?;
        let reader = ColumnReaderImpl::new(chunk.column_descr_ptr(), Box::new(pages));
        Ok(Cursor { group, next: self.starts[group], reader })
    }
}

impl Cursor {
    fn read(&mut self, row: u64) -> anyhow::Result<Option<ByteArray>> {
        let skip = usize::try_from(row - self.next)?;
        anyhow::ensure!(self.reader.skip_records(skip)? == skip, "the row group ends too early");
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let (records, ..) = self.reader.read_records(1, Some(&mut levels), None, &mut values)?;
        anyhow::ensure!(records == 1, "the row group ends too early");
        self.next = row + 1;
        Ok(values.pop())
    }
}

/// The leaf with the bytes of the images.
fn image_column(metadata: &ParquetMetaData) -> anyhow::Result<usize> {
    let schema = metadata.file_metadata().schema_descr();
    let leaf = schema.columns().iter().position(|column| {
        let parts: Vec<&str> = column.path().parts().iter().map(String::as_str).collect();
        matches!(parts[..], ["image", "bytes"] | ["image"])
    });
    let leaf = leaf.with_context(|| {
        let root = schema.root_schema().get_fields().iter();
        let names: Vec<&str> = root.map(|field| field.name()).collect();
        format!("there is no column `image` with embedded bytes; found {}", names.join(", "))
    })?;
    let column = schema.column(leaf);
    let kind = column.physical_type();
    anyhow::ensure!(kind == Type::BYTE_ARRAY, "the column `image` is {kind}, not bytes");
    Ok(leaf)
}

impl PartialEq for Shard {
    /// The same file.
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for Shard {}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shard({})", self.path.display())
    }
}
