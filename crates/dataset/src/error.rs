//! What can go wrong with a dataset, said so that a user can mend it.

#![allow(missing_docs, reason = "a variant's fields are what its message names")]

use std::path::PathBuf;

use dpg_spec::Format;

use crate::{Place, Split};

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with a dataset.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A split without rows.
    #[error("split `{0}` has no rows; a dataset needs at least one")]
    NoRows(Split),
    /// A number that is NaN or infinite.
    #[error(
        "`{column}` of row {row} of split `{split}` is `{value}`, not a finite number; the run that made it has diverged"
    )]
    NotFinite {
        split: Split,
        /// The row, from 1.
        row: u64,
        column: &'static str,
        value: f64,
    },
    /// Rewards that say nothing.
    #[error(
        "all {rows} rewards of split `{split}` equal `{reward}`, so they say nothing about the rows; check that the metric depends on the fine-tuned weights"
    )]
    EqualRewards {
        split: Split,
        /// How many.
        rows: u64,
        /// Their value.
        reward: f64,
    },
    /// An example that is not in the dataset's format.
    #[error("row {row} is in format `{found:?}`, but the dataset's format is `{expected:?}`")]
    WrongFormat {
        /// The row, from 1.
        row: u64,
        /// The dataset's format.
        expected: Format,
        /// The row's.
        found: Format,
    },
    /// A conversation that the columns of a published dataset cannot hold.
    #[error(
        "a turn has more than a `role` and a text as its `content`, which a dataset of `messages` cannot hold"
    )]
    MoreThanContent,
    /// Rewards that do not match the examples.
    #[error("{examples} examples but {rewards} rewards; each example needs one")]
    Unaligned {
        /// How many examples.
        examples: usize,
        /// How many rewards.
        rewards: usize,
    },
    /// Columns whose names are those of what is added, and cannot be given others.
    #[error(
        "`{path}` has the columns `{column}` and `{renamed}`, and `{column}` is what scoring adds: rename one of them"
    )]
    Clash {
        path: PathBuf,
        /// The column that has the name of one that is added.
        column: String,
        /// What it would be called.
        renamed: String,
    },
    /// A file that cannot be opened, read, written or renamed.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A Parquet file that cannot be read or written.
    #[error("cannot {action} Parquet file `{path}`")]
    Parquet {
        /// What was tried.
        action: &'static str,
        path: PathBuf,
        /// Why not.
        source: parquet::errors::ParquetError,
    },
    /// A file that unpacks to more than is read.
    #[error("{what} of `{path}` has more than {limit} bytes unpacked, which is the limit; split the file")]
    TooLarge { path: PathBuf, what: &'static str, limit: usize },
    /// Columns that make no record batch.
    #[error("cannot make a record batch")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A data file without rows.
    #[error("`{0}` has no rows; it needs at least one example")]
    Empty(PathBuf),
    /// A file of another kind.
    #[error("`{path}` is {kind}; {remedy}")]
    OtherFile {
        path: PathBuf,
        /// What it is.
        kind: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A column that the file or a row has not.
    #[error("{}`{path}` has no column `{column}`; it has {}", place.map(|place| format!("{place} of ")).unwrap_or_default(), listed(.columns))]
    NoColumn {
        path: PathBuf,
        /// The row, if the others may have it.
        place: Option<Place>,
        column: String,
        /// What is there instead.
        columns: Vec<String>,
    },
    /// A file in which no known set of columns is found.
    #[error(
        "`{path}` has none of the columns `prompt` and `completion`, `messages`, or `text`; it has {}: name the columns to \
         read",
        listed(.columns)
    )]
    NoKnownColumns {
        path: PathBuf,
        /// What it has instead.
        columns: Vec<String>,
    },
    /// A column that changes what SFT trainers train on.
    #[error(
        "`{path}` has a column `{column}`, which SFT trainers take for {meaning}; dpg reads text: drop or rename it"
    )]
    OtherMeaning {
        path: PathBuf,
        column: &'static str,
        /// What trainers take it for.
        meaning: &'static str,
    },
    /// A value of the wrong type.
    #[error("column `{column}` in {place} of `{path}` is {found}; expected {expected}")]
    WrongType {
        path: PathBuf,
        place: Place,
        column: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: &'static str,
    },
    /// A value that cannot be read.
    #[error("column `{column}` in {place} of `{path}` {reason}")]
    Unreadable {
        path: PathBuf,
        place: Place,
        column: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A shard without rewards.
    #[error("`{0}` has no column `reward` of f64 without nulls")]
    NoRewards(PathBuf),
    /// A row that is not a JSON object.
    #[error(
        "{place} of `{path}` is not a JSON object ({reason}); expected JSONL, one object a line, or Parquet"
    )]
    NotJson {
        path: PathBuf,
        place: Place,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that begins as an array of rows and is not one.
    #[error("`{path}` begins as a JSON array and is not one ({reason})")]
    NotArray {
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

fn listed(columns: &[String]) -> String {
    if columns.is_empty() {
        return "no columns".into();
    }
    columns.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(", ")
}
