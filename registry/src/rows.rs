//! The rows of a version, a few at a time: in their order, by reward or by length, or those that hold a text.
//!
//! What rows are sorted by is kept in memory, 24 bytes a row; their texts stay in the store. Of the Parquet files
//! only the pages with the wanted rows are read, in ranges. Hashes are not checked, as in [`Registry::read_range`].

use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use bytes::{Buf, Bytes};
use dpg_dataset::{Config, Split, json_rows};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::{ChunkReader, Length};
use serde_json::{Map, Value};
use tokio::runtime::Handle;

use crate::{Error, Registry, Result, RewardStatistics, Version};

/// Rows of the largest split that is listed.
pub const MOST_ROWS: usize = 1 << 20;
/// Bytes that are read at once where the reader does not say how many it needs.
const AHEAD: u64 = 16 << 10;
/// What the table for trainers has besides the example.
const BESIDES: [&str; 2] = ["example_id", "reward"];

/// What rows are listed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Their place in the split.
    #[default]
    Row,
    /// The smallest reward first.
    Reward,
    /// The largest reward first.
    RewardDown,
    /// The fewest tokens first.
    Length,
    /// The most tokens first.
    LengthDown,
}

/// Which rows are wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only those whose texts hold this, in any case; all if empty.
    pub search: String,
    /// What they are listed by.
    pub order: Order,
    /// How many to pass over.
    pub offset: usize,
    /// How many at most.
    pub limit: usize,
}

/// A row as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRow {
    /// Its place in the split, from 0.
    pub row: usize,
    /// The columns that trainers read.
    pub columns: Map<String, Value>,
    /// Its scoring record, if the split has one.
    pub record: Option<Map<String, Value>>,
}

/// The rows of a split of a version.
pub struct Rows {
    version: String,
    data: Vec<Shard>,
    records: Vec<Shard>,
    rewards: Vec<f64>,
    /// Tokens of the completions; empty if they are not known of every row.
    lengths: Vec<i64>,
    by_reward: Vec<u32>,
    by_length: Vec<u32>,
    /// The last search and the rows that it found.
    found: Mutex<Option<(String, Arc<Vec<bool>>)>>,
}

impl Registry {
    /// The rows of a split of a version, which has to have at most [`MOST_ROWS`].
    pub async fn rows(&self, version: &Version, split: Split) -> Result<Rows> {
        let files = self.manifest(version).await?.files;
        let shards = |config: Config| {
            let prefix = format!("{}/{split}-", config.folder());
            let mut files: Vec<_> = files.iter().filter(|file| file.path.starts_with(&prefix)).collect();
            files.sort_by(|one, other| one.path.cmp(&other.path));
            let object = |file: &&crate::ManifestFile| Object {
                store: Arc::clone(&self.store),
                runtime: Handle::current(),
                path: self.object(version, file),
                size: file.size,
            };
            files.iter().map(object).collect::<Vec<_>>()
        };
        let (data, records) = (shards(Config::Default), shards(Config::Rewards));
        let name = version.to_string();
        let open = move || Rows::open(name, data, records);
        read(version.to_string(), open).await
    }
}

/// Reads on a thread that may wait. A file that somebody else wrote may make its reader panic.
async fn read<T: Send + 'static>(
    version: String,
    of: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let read = tokio::task::spawn_blocking(of).await;
    read.unwrap_or_else(|panic| Err(Error::Damaged { version, damages: vec![panic.to_string()] }))
}

impl Rows {
    fn open(version: String, data: Vec<Object>, records: Vec<Object>) -> Result<Self> {
        let damaged = |reason: String| Error::Damaged { version: version.clone(), damages: vec![reason] };
        let shards = |objects: Vec<Object>| {
            let mut first = 0;
            let mut opened = vec![];
            for object in objects {
                let path = object.path.clone();
                let shard = Shard::open(object, first);
                let shard = shard.map_err(|error| damaged(format!("`{path}`: {error}")))?;
                first = shard.rows.end;
                opened.push(shard);
            }
            Ok::<_, Error>(opened)
        };
        let (data, mut records) = (shards(data)?, shards(records)?);
        let rows = data.last().map_or(0, |shard| shard.rows.end);
        if rows > MOST_ROWS {
            return Err(Error::TooManyRows { version: version.clone(), rows, most: MOST_ROWS });
        }
        // the split `validation` has no records
        if records.last().map_or(0, |shard| shard.rows.end) != rows {
            records.clear();
        }
        let (mut rewards, mut lengths) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for shard in &data {
            let columns = shard.column("reward").map_err(|error| damaged(error.to_string()))?;
            for column in &columns {
                let column = column.as_primitive_opt::<Float64Type>();
                let column = column.ok_or_else(|| damaged("`reward` is not a column of f64".into()))?;
                rewards.extend_from_slice(column.values());
            }
        }
        for shard in &records {
            let columns = shard.column("n_tokens").map_err(|error| damaged(error.to_string()))?;
            for column in columns.iter().filter_map(|column| column.as_primitive_opt::<Int64Type>()) {
                // a teacher may not have counted
                lengths.extend(column.iter().flatten());
            }
        }
        if rewards.len() != rows {
            return Err(damaged(format!("{rows} rows have {} rewards", rewards.len())));
        }
        if lengths.len() != rows {
            lengths.clear();
        }
        let mut by_reward: Vec<u32> = (0..rows as u32).collect();
        by_reward.sort_by(|one, other| rewards[*one as usize].total_cmp(&rewards[*other as usize]));
        let mut by_length: Vec<u32> = (0..lengths.len() as u32).collect();
        by_length.sort_by_key(|row| lengths[*row as usize]);
        Ok(Self { version, data, records, rewards, lengths, by_reward, by_length, found: Mutex::default() })
    }

    /// Their rewards, in the rows' order.
    pub fn rewards(&self) -> &[f64] {
        &self.rewards
    }

    /// Tokens of their completions, in the rows' order; empty if they are not known of every row.
    pub fn lengths(&self) -> &[i64] {
        &self.lengths
    }

    /// Statistics of their rewards.
    pub fn statistics(&self) -> RewardStatistics {
        RewardStatistics::of(self.rewards.clone())
    }

    /// The rows that are wanted, and how many there are to list.
    pub async fn list(self: Arc<Self>, wanted: Wanted) -> Result<(Vec<StoredRow>, usize)> {
        read(self.version.clone(), move || {
            let found = if wanted.search.is_empty() { None } else { Some(self.search(&wanted.search)?) };
            let places = self.places(&wanted, found.as_ref().map(|found| found.as_slice()));
            let matching = match &found {
                Some(found) => found.iter().filter(|found| **found).count(),
                None => self.rewards.len(),
            };
            Ok((self.at(&places)?, matching))
        })
        .await
    }

    /// The rows at these places, in this order.
    pub async fn of(self: Arc<Self>, places: Vec<usize>) -> Result<Vec<StoredRow>> {
        read(self.version.clone(), move || self.at(&places)).await
    }

    fn places(&self, wanted: &Wanted, found: Option<&[bool]>) -> Vec<usize> {
        let (rewards, lengths) = (self.by_reward.iter().copied(), self.by_length.iter().copied());
        let order: Box<dyn Iterator<Item = u32>> = match wanted.order {
            Order::Reward => Box::new(rewards),
            Order::RewardDown => Box::new(rewards.rev()),
            Order::Length if !self.lengths.is_empty() => Box::new(lengths),
            Order::LengthDown if !self.lengths.is_empty() => Box::new(lengths.rev()),
            _ => Box::new(0..self.rewards.len() as u32),
        };
        let is_found = |row: &usize| found.is_none_or(|found| found[*row]);
        order.map(|row| row as usize).filter(is_found).skip(wanted.offset).take(wanted.limit).collect()
    }

    /// Which rows hold a text, in any case.
    fn search(&self, text: &str) -> Result<Arc<Vec<bool>>> {
        let text = text.to_lowercase();
        let last = || self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((searched, found)) = last().as_ref()
            && *searched == text
        {
            return Ok(Arc::clone(found));
        }
        let mut found = Vec::with_capacity(self.rewards.len());
        for shard in &self.data {
            let texts = |name: &str| !BESIDES.contains(&name);
            let batches = shard.read(texts, None).map_err(|error| self.damaged(shard, &error))?;
            for batch in batches {
                let from = found.len();
                found.resize(from + batch.num_rows(), false);
                for column in batch.columns() {
                    mark(column, &text, &mut found[from..]);
                }
            }
        }
        let found = Arc::new(found);
        *last() = Some((text, Arc::clone(&found)));
        Ok(found)
    }

    fn at(&self, places: &[usize]) -> Result<Vec<StoredRow>> {
        let columns = self.pick(&self.data, places)?;
        let mut records = self.pick(&self.records, places)?.into_iter();
        let with_record = |(row, columns): (&usize, Map<String, Value>)| StoredRow {
            row: *row,
            columns,
            record: records.next(),
        };
        Ok(places.iter().zip(columns).map(with_record).collect())
    }

    /// The rows at some places of a table, in the order of the places.
    fn pick(&self, shards: &[Shard], places: &[usize]) -> Result<Vec<Map<String, Value>>> {
        let mut sorted = places.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut rows = vec![];
        for shard in shards {
            let from = sorted.partition_point(|place| *place < shard.rows.start);
            let to = sorted.partition_point(|place| *place < shard.rows.end);
            let ranges = sorted[from..to].iter().map(|place| place - shard.rows.start);
            let ranges: Vec<Range<usize>> = ranges.map(|place| place..place + 1).collect();
            if ranges.is_empty() {
                continue;
            }
            let selection = RowSelection::from_consecutive_ranges(ranges.into_iter(), shard.rows.len());
            let batches =
                shard.read(|_| true, Some(selection)).map_err(|error| self.damaged(shard, &error))?;
            for batch in batches {
                let json = json_rows(&batch).map_err(|error| self.damaged(shard, &error))?;
                rows.extend(json);
            }
        }
        let row = |place: &usize| rows.get(sorted.binary_search(place).ok()?).cloned();
        Ok(places.iter().filter_map(row).collect())
    }

    fn damaged(&self, shard: &Shard, error: &dyn std::error::Error) -> Error {
        let damages = vec![format!("`{}`: {error}", shard.object.path)];
        Error::Damaged { version: self.version.clone(), damages }
    }
}

/// Marks the rows whose texts hold `text`, which is in lower case.
fn mark(column: &ArrayRef, text: &str, found: &mut [bool]) {
    match column.data_type() {
        DataType::Utf8 => {
            for (value, found) in column.as_string::<i32>().iter().zip(found) {
                *found |= value.is_some_and(|value| value.to_lowercase().contains(text));
            }
        }
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let mut inner = vec![false; list.values().len()];
            mark(list.values(), text, &mut inner);
            for (row, found) in found.iter_mut().enumerate() {
                let range = list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize;
                *found |= inner[range].contains(&true);
            }
        }
        DataType::Struct(_) => {
            column.as_struct().columns().iter().for_each(|column| mark(column, text, found));
        }
        _ => {}
    }
}

/// A Parquet file of a version.
struct Shard {
    object: Object,
    metadata: ArrowReaderMetadata,
    rows: Range<usize>,
}

impl Shard {
    fn open(object: Object, first: usize) -> parquet::errors::Result<Self> {
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = ArrowReaderMetadata::load(&object, options)?;
        let rows = usize::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(usize::MAX);
        Ok(Self { object, metadata, rows: first..first.saturating_add(rows) })
    }

    /// The columns of some names, of all rows or some.
    fn read(
        &self,
        names: impl Fn(&str) -> bool,
        rows: Option<RowSelection>,
    ) -> parquet::errors::Result<Vec<RecordBatch>> {
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.object.clone(), self.metadata.clone());
        let fields = builder.schema().fields().iter().enumerate();
        let wanted: Vec<_> =
            fields.filter(|(_, field)| names(field.name())).map(|(place, _)| place).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        let builder = builder.with_projection(mask);
        let builder = match rows {
            Some(rows) => builder.with_row_selection(rows),
            None => builder,
        };
        builder.build()?.map(|batch| Ok(batch?)).collect()
    }

    fn column(&self, name: &str) -> parquet::errors::Result<Vec<ArrayRef>> {
        let batches = self.read(|other| other == name, None)?;
        let column = |batch: RecordBatch| {
            let column = batch.column_by_name(name).cloned();
            column.ok_or_else(|| ParquetError::General(format!("there is no column `{name}`")))
        };
        batches.into_iter().map(column).collect()
    }
}

/// A file in the store, which Parquet's reader reads in ranges, on a thread that may wait.
#[derive(Clone)]
struct Object {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
    path: Path,
    size: u64,
}

impl Length for Object {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Object {
    type T = Ahead;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Ahead> {
        Ok(Ahead { object: self.clone(), next: start, read: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let range = start..start.saturating_add(length as u64);
        let read = self.runtime.block_on(self.store.get_range(&self.path, range));
        read.map_err(|error| ParquetError::External(Box::new(error)))
    }
}

/// A file from some place on, read a little ahead.
struct Ahead {
    object: Object,
    next: u64,
    read: Bytes,
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read.is_empty() {
            let length = AHEAD.min(self.object.size.saturating_sub(self.next));
            if length > 0 {
                self.read = self.object.get_bytes(self.next, length as usize).map_err(io::Error::other)?;
                self.next += length;
            }
        }
        let length = buffer.len().min(self.read.len());
        self.read.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
