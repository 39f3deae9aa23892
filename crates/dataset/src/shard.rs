//! Rows to Parquet shards: zstd, row groups of 20,000 rows or 64 MiB, pages of 1 MiB, a Bloom
//! filter on `example_id`, no page statistics of long text. Rows stream through: one row group is
//! in memory at a time. The same rows make the same bytes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use dpg_spec::Format;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use sha2::{Digest, Sha256};

use crate::schema::{WrittenBy, check, data_batch, rewards_batch};
use crate::{Config, Error, Example, REASONING, Result, Row, Split, example_id};

const ROW_GROUP_ROWS: usize = 20_000;
const ROW_GROUP_BYTES: usize = 64 << 20;
const PAGE_BYTES: usize = 1 << 20;
const BATCH_ROWS: usize = 1_000;
/// A data shard is closed once it is this large.
const SHARD_BYTES: usize = 512 << 20;
/// Columns of text that can be long: their minima and maxima help no reader.
const LONG_TEXT: [&[&str]; 6] = [
    &["text"],
    &["prompt"],
    &["completion"],
    &["messages", "list", "element", "role"],
    &["messages", "list", "element", "content"],
    &["messages", "list", "element", REASONING],
];

/// A Parquet file of a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The table it belongs to.
    pub config: Config,
    /// The split it belongs to.
    pub split: Split,
    /// Its path in the dataset's folder, with `/`: `data/train-00000-of-00001.parquet`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hex.
    pub sha256: String,
    /// Rows.
    pub rows: u64,
}

/// Writes a split's `data/` and `rewards/` shards under `folder`, and returns them, data first.
///
/// Errors when there are no rows, when a row is in another format, when a number is not finite,
/// and when the rewards of two or more rows are all equal. Files named `*.partial` may be left
/// behind then; the shards themselves appear only when all of them are complete.
pub fn write_split(
    folder: &Path,
    split: Split,
    format: Format,
    rows: impl IntoIterator<Item = Row>,
) -> Result<Vec<Shard>> {
    write_split_in(folder, split, format, rows, SHARD_BYTES)
}

fn write_split_in(
    folder: &Path,
    split: Split,
    format: Format,
    rows: impl IntoIterator<Item = Row>,
    shard_bytes: usize,
) -> Result<Vec<Shard>> {
    let mut rows = rows.into_iter();
    let mut spread = Spread::default();
    let mut open: Option<(Writer, Writer)> = None;
    let mut written_by = WrittenBy::default();
    let mut closed = Vec::new();
    loop {
        let batch: Vec<Row> = rows.by_ref().take(BATCH_ROWS).collect();
        if batch.is_empty() {
            break;
        }
        let first = spread.rows;
        let (mut ids, mut hashes, mut rewards) = (Vec::new(), Vec::new(), Vec::new());
        for (index, row) in (first..).zip(&batch) {
            let log_prob = row.logprob.unwrap_or(0.0);
            let numbers = [("reward", row.reward), ("advantage", row.advantage), ("logprob", log_prob)];
            check(split, format, index, &row.example, &numbers)?;
            spread.add(row.reward);
            let hash = row.example.content_sha256();
            ids.push(example_id(split, index, &hash));
            hashes.push(hash);
            rewards.push(row.reward);
        }
        if open.is_none() {
            written_by = batch.first().map_or(written_by, WrittenBy::of);
            let create = |config: Config| {
                let path = folder.join(config.folder()).join(format!("{split}-{:05}.partial", closed.len()));
                Writer::create(path, config.schema(format, written_by))
            };
            open = Some((create(Config::Default)?, create(Config::Rewards)?));
        }
        if let Some((data, record)) = &mut open {
            let examples = batch.iter().map(|row| &row.example);
            data.write(&data_batch(&data.schema, (format, written_by), examples, &ids, &rewards)?)?;
            record.write(&rewards_batch(&record.schema, &batch, &ids, &hashes)?)?;
        }
        if let Some((data, record)) = open.take_if(|(data, _)| data.size() >= shard_bytes) {
            closed.push((data.close()?, record.close()?));
        }
    }
    if let Some((data, record)) = open {
        closed.push((data.close()?, record.close()?));
    }
    spread.check(split)?;

    let (data, record): (Vec<_>, Vec<_>) = closed.into_iter().unzip();
    [(Config::Default, data), (Config::Rewards, record)]
        .into_iter()
        .flat_map(|(config, parts)| {
            let count = parts.len();
            let named = move |(index, part): (usize, Part)| {
                let path = format!("{}/{split}-{index:05}-of-{count:05}.parquet", config.folder());
                part.rename(&folder.join(&path))?;
                Ok(Shard { config, split, path, size: part.size, sha256: part.sha256, rows: part.rows })
            };
            parts.into_iter().enumerate().map(named)
        })
        .collect()
}

/// The ids of examples that were scored with these rewards.
///
/// Errors when there are none or not as many, and as [`write_split`] does for rows that have no place in
/// a dataset.
pub fn scored_ids(examples: &[Example], rewards: &[f64]) -> Result<Vec<String>> {
    if examples.len() != rewards.len() {
        return Err(Error::Unaligned { examples: examples.len(), rewards: rewards.len() });
    }
    let split = Split::Train;
    let format = examples.first().ok_or(Error::NoRows(split))?.format();
    for (row, (example, &reward)) in (0..).zip(examples.iter().zip(rewards)) {
        check(split, format, row, example, &[("reward", reward)])?;
    }
    Ok((0..)
        .zip(examples)
        .map(|(index, example)| example_id(split, index, &example.content_sha256()))
        .collect())
}

/// The range of a split's rewards.
#[derive(Default)]
struct Spread {
    rows: u64,
    range: Option<(f64, f64)>,
}

impl Spread {
    fn add(&mut self, reward: f64) {
        self.rows += 1;
        let (low, high) = self.range.unwrap_or((reward, reward));
        self.range = Some((low.min(reward), high.max(reward)));
    }

    fn check(&self, split: Split) -> Result<()> {
        match self.range {
            None => Err(Error::NoRows(split)),
            Some((low, high)) if low == high && self.rows > 1 => {
                Err(Error::EqualRewards { split, rows: self.rows, reward: low })
            }
            Some(_) => Ok(()),
        }
    }
}

/// A Parquet file being written under a temporary name.
struct Writer {
    path: PathBuf,
    schema: Arc<Schema>,
    parquet: ArrowWriter<Hashing<BufWriter<File>>>,
    rows: u64,
}

/// A complete Parquet file under its temporary name.
struct Part {
    path: PathBuf,
    size: u64,
    sha256: String,
    rows: u64,
}

impl Writer {
    fn create(path: PathBuf, schema: Schema) -> Result<Self> {
        if let Some(folder) = path.parent() {
            let failed = |source| Error::Io { action: "create folder", path: folder.into(), source };
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = File::create(&path).map_err(|source| Error::Io {
            action: "create",
            path: path.clone(),
            source,
        })?;
        let sink = Hashing { sink: BufWriter::new(file), hash: Sha256::new(), size: 0 };
        let schema = Arc::new(schema);
        let parquet = ArrowWriter::try_new(sink, schema.clone(), Some(properties().build()))
            .map_err(|source| Error::Parquet { action: "write", path: path.clone(), source })?;
        Ok(Self { path, schema, parquet, rows: 0 })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        let path = &self.path;
        self.parquet.write(batch).map_err(|source| Error::Parquet {
            action: "write",
            path: path.clone(),
            source,
        })
    }

    fn size(&self) -> usize {
        self.parquet.bytes_written() + self.parquet.in_progress_size()
    }

    fn close(self) -> Result<Part> {
        let Self { path, parquet, rows, .. } = self;
        let end = || -> std::result::Result<_, ParquetError> {
            let mut sink = parquet.into_inner()?;
            sink.flush()?;
            Ok(sink)
        };
        let sink = end().map_err(|source| Error::Parquet { action: "write", path: path.clone(), source })?;
        Ok(Part { path, size: sink.size, sha256: hex::encode(sink.hash.finalize()), rows })
    }
}

impl Part {
    fn rename(&self, to: &Path) -> Result<()> {
        fs::rename(&self.path, to).map_err(|source| Error::Io { action: "create", path: to.into(), source })
    }
}

/// How all Parquet files are written.
pub(crate) fn properties() -> WriterPropertiesBuilder {
    let id = || ColumnPath::from("example_id");
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("dpg ", env!("CARGO_PKG_VERSION")).into())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).expect("3 is a zstd level")))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_column_dictionary_enabled(id(), false)
        .set_column_bloom_filter_enabled(id(), true)
        .set_column_bloom_filter_max_ndv(id(), ROW_GROUP_ROWS as u64);
    for column in LONG_TEXT {
        let column = ColumnPath::new(column.iter().map(ToString::to_string).collect());
        properties = properties.set_column_statistics_enabled(column, EnabledStatistics::Chunk);
    }
    properties
}

/// Hashes and counts what passes.
struct Hashing<W> {
    sink: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests;
