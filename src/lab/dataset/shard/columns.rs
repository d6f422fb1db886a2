//! The short columns of a parquet file: labels and what else is known of each image.

use std::sync::Arc;

use anyhow::Context as _;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::FileReader as _;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;

use super::Shard;
use crate::lab::dataset::label::{self, EXPECTED};

/// The columns that are read, besides the image.
const COLUMNS: [&str; 8] = [
    "label",
    "scene_description",
    "group",
    "origin",
    "transform_level",
    "difficulty",
    "split",
    "sha256",
];

/// What the columns say of one image.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::lab::dataset) struct Cells {
    pub(in crate::lab::dataset) label: Option<bool>,
    pub(in crate::lab::dataset) group: Option<String>,
    pub(in crate::lab::dataset) origin: Option<String>,
    pub(in crate::lab::dataset) transform_level: Option<u8>,
    pub(in crate::lab::dataset) difficulty: Option<f64>,
    pub(in crate::lab::dataset) split: Option<String>,
    pub(in crate::lab::dataset) sha256: Option<String>,
}

/// The short columns of every row.
///
/// Without a column `label`, an image shows roadwork exactly if its `scene_description` is not
/// empty, which is how the subnet's public set says it; with neither there are no labels.
pub(in crate::lab::dataset) fn cells(shard: &Shard) -> anyhow::Result<Vec<Cells>> {
    let name = || shard.path.display().to_string();
    let schema = shard.metadata.file_metadata().schema();
    let wanted: Vec<_> = schema
        .get_fields()
        .iter()
        .filter(|field| field.is_primitive() && COLUMNS.contains(&field.name()))
        .map(Arc::clone)
        .collect();
    let count = usize::try_from(shard.rows()).with_context(name)?;
    if wanted.is_empty() {
        return Ok(vec![Cells::default(); count]);
    }
    let has_label = wanted.iter().any(|field| field.name() == "label");
    let classes = class_names(&shard.metadata).with_context(name)?;
    let projection = Type::group_type_builder(schema.name()).with_fields(wanted).build();
    let (file, _) = fs_err::File::open(&shard.path)?.into_parts();
    let reader = SerializedFileReader::new(file).with_context(name)?;
    debug_assert_eq!(reader.metadata().num_row_groups(), shard.starts.len() - 1);
    let mut all = Vec::with_capacity(count);
    for row in RowIter::from_file(Some(projection.with_context(name)?), &reader)? {
        let place = || format!("{}, row {}", name(), all.len());
        let mut cells = Cells::default();
        for (column, field) in row.with_context(place)?.into_columns() {
            let set = cells.set(&column, &field, has_label, &classes);
            set.with_context(|| format!("{}, column `{column}`", place()))?;
        }
        all.push(cells);
    }
    Ok(all)
}

impl Cells {
    fn set(
        &mut self,
        column: &str,
        field: &Field,
        has_label: bool,
        classes: &[bool],
    ) -> anyhow::Result<()> {
        match column {
            "label" => self.label = read_label(field, classes)?,
            "scene_description" if !has_label => {
                self.label = Some(text(field)?.is_some_and(|text| !text.is_empty()));
            }
            "group" => self.group = word(field)?,
            "origin" => self.origin = word(field)?,
            "split" => self.split = word(field)?,
            "sha256" => self.sha256 = word(field)?,
            "transform_level" => {
                self.transform_level = whole(field)?.map(u8::try_from).transpose()?;
            }
            "difficulty" => self.difficulty = number(field)?,
            _ => {}
        }
        Ok(())
    }
}

/// What each number of a `ClassLabel` means, if the file names its classes.
fn class_names(metadata: &ParquetMetaData) -> anyhow::Result<Vec<bool>> {
    let pairs = metadata.file_metadata().key_value_metadata();
    let huggingface = pairs.into_iter().flatten().find(|pair| pair.key == "huggingface");
    let Some(text) = huggingface.and_then(|pair| pair.value.as_deref()) else {
        return Ok(Vec::new());
    };
    let info: serde_json::Value = serde_json::from_str(text).context("its `huggingface` key")?;
    let names = info["info"]["features"]["label"]["names"].as_array();
    let names = names.into_iter().flatten().filter_map(serde_json::Value::as_str);
    let meant = names.map(|name| {
        label::from_word(name).with_context(|| {
            format!("its ClassLabel has a class `{name}`; expected are roadwork and not_roadwork")
        })
    });
    meant.collect()
}

fn read_label(field: &Field, classes: &[bool]) -> anyhow::Result<Option<bool>> {
    let found = match field {
        Field::Null => return Ok(None),
        Field::Bool(truth) => Some(*truth),
        Field::Str(word) => label::from_word(word),
        other => match (whole(other)?, classes) {
            (Some(number), []) => label::from_number(number),
            (Some(number), classes) => {
                usize::try_from(number).ok().and_then(|n| classes.get(n)).copied()
            }
            (None, _) => None,
        },
    };
    Ok(Some(found.with_context(|| format!("{field} is no label; expected {EXPECTED}"))?))
}

fn text(field: &Field) -> anyhow::Result<Option<String>> {
    match field {
        Field::Null => Ok(None),
        Field::Str(text) => Ok(Some(text.clone())),
        Field::Bytes(bytes) => Ok(Some(bytes.as_utf8()?.to_owned())),
        other => anyhow::bail!("{other} is no text"),
    }
}

/// Text, or a number as text.
fn word(field: &Field) -> anyhow::Result<Option<String>> {
    match whole(field) {
        Ok(Some(number)) => Ok(Some(number.to_string())),
        _ => text(field),
    }
}

fn whole(field: &Field) -> anyhow::Result<Option<i64>> {
    Ok(Some(match *field {
        Field::Null => return Ok(None),
        Field::Byte(n) => n.into(),
        Field::Short(n) => n.into(),
        Field::Int(n) => n.into(),
        Field::Long(n) => n,
        Field::UByte(n) => n.into(),
        Field::UShort(n) => n.into(),
        Field::UInt(n) => n.into(),
        Field::ULong(n) => i64::try_from(n)?,
        ref other => anyhow::bail!("{other} is no whole number"),
    }))
}

fn number(field: &Field) -> anyhow::Result<Option<f64>> {
    match field {
        Field::Float(n) => Ok(Some(f64::from(*n))),
        Field::Double(n) => Ok(Some(*n)),
        other => Ok(whole(other)?.map(|n| n as f64)),
    }
}
