//! Examples from the files that users have: JSONL (one object a line) or Parquet, told apart by
//! their first bytes. Errors name the file, the row, the column, and what the file has instead.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;
use dpg_spec::HeldOutData;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

use crate::{Error, Example, Message, Result};

/// Which columns of a file make an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    /// A column of plain text.
    Text(String),
    /// A column of prompts and one of completions.
    PromptCompletion {
        /// The prompts.
        prompt: String,
        /// The completions.
        completion: String,
    },
    /// A column of lists of `{role, content}`.
    Messages(String),
}

impl Columns {
    /// The columns that a held-out set of a spec names; `None` when it names none, or half a pair.
    pub fn of_held_out(data: &HeldOutData) -> Option<Self> {
        match (&data.column, &data.prompt, &data.completion, &data.messages) {
            (Some(text), None, None, None) => Some(Self::Text(text.clone())),
            (None, Some(prompt), Some(completion), None) => {
                Some(Self::PromptCompletion { prompt: prompt.clone(), completion: completion.clone() })
            }
            (None, None, None, Some(messages)) => Some(Self::Messages(messages.clone())),
            _ => None,
        }
    }

    /// The columns an SFT trainer would read: `messages`, or `prompt` and `completion`, or `text`,
    /// whichever of them the file has first in this order. JSONL is judged by its first row.
    pub fn detect(path: &Path) -> Result<Self> {
        let names = match open(path)? {
            Source::Parquet(file) => root_columns(&parquet(path, file)?),
            Source::Jsonl(lines) => match objects(path, lines).next().transpose()? {
                Some((_, object)) => object.keys().cloned().collect(),
                None => return Err(Error::Empty(path.into())),
            },
        };
        let has = |column: &str| names.iter().any(|name| name == column);
        if has("messages") {
            Ok(Self::Messages("messages".into()))
        } else if has("prompt") && has("completion") {
            Ok(Self::PromptCompletion { prompt: "prompt".into(), completion: "completion".into() })
        } else if has("text") {
            Ok(Self::Text("text".into()))
        } else {
            Err(Error::NoKnownColumns { path: path.into(), columns: names })
        }
    }

    fn names(&self) -> Vec<&str> {
        match self {
            Self::Text(text) => vec![text],
            Self::PromptCompletion { prompt, completion } => vec![prompt, completion],
            Self::Messages(messages) => vec![messages],
        }
    }
}

/// Reads the first `limit` examples of a JSONL or Parquet file (all without a limit), in file
/// order.
///
/// Errors when the file cannot be read, has no rows, or lacks a column, and when a value is null
/// or of another type.
pub fn read_examples(path: &Path, columns: &Columns, limit: Option<usize>) -> Result<Vec<Example>> {
    let limit = limit.unwrap_or(usize::MAX);
    let examples = match open(path)? {
        Source::Parquet(file) => read_parquet(path, file, columns, limit)?,
        Source::Jsonl(lines) => objects(path, lines)
            .take(limit)
            .map(|object| object.and_then(|(line, object)| from_object(path, line, object, columns)))
            .collect::<Result<_>>()?,
    };
    if examples.is_empty() { Err(Error::Empty(path.into())) } else { Ok(examples) }
}

/// Reads one column of text, as [`read_examples`] does: the prompts of a generator.
pub fn read_texts(path: &Path, column: &str, limit: Option<usize>) -> Result<Vec<String>> {
    let examples = read_examples(path, &Columns::Text(column.into()), limit)?;
    Ok(examples
        .into_iter()
        .filter_map(|example| match example {
            Example::Text(text) => Some(text),
            Example::PromptCompletion { .. } | Example::Messages(_) => None,
        })
        .collect())
}

/// The rewards of a published shard, row by row.
///
/// Errors when the file is not Parquet or its `reward` column is not one of f64 without nulls.
pub fn read_rewards(path: &Path) -> Result<Vec<f64>> {
    const REWARD: &str = "reward";
    let file = File::open(path).map_err(|source| Error::Io { action: "open", path: path.into(), source })?;
    let failed = |source| Error::Parquet { action: "read", path: path.into(), source };
    let reader = parquet(path, file)?.build().map_err(failed)?;
    let mut rewards = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| failed(error.into()))?;
        let column = batch.column_by_name(REWARD).and_then(|column| column.as_primitive_opt::<Float64Type>());
        let column = column.filter(|column| column.null_count() == 0);
        let column = column.ok_or_else(|| Error::WrongType {
            path: path.into(),
            row: None,
            column: REWARD.into(),
            found: "something else, or nothing".into(),
            expected: "a column of f64 without nulls",
        })?;
        rewards.extend(column.values());
    }
    Ok(rewards)
}

/// A file that is open, by what it is.
pub(crate) enum Source {
    Parquet(File),
    Jsonl(BufReader<File>),
}

pub(crate) fn open(path: &Path) -> Result<Source> {
    let read = || {
        let mut file = File::open(path)?;
        let mut magic = Vec::new();
        (&mut file).take(4).read_to_end(&mut magic)?;
        file.rewind()?;
        Ok((file, magic))
    };
    let (file, magic) = read().map_err(|source| Error::Io { action: "read", path: path.into(), source })?;
    Ok(if magic == b"PAR1" { Source::Parquet(file) } else { Source::Jsonl(BufReader::new(file)) })
}

/// The objects of a JSONL file with their line numbers, from 1; blank lines are passed over.
pub(crate) fn objects(
    path: &Path,
    lines: BufReader<File>,
) -> impl Iterator<Item = Result<(u64, Map<String, Value>)>> {
    (1..)
        .zip(lines.split(b'\n'))
        .filter(|(_, line)| !line.as_ref().is_ok_and(|line| line.trim_ascii().is_empty()))
        .map(|(number, line)| {
            let line = line.map_err(|source| Error::Io { action: "read", path: path.into(), source })?;
            let not_json = |reason| Error::NotJson { path: path.into(), line: number, reason };
            match serde_json::from_slice(&line) {
                Ok(Value::Object(object)) => Ok((number, object)),
                Ok(other) => Err(not_json(format!("it is {}", kind(&other)))),
                Err(error) => Err(not_json(error.to_string())),
            }
        })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn from_object(path: &Path, row: u64, mut object: Map<String, Value>, columns: &Columns) -> Result<Example> {
    let names: Vec<_> = object.keys().cloned().collect();
    let mut take = |column: &str| {
        object.remove(column).ok_or_else(|| Error::NoColumn {
            path: path.into(),
            row: Some(row),
            column: column.into(),
            columns: names.clone(),
        })
    };
    let wrong = |column: &str, found: &str, expected| Error::WrongType {
        path: path.into(),
        row: Some(row),
        column: column.into(),
        found: found.into(),
        expected,
    };
    let mut string = |column: &str| match take(column)? {
        Value::String(text) => Ok(text),
        other => Err(wrong(column, kind(&other), "a string")),
    };
    match columns {
        Columns::Text(column) => Ok(Example::Text(string(column)?)),
        Columns::PromptCompletion { prompt, completion } => {
            Ok(Example::PromptCompletion { prompt: string(prompt)?, completion: string(completion)? })
        }
        Columns::Messages(column) => {
            let turns = match take(column)? {
                Value::Array(turns) => turns,
                other => return Err(wrong(column, kind(&other), MESSAGES)),
            };
            let message = |turn: Value| match turn {
                Value::Object(mut turn) => match (turn.remove("role"), turn.remove("content")) {
                    (Some(Value::String(role)), Some(Value::String(content))) => {
                        Ok(Message { role, content })
                    }
                    _ => {
                        Err(wrong(column, "a list with a turn that lacks a string role or content", MESSAGES))
                    }
                },
                other => Err(wrong(column, &format!("a list with {}", kind(&other)), MESSAGES)),
            };
            Ok(Example::Messages(turns.into_iter().map(message).collect::<Result<_>>()?))
        }
    }
}

const MESSAGES: &str = "a list of {role, content}, both strings";

pub(crate) fn parquet(path: &Path, file: File) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|source| Error::Parquet {
        action: "read",
        path: path.into(),
        source,
    })
}

fn root_columns(builder: &ParquetRecordBatchReaderBuilder<File>) -> Vec<String> {
    builder.schema().fields().iter().map(|field| field.name().clone()).collect()
}

fn read_parquet(path: &Path, file: File, columns: &Columns, limit: usize) -> Result<Vec<Example>> {
    let builder = parquet(path, file)?;
    let existing = root_columns(&builder);
    let root = |column: &&str| {
        existing.iter().position(|name| name == column).ok_or_else(|| Error::NoColumn {
            path: path.into(),
            row: None,
            column: column.to_string(),
            columns: existing.clone(),
        })
    };
    let roots = columns.names().iter().map(root).collect::<Result<Vec<_>>>()?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder
        .with_projection(mask)
        .with_limit(limit)
        .build()
        .map_err(|source| Error::Parquet { action: "read", path: path.into(), source })?;
    let failed =
        |error: ArrowError| Error::Parquet { action: "read", path: path.into(), source: error.into() };
    let mut examples = Vec::new();
    for batch in reader {
        let batch = Batch { path, first_row: examples.len() as u64 + 1, rows: batch.map_err(failed)? };
        match columns {
            Columns::Text(column) => {
                examples.extend(batch.strings(column)?.into_iter().map(Example::Text));
            }
            Columns::PromptCompletion { prompt, completion } => examples.extend(
                batch
                    .strings(prompt)?
                    .into_iter()
                    .zip(batch.strings(completion)?)
                    .map(|(prompt, completion)| Example::PromptCompletion { prompt, completion }),
            ),
            Columns::Messages(column) => {
                examples.extend(batch.messages(column)?.into_iter().map(Example::Messages));
            }
        }
    }
    Ok(examples)
}

/// Rows of a Parquet file, with what errors need to name the place.
struct Batch<'a> {
    path: &'a Path,
    first_row: u64,
    rows: RecordBatch,
}

impl Batch<'_> {
    fn wrong(
        &self,
        row: Option<usize>,
        column: &str,
        found: impl Into<String>,
        expected: &'static str,
    ) -> Error {
        let row = row.map(|row| self.first_row + row as u64);
        Error::WrongType { path: self.path.into(), row, column: column.into(), found: found.into(), expected }
    }

    fn column(&self, column: &str) -> &dyn Array {
        self.rows.column_by_name(column).expect("the projection holds the column").as_ref()
    }

    fn strings(&self, column: &str) -> Result<Vec<String>> {
        let array = self.column(column);
        let texts = as_strings(array)
            .ok_or_else(|| self.wrong(None, column, format!("`{}`", array.data_type()), "strings"))?;
        texts
            .iter()
            .enumerate()
            .map(|(row, text)| {
                text.map(String::from).ok_or_else(|| self.wrong(Some(row), column, "null", "a string"))
            })
            .collect()
    }

    fn messages(&self, column: &str) -> Result<Vec<Vec<Message>>> {
        let array = self.column(column);
        let wrong_type = || self.wrong(None, column, format!("`{}`", array.data_type()), MESSAGES);
        let element = match array.data_type() {
            DataType::List(element) | DataType::LargeList(element) => element.clone(),
            _ => return Err(wrong_type()),
        };
        let lists = cast(array, &DataType::LargeList(element))?;
        let lists = lists.as_list::<i64>();
        let turns = lists.values().as_struct_opt().ok_or_else(wrong_type)?;
        let part = |name| turns.column_by_name(name).and_then(|part| as_strings(part)).ok_or_else(wrong_type);
        let (roles, contents) = (part("role")?, part("content")?);
        (0..lists.len())
            .map(|row| {
                if lists.is_null(row) {
                    return Err(self.wrong(Some(row), column, "null", MESSAGES));
                }
                let range = lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize;
                range
                    .map(|turn| {
                        if turns.is_null(turn) || roles.is_null(turn) || contents.is_null(turn) {
                            return Err(self.wrong(Some(row), column, "a list with a null", MESSAGES));
                        }
                        let (role, content) = (roles.value(turn).into(), contents.value(turn).into());
                        Ok(Message { role, content })
                    })
                    .collect()
            })
            .collect()
    }
}

/// Any of Arrow's representations of text, dictionaries included.
fn as_strings(array: &dyn Array) -> Option<StringArray> {
    let text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_text = match array.data_type() {
        DataType::Dictionary(_, values) => text(values),
        kind => text(kind),
    };
    if !is_text {
        return None;
    }
    Some(cast(array, &DataType::Utf8).ok()?.as_string::<i32>().clone())
}

#[cfg(test)]
mod tests;
