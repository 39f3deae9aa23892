//! A dataset that a user has, written again with the reward of each row: every column of the file is
//! carried through, `example_id` and `reward` come last.
//!
//! Parquet keeps its types. JSON becomes the narrowest Arrow type that holds all values of a column;
//! plain values of several kinds become text, lists and objects of several shapes JSON (`arrow.json`).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, UInt64Type};
use arrow::util::display::array_value_to_string;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use serde_json::{Map, Value};

use crate::shard::properties;
use crate::source::{JSON_TYPE, Source, TYPE_NAME, objects, open, reader};
use crate::{Error, Result};

const ID: &str = "example_id";
const REWARD: &str = "reward";
/// Rows that become one record batch.
const BATCH_ROWS: usize = 1_000;
/// Says in a Parquet file's metadata who wrote it.
const WRITER: (&str, &str) = ("dpg.written_by", "score");

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A Parquet file.
    Parquet,
    /// One JSON object a line.
    Jsonl,
}

impl Layout {
    /// What a file's name asks for: JSONL if it ends in `.jsonl` or `.ndjson`, else Parquet.
    pub fn of(path: &Path) -> Self {
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        if extension == "jsonl" || extension == "ndjson" { Self::Jsonl } else { Self::Parquet }
    }
}

/// Whether a file is Parquet that [`write_scored`] wrote.
pub fn is_scored(path: &Path) -> bool {
    let metadata = || {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).ok()?).ok()?;
        builder.metadata().file_metadata().key_value_metadata().cloned()
    };
    let (key, value) = WRITER;
    metadata()
        .is_some_and(|pairs| pairs.iter().any(|pair| pair.key == key && pair.value.as_deref() == Some(value)))
}

/// Writes the rows of the file `data` with their ids and rewards to `to`, whose name for errors is
/// `path`, and after them columns of `lists`, one list a row. Gives the columns of the file that had to be
/// renamed, `NAME` to `input_NAME`, for theirs are the names of what is added.
///
/// # Errors
/// The file cannot be read or has another number of rows; `to` cannot be written; a column that has to be
/// renamed would have the name of another.
pub fn write_scored(
    data: &Path,
    (to, path): (&mut (dyn Write + Send), &Path),
    layout: Layout,
    ids: &[String],
    rewards: &[f64],
    lists: &[(&str, Vec<Vec<f64>>)],
) -> Result<Vec<String>> {
    let mut rows = Rows { data, ids, rewards, lists, taken: 0, renamed: vec![] };
    match (open(data)?, layout) {
        (Source::Parquet(file), layout) => {
            let unreadable = |source| Error::Parquet { action: "read", path: data.into(), source };
            let batches = reader(data, file)?.build().map_err(unreadable)?;
            let batches = batches.map(|batch| batch.map_err(|error| unreadable(error.into())));
            match layout {
                Layout::Parquet => write_parquet((to, path), batches, &mut rows)?,
                Layout::Jsonl => {
                    for batch in batches {
                        for object in json_rows(&batch?)? {
                            let line = rows.object(object)?;
                            writeln!(to, "{line}").map_err(|source| failed(path, source))?;
                        }
                    }
                }
            }
        }
        (json, Layout::Jsonl) => {
            for object in objects(data, json)? {
                let line = rows.object(object)?;
                writeln!(to, "{line}").map_err(|source| failed(path, source))?;
            }
        }
        (json, Layout::Parquet) => {
            let (schema, columns) = table(&objects(data, json)?)?;
            let whole = RecordBatch::try_new(schema, columns)?;
            let size = whole.num_rows();
            let batches =
                (0..size).step_by(BATCH_ROWS).map(|row| whole.slice(row, BATCH_ROWS.min(size - row)));
            write_parquet((to, path), batches.map(Ok), &mut rows)?;
        }
    }
    if rows.taken != rewards.len() {
        return Err(Error::Unaligned { examples: rows.taken, rewards: rewards.len() });
    }
    Ok(rows.renamed)
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Io { action: "write", path: path.into(), source }
}

/// What is added to the rows of a file, in order.
struct Rows<'a> {
    data: &'a Path,
    ids: &'a [String],
    rewards: &'a [f64],
    lists: &'a [(&'a str, Vec<Vec<f64>>)],
    taken: usize,
    renamed: Vec<String>,
}

impl Rows<'_> {
    /// The next rows, which have ids and rewards.
    fn take(&mut self, rows: usize) -> Result<Range<usize>> {
        let range = self.taken..self.taken + rows;
        self.taken = range.end;
        match (self.ids.get(range.clone()), self.rewards.get(range.clone())) {
            (Some(_), Some(_)) => Ok(range),
            _ => Err(Error::Unaligned { examples: self.taken, rewards: self.rewards.len() }),
        }
    }

    /// The name that a column of the file goes by.
    fn rename(&mut self, column: &str, others: &[&str]) -> Result<String> {
        let added = self.lists.iter().any(|(name, _)| *name == column);
        if column != ID && column != REWARD && !added {
            return Ok(column.to_owned());
        }
        let renamed = format!("input_{column}");
        if others.contains(&renamed.as_str()) {
            return Err(Error::Clash { path: self.data.into(), column: column.into(), renamed });
        }
        if !self.renamed.iter().any(|known| known == column) {
            self.renamed.push(column.into());
        }
        Ok(renamed)
    }

    fn object(&mut self, object: Map<String, Value>) -> Result<Value> {
        let names: Vec<_> = object.keys().cloned().collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let mut row = Map::new();
        for (name, value) in object {
            row.insert(self.rename(&name, &names)?, value);
        }
        let at = self.take(1)?.start;
        row.insert(ID.into(), self.ids[at].as_str().into());
        row.insert(REWARD.into(), self.rewards[at].into());
        for (name, lists) in self.lists {
            row.insert((*name).into(), lists[at].as_slice().into());
        }
        Ok(row.into())
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let schema = batch.schema();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let mut fields = vec![];
        for field in schema.fields() {
            fields.push(field.as_ref().clone().with_name(self.rename(field.name(), &names)?));
        }
        fields.push(Field::new(ID, DataType::Utf8, false));
        fields.push(Field::new(REWARD, DataType::Float64, false));
        let rows = self.take(batch.num_rows())?;
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(StringArray::from_iter_values(&self.ids[rows.clone()])));
        columns.push(Arc::new(Float64Array::from(self.rewards[rows.clone()].to_vec())));
        for (name, lists) in self.lists {
            let lists = &lists[rows.clone()];
            let element = Arc::new(Field::new("element", DataType::Float64, false));
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(Vec::len));
            let numbers = Arc::new(Float64Array::from(lists.concat()));
            let column = ListArray::try_new(element, offsets, numbers, None)?;
            fields.push(Field::new(*name, column.data_type().clone(), false));
            columns.push(Arc::new(column));
        }
        // what other programs noted of the file's columns is not true of these
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}

fn write_parquet(
    (to, path): (&mut (dyn Write + Send), &Path),
    batches: impl Iterator<Item = Result<RecordBatch>>,
    rows: &mut Rows,
) -> Result<()> {
    let failed = |source: ParquetError| Error::Parquet { action: "write", path: path.into(), source };
    let mut to = Some(to);
    let mut writer = None;
    for batch in batches {
        let batch = rows.batch(&batch?)?;
        if let Some(to) = to.take() {
            let (key, value) = WRITER;
            let properties = properties()
                .set_key_value_metadata(Some(vec![KeyValue::new(key.to_owned(), value.to_owned())]))
                .build();
            writer = Some(ArrowWriter::try_new(to, batch.schema(), Some(properties)).map_err(failed)?);
        }
        if let Some(writer) = &mut writer {
            writer.write(&batch).map_err(failed)?;
        }
    }
    match writer {
        Some(writer) => writer.close().map(drop).map_err(failed),
        None => Err(Error::Empty(rows.data.into())),
    }
}

/// Objects as columns, in the order in which they first appear.
fn table(objects: &[Map<String, Value>]) -> Result<(Arc<Schema>, Vec<ArrayRef>)> {
    let rows: Vec<_> = objects.iter().map(Some).collect();
    let (fields, columns) = columns(&rows)?;
    Ok((Arc::new(Schema::new(fields)), columns))
}

fn columns(objects: &[Option<&Map<String, Value>>]) -> Result<(Vec<Field>, Vec<ArrayRef>)> {
    let mut names = Map::new();
    for name in objects.iter().flatten().flat_map(|object| object.keys()) {
        names.entry(name.as_str()).or_insert(Value::Null);
    }
    let (mut fields, mut columns) = (vec![], vec![]);
    for name in names.keys() {
        let values: Vec<_> =
            objects.iter().map(|object| object.and_then(|object| object.get(name))).collect();
        let shaped: Vec<&Value> = values.iter().flatten().copied().collect();
        let (column, metadata) = if is_uniform(&shaped) || shaped.iter().all(|value| is_plain(value)) {
            (array(&values)?, HashMap::new())
        } else {
            let texts = values.iter().map(|value| value.map(Value::to_string));
            let column: ArrayRef = Arc::new(texts.collect::<StringArray>());
            (column, HashMap::from([(TYPE_NAME.to_owned(), JSON_TYPE.to_owned())]))
        };
        fields.push(Field::new(name, column.data_type().clone(), true).with_metadata(metadata));
        columns.push(column);
    }
    Ok((fields, columns))
}

fn is_plain(value: &Value) -> bool {
    !value.is_array() && !value.is_object()
}

/// Whether values are of one kind, lists of one kind of elements, and objects of the same members.
fn is_uniform(values: &[&Value]) -> bool {
    let values: Vec<&Value> = values.iter().copied().filter(|value| !value.is_null()).collect();
    let Some(first) = values.first() else { return true };
    if values.iter().any(|value| std::mem::discriminant(*value) != std::mem::discriminant(*first)) {
        return false;
    }
    match first {
        Value::Array(_) => {
            is_uniform(&values.iter().filter_map(|value| value.as_array()).flatten().collect::<Vec<_>>())
        }
        Value::Object(members) => {
            members.keys().all(|name| {
                let of_all: Vec<&Value> = values.iter().filter_map(|value| value.get(name)).collect();
                of_all.len() == values.len() && is_uniform(&of_all)
            }) && values.iter().all(|value| value.as_object().is_some_and(|all| all.len() == members.len()))
        }
        _ => true,
    }
}

/// Values of one column; null and nothing are the same.
fn array(values: &[Option<&Value>]) -> Result<ArrayRef> {
    let values: Vec<_> = values.iter().map(|value| value.filter(|value| !value.is_null())).collect();
    let all = |is: fn(&Value) -> bool| values.iter().flatten().all(|value| is(value));
    let present = || Some(values.iter().map(Option::is_some).collect::<NullBuffer>());
    if values.iter().flatten().next().is_none() || all(Value::is_string) {
        let texts = values.iter().map(|value| value.and_then(Value::as_str));
        return Ok(Arc::new(texts.collect::<StringArray>()));
    }
    if all(Value::is_boolean) {
        return Ok(Arc::new(values.iter().map(|value| (*value)?.as_bool()).collect::<BooleanArray>()));
    }
    if all(Value::is_i64) {
        return Ok(Arc::new(values.iter().map(|value| (*value)?.as_i64()).collect::<Int64Array>()));
    }
    if all(Value::is_u64) {
        return Ok(Arc::new(values.iter().map(|value| (*value)?.as_u64()).collect::<UInt64Array>()));
    }
    if all(Value::is_number) {
        return Ok(Arc::new(values.iter().map(|value| (*value)?.as_f64()).collect::<Float64Array>()));
    }
    if all(Value::is_array) {
        let lists: Vec<_> = values.iter().map(|value| value.and_then(Value::as_array)).collect();
        let items: Vec<_> = lists.iter().flatten().flat_map(|list| list.iter().map(Some)).collect();
        let items = array(&items)?;
        let element = Arc::new(Field::new("element", items.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.map_or(0, Vec::len)));
        return Ok(Arc::new(ListArray::try_new(element, offsets, items, present())?));
    }
    // a struct without a member cannot be stored
    let named =
        values.iter().flatten().any(|value| value.as_object().is_some_and(|object| !object.is_empty()));
    if named && all(Value::is_object) {
        let objects: Vec<_> = values.iter().map(|value| value.and_then(Value::as_object)).collect();
        let (fields, columns) = columns(&objects)?;
        return Ok(Arc::new(StructArray::try_new(fields.into(), columns, present())?));
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Ok(Arc::new(values.iter().map(|value| value.map(text)).collect::<StringArray>()))
}

/// The rows of a batch as objects.
pub fn json_rows(batch: &RecordBatch) -> Result<Vec<Map<String, Value>>> {
    let schema = batch.schema();
    let column = |(field, column): (&Arc<Field>, &ArrayRef)| {
        let mut values = json(column.as_ref())?;
        if field.metadata().get(TYPE_NAME).is_some_and(|name| name == JSON_TYPE) {
            for value in &mut values {
                if let Some(inner) = value.as_str().and_then(|text| serde_json::from_str(text).ok()) {
                    *value = inner;
                }
            }
        }
        Ok(values)
    };
    let columns: Vec<Vec<Value>> =
        schema.fields().iter().zip(batch.columns()).map(column).collect::<Result<_>>()?;
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    let row = |_| {
        let members = schema.fields().iter().zip(&mut columns);
        members.map(|(field, column)| (field.name().clone(), column.next().unwrap_or_default())).collect()
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

/// The values of a column. What JSON has no word for is told as text.
fn json(column: &dyn Array) -> Result<Vec<Value>> {
    let kind = column.data_type();
    let unless_null = |row: usize, value: Value| if column.is_null(row) { Value::Null } else { value };
    let each = |of: &dyn Fn(usize) -> Result<Value>| {
        (0..column.len()).map(|row| if column.is_null(row) { Ok(Value::Null) } else { of(row) }).collect()
    };
    if kind.is_floating() {
        let numbers = cast(column, &DataType::Float64)?;
        return each(&|row| Ok(numbers.as_primitive::<Float64Type>().value(row).into()));
    }
    if kind.is_unsigned_integer() {
        let numbers = cast(column, &DataType::UInt64)?;
        return each(&|row| Ok(numbers.as_primitive::<UInt64Type>().value(row).into()));
    }
    if kind.is_signed_integer() {
        let numbers = cast(column, &DataType::Int64)?;
        return each(&|row| Ok(numbers.as_primitive::<Int64Type>().value(row).into()));
    }
    match kind {
        DataType::Boolean => each(&|row| Ok(column.as_boolean().value(row).into())),
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            let lists = cast(column, &DataType::LargeList(element.clone()))?;
            each(&|row| Ok(json(lists.as_list::<i64>().value(row).as_ref())?.into()))
        }
        DataType::Struct(fields) => {
            let members: Vec<_> = column
                .as_struct()
                .columns()
                .iter()
                .map(|member| json(member.as_ref()))
                .collect::<Result<_>>()?;
            let object = |row: usize| {
                let pairs = fields.iter().zip(&members);
                pairs
                    .map(|(field, values)| (field.name().clone(), values[row].clone()))
                    .collect::<Map<_, _>>()
            };
            Ok((0..column.len()).map(|row| unless_null(row, object(row).into())).collect())
        }
        _ => each(&|row| Ok(array_value_to_string(column, row)?.into())),
    }
}

#[cfg(test)]
mod tests;
