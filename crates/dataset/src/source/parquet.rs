//! Rows of Parquet files, their values as JSON has them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use serde_json::{Map, Value};

use super::room::{BATCH_ROWS, Room};
use super::{Place, Record};
use crate::{Error, Result};

/// The name of the Arrow type whose texts are JSON: what datasets keeps turns of several shapes in.
pub(crate) const JSON_TYPE: &str = "arrow.json";
pub(crate) const TYPE_NAME: &str = "ARROW:extension:name";

pub(crate) fn reader(path: &Path, file: File) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let failed = |source| Error::Parquet { action: "read", path: path.into(), source };
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(failed)?;
    // the crate panics where it meets one that is not in its place
    let mut chunks = builder.metadata().row_groups().iter().flat_map(RowGroupMetaData::columns);
    if !chunks.all(is_placed) {
        return Err(failed(ParquetError::General("a column has a negative place or length".into())));
    }
    Ok(builder.with_batch_size(BATCH_ROWS))
}

/// Whether a column's place and length in the file are numbers that can be.
fn is_placed(chunk: &ColumnChunkMetaData) -> bool {
    let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
    start >= 0 && chunk.compressed_size() >= 0
}

pub(super) fn names(builder: &ParquetRecordBatchReaderBuilder<File>) -> Vec<String> {
    builder.schema().fields().iter().map(|field| field.name().clone()).collect()
}

/// The first `limit` rows, with the columns of `wanted` that the file has.
pub(super) fn rows(
    room: &mut Room,
    builder: ParquetRecordBatchReaderBuilder<File>,
    wanted: &[&str],
    limit: usize,
) -> Result<Vec<Record>> {
    let path = room.path;
    let failed = |source| Error::Parquet { action: "read", path: path.into(), source };
    let names = names(&builder);
    let roots = (0..names.len()).filter(|&index| wanted.contains(&names[index].as_str()));
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let chunks = builder.metadata().row_groups().iter().flat_map(|group| group.columns().iter().enumerate());
    for (leaf, chunk) in chunks {
        if mask.leaf_included(leaf)
            && matches!(chunk.compression(), Compression::BROTLI(_) | Compression::LZO)
        {
            let kind = "Parquet compressed by brotli or LZO";
            return Err(Error::OtherFile {
                path: path.into(),
                kind,
                remedy: "compress it by zstd or snappy",
            });
        }
    }
    room.check(builder.metadata(), &mask)?;
    let reader = builder.with_projection(mask).with_limit(limit).build().map_err(failed)?;
    let (mut records, names): (Vec<Record>, Arc<[String]>) = (vec![], names.into());
    for batch in reader {
        let batch = batch.map_err(|error: ArrowError| failed(error.into()))?;
        for row in 0..batch.num_rows() {
            let place = Place::Row(records.len() as u64 + 1);
            let values = values(&batch, row).map_err(|(column, found)| Error::WrongType {
                path: path.into(),
                place,
                column,
                found,
                expected: "text, numbers, truth values, and lists and objects of them",
            })?;
            records.push(room.take(Record { place, names: names.clone(), values })?);
        }
    }
    Ok(records)
}

/// The values of a row, or the column that has another kind of them.
fn values(batch: &RecordBatch, row: usize) -> std::result::Result<Vec<(String, Value)>, (String, String)> {
    let schema = batch.schema();
    let cells = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let value = cell(field, column, row).map_err(|found| (field.name().clone(), found))?;
        Ok((field.name().clone(), value))
    });
    cells.collect()
}

/// One value; an error says what it is instead.
fn cell(field: &Field, array: &ArrayRef, row: usize) -> std::result::Result<Value, String> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let as_type = |kind: &DataType| cast(&array.slice(row, 1), kind).map_err(|error| error.to_string());
    let list = |element: &Field, items: &ArrayRef| {
        (0..items.len()).map(|item| cell(element, items, item)).collect::<std::result::Result<Value, _>>()
    };
    match array.data_type() {
        DataType::Null => Ok(Value::Null),
        DataType::Boolean => Ok(array.as_boolean().value(row).into()),
        DataType::Utf8 => text(field, array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => text(field, array.as_string::<i64>().value(row)),
        DataType::Utf8View => text(field, array.as_string_view().value(row)),
        DataType::Dictionary(_, values) => cell(field, &as_type(values)?, 0),
        kind if kind.is_signed_integer() => {
            Ok(as_type(&DataType::Int64)?.as_primitive::<Int64Type>().value(0).into())
        }
        kind if kind.is_unsigned_integer() => {
            Ok(as_type(&DataType::UInt64)?.as_primitive::<UInt64Type>().value(0).into())
        }
        kind if kind.is_floating() => {
            let number = as_type(&DataType::Float64)?.as_primitive::<Float64Type>().value(0);
            serde_json::Number::from_f64(number).map(Value::Number).ok_or_else(|| format!("`{number}`"))
        }
        DataType::List(element) => list(element, &array.as_list::<i32>().value(row)),
        DataType::LargeList(element) => list(element, &array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(element, _) => list(element, &array.as_fixed_size_list().value(row)),
        DataType::ListView(element) => list(element, &array.as_list_view::<i32>().value(row)),
        DataType::LargeListView(element) => list(element, &array.as_list_view::<i64>().value(row)),
        DataType::Struct(fields) => {
            let members = fields.iter().zip(array.as_struct().columns());
            let members =
                members.map(|(field, column)| Ok((field.name().clone(), cell(field, column, row)?)));
            Ok(Value::Object(members.collect::<std::result::Result<Map<_, _>, String>>()?))
        }
        kind => Err(format!("`{kind}`")),
    }
}

fn text(field: &Field, text: &str) -> std::result::Result<Value, String> {
    if field.metadata().get(TYPE_NAME).is_some_and(|name| name == JSON_TYPE) {
        return serde_json::from_str(text).map_err(|error| format!("a text that is not JSON ({error})"));
    }
    Ok(text.into())
}
