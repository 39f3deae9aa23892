//! How much of a file is read.

use std::path::Path;

use parquet::arrow::ProjectionMask;
use parquet::file::metadata::ParquetMetaData;
use serde_json::Value;

use super::Record;
use crate::{Error, Result};

/// Most bytes of a line of JSONL.
pub(super) const LINE_BYTES: u64 = 16 << 20;
/// Most bytes of a file that is one array, which is read whole.
pub(super) const ARRAY_BYTES: u64 = 1 << 30;
/// Rows of Parquet that are unpacked together: each may repeat one long text of a dictionary.
pub(super) const BATCH_ROWS: usize = 256;
/// Most bytes that are read of a file, and that a column of one of its row groups may unpack to.
const BYTES: usize = 4 << 30;

/// How much more may be read of a file.
pub(super) struct Room<'a> {
    pub(super) path: &'a Path,
    most: usize,
    left: usize,
}

impl<'a> Room<'a> {
    pub(super) fn of(path: &'a Path) -> Self {
        Self::within(BYTES, path)
    }

    pub(super) fn within(most: usize, path: &'a Path) -> Self {
        Self { path, most, left: most }
    }

    /// Makes room for a row.
    pub(super) fn take(&mut self, record: Record) -> Result<Record> {
        let bytes = record.values.iter().map(|(_, value)| bytes(value)).sum();
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => return Err(self.too_large("the text")),
        }
        Ok(record)
    }

    /// Refuses columns that unpack to more than is read, before they are.
    pub(super) fn check(&self, file: &ParquetMetaData, mask: &ProjectionMask) -> Result<()> {
        let chunks = file.row_groups().iter().flat_map(|group| group.columns().iter().enumerate());
        let mut sizes =
            chunks.filter(|(leaf, _)| mask.leaf_included(*leaf)).map(|(_, chunk)| chunk.uncompressed_size());
        match sizes.find(|bytes| usize::try_from(*bytes).is_ok_and(|bytes| bytes > self.most)) {
            Some(_) => Err(self.too_large("a column of a row group")),
            None => Ok(()),
        }
    }

    fn too_large(&self, what: &'static str) -> Error {
        Error::TooLarge { path: self.path.into(), what, limit: self.most }
    }
}

/// About the bytes of a value.
fn bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(bytes).sum(),
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + bytes(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => size_of::<Value>(),
    }
}

#[cfg(test)]
mod tests;
