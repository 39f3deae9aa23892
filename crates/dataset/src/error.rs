//! What can go wrong with a dataset, said so that a user can mend it.

use std::path::PathBuf;

use dpg_spec::Format;

use crate::Split;

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
        "`{column}` of row {} of split `{split}` is `{value}`, not a finite number; the run that made it has diverged",
        row + 1
    )]
    NotFinite {
        /// The split.
        split: Split,
        /// The row, from 0.
        row: u64,
        /// The column.
        column: &'static str,
        /// The number.
        value: f64,
    },
    /// Rewards that say nothing.
    #[error(
        "all {rows} rewards of split `{split}` equal `{reward}`, so they say nothing about the rows; check that the metric depends on the fine-tuned weights"
    )]
    EqualRewards {
        /// The split.
        split: Split,
        /// How many.
        rows: u64,
        /// Their value.
        reward: f64,
    },
    /// An example that is not in the dataset's format.
    #[error("row {} is in format `{found:?}`, but the dataset's format is `{expected:?}`", row + 1)]
    WrongFormat {
        /// The row, from 0.
        row: u64,
        /// The dataset's format.
        expected: Format,
        /// The row's.
        found: Format,
    },
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
        /// The file.
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
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A Parquet file that cannot be read or written.
    #[error("cannot {action} Parquet file `{path}`")]
    Parquet {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: parquet::errors::ParquetError,
    },
    /// Columns that make no record batch.
    #[error("cannot make a record batch")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A data file without rows.
    #[error("`{0}` has no rows; it needs at least one example")]
    Empty(PathBuf),
    /// A column that the file has not.
    #[error("`{path}`{} has no column `{column}`; it has {}", place(*.row), listed(.columns))]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The line of a JSONL file, from 1.
        row: Option<u64>,
        /// The column.
        column: String,
        /// What the file has instead.
        columns: Vec<String>,
    },
    /// A file in which no known set of columns is found.
    #[error(
        "`{path}` has none of the columns `text`, `prompt` and `completion`, or `messages`; it has {}: name the columns to read",
        listed(.columns)
    )]
    NoKnownColumns {
        /// The file.
        path: PathBuf,
        /// What it has instead.
        columns: Vec<String>,
    },
    /// A value of the wrong type.
    #[error("column `{column}` of `{path}`{} is {found}; expected {expected}", place(*.row))]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The row, from 1.
        row: Option<u64>,
        /// The column.
        column: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: &'static str,
    },
    /// A line that is not a JSON object.
    #[error(
        "line {line} of `{path}` is not a JSON object ({reason}); expected JSONL, one object a line, or Parquet"
    )]
    NotJson {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

fn place(row: Option<u64>) -> String {
    row.map(|row| format!(", row {row},")).unwrap_or_default()
}

fn listed(columns: &[String]) -> String {
    if columns.is_empty() {
        return "no columns".into();
    }
    columns.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(", ")
}
