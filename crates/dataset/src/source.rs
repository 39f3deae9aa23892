//! Examples from the files that users have: JSONL (one object a line), one JSON array, or Parquet, told
//! apart by their first bytes. Errors name the file, the line or row from 1, the column, and what the
//! file has instead.
//!
//! A file is small beside what it may unpack to: lines, columns and the text in all have bounds, and what
//! is over one is an error before it fills the memory ([`room`]).

mod json;
mod open;
mod parquet;
mod question;
mod room;
mod scan;
mod turns;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Float64Type;
use dpg_spec::HeldOutData;
use serde_json::{Map, Value};

use self::room::Room;
use crate::{Error, Example, Result};

pub(crate) use self::open::{Source, open};
pub(crate) use self::parquet::{JSON_TYPE, TYPE_NAME, reader};
pub use self::question::{Question, read_questions};

/// The schemas of tools beside a conversation.
pub(crate) const TOOLS: &str = "tools";
/// Variables of the chat template beside a conversation.
pub(crate) const VARIABLES: &str = "chat_template_kwargs";

/// Columns by which an SFT trainer would train on something else than the text.
const OTHER_MEANING: [(&str, &str); 6] = [
    ("input_ids", "the tokens to train on"),
    ("labels", "the tokens to predict"),
    ("assistant_masks", "which tokens to train on"),
    ("completion_mask", "which tokens to train on"),
    ("images", "pictures that belong to the text"),
    ("image", "a picture that belongs to the text"),
];

/// Where in a file something is, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of JSONL.
    Line(u64),
    /// A row of Parquet, or an element of an array.
    Row(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// A row with the columns that were asked for, of all those it has.
struct Record {
    place: Place,
    names: Arc<[String]>,
    values: Vec<(String, Value)>,
}

/// Which columns of a file make an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    /// A column of plain text.
    Text(String),
    /// A column of prompts and one of completions, both of text or both of turns.
    PromptCompletion {
        /// The prompts.
        prompt: String,
        /// The completions.
        completion: String,
    },
    /// A column of lists of turns.
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

    /// The columns an SFT trainer would read: `prompt` and `completion`, or `messages`, or
    /// `conversations`, or `text`, whichever of them the file has first in this order. JSON is judged
    /// by all of its rows.
    ///
    /// Errors when the file has none of them, and when it has a column by which trainers train on
    /// something else.
    pub fn detect(path: &Path) -> Result<Self> {
        let names = names(path)?;
        let has = |column: &str| names.iter().any(|name| name == column);
        if let Some((column, meaning)) = OTHER_MEANING.iter().find(|(column, _)| has(column)) {
            return Err(Error::OtherMeaning { path: path.into(), column, meaning });
        }
        if has("prompt") && has("completion") {
            return Ok(Self::PromptCompletion { prompt: "prompt".into(), completion: "completion".into() });
        }
        match ["messages", "conversations"].into_iter().find(|column| has(column)) {
            Some(column) => Ok(Self::Messages(column.into())),
            None if has("text") => Ok(Self::Text("text".into())),
            None => Err(Error::NoKnownColumns { path: path.into(), columns: names }),
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

/// The columns of a file.
fn names(path: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = vec![];
    let mut add = |raw: &json::Raw| {
        for name in raw.names() {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    };
    match open(path)? {
        Source::Parquet(file) => return Ok(parquet::names(&parquet::reader(path, file)?)),
        Source::Jsonl(text) => json::lines(path, text).try_for_each(|raw| raw.map(|raw| add(&raw)))?,
        Source::Array(text) => json::array(path, text)?.iter().for_each(add),
    }
    if names.is_empty() { Err(Error::Empty(path.into())) } else { Ok(names) }
}

/// Reads the first `limit` examples of a JSON or Parquet file (all without a limit), in file order;
/// those of turns with the tools and variables beside them.
///
/// Errors when the file cannot be read, has no rows, or lacks a column, and when a value is null
/// or of another type.
pub fn read_examples(path: &Path, columns: &Columns, limit: Option<usize>) -> Result<Vec<Example>> {
    read_within(Room::of(path), columns, limit)
}

/// As [`read_examples`], of a file with room for so much.
fn read_within(mut room: Room, columns: &Columns, limit: Option<usize>) -> Result<Vec<Example>> {
    let path = room.path;
    let wanted = [columns.names(), vec![TOOLS, VARIABLES]].concat();
    if let Source::Parquet(file) = open(path)? {
        check_columns(path, None, columns, &parquet::names(&parquet::reader(path, file)?))?;
    }
    let records = records(&mut room, &wanted, limit)?;
    let examples: Vec<Example> =
        records.into_iter().map(|record| from_record(path, record, columns)).collect::<Result<_>>()?;
    if examples.is_empty() { Err(Error::Empty(path.into())) } else { Ok(examples) }
}

/// The first `limit` rows of a file with the columns of `wanted` that they have.
fn records(room: &mut Room, wanted: &[&str], limit: Option<usize>) -> Result<Vec<Record>> {
    let path = room.path;
    let limit = limit.unwrap_or(usize::MAX);
    match open(path)? {
        Source::Parquet(file) => parquet::rows(room, parquet::reader(path, file)?, wanted, limit),
        Source::Jsonl(text) => {
            let read = |raw: Result<json::Raw>| room.take(raw?.read(path, wanted)?);
            json::lines(path, text).take(limit).map(read).collect()
        }
        Source::Array(text) => {
            let read = |raw: json::Raw| room.take(raw.read(path, wanted)?);
            json::array(path, text)?.into_iter().take(limit).map(read).collect()
        }
    }
}

/// The rows of a JSON file with all their columns; a value that is not JSON is kept as its text.
pub(crate) fn objects(path: &Path, source: Source) -> Result<Vec<Map<String, Value>>> {
    match source {
        Source::Jsonl(text) => json::lines(path, text).map(|raw| Ok(raw?.object())).collect(),
        Source::Array(text) => Ok(json::array(path, text)?.into_iter().map(json::Raw::object).collect()),
        Source::Parquet(_) => unreachable!("Parquet has no JSON rows"),
    }
}

/// Refuses a file or row without one of the columns.
fn check_columns(path: &Path, place: Option<Place>, columns: &Columns, names: &[String]) -> Result<()> {
    match columns.names().into_iter().find(|&column| !names.iter().any(|name| name == column)) {
        None => Ok(()),
        Some(absent) => {
            let columns = names.to_vec();
            Err(Error::NoColumn { path: path.into(), place, column: absent.into(), columns })
        }
    }
}

fn from_record(path: &Path, record: Record, columns: &Columns) -> Result<Example> {
    let Record { place, names, mut values } = record;
    check_columns(path, Some(place), columns, &names)?;
    let take = |column: &str| {
        let index = values.iter().position(|(name, _)| name == column)?;
        Some(values.swap_remove(index).1)
    };
    turns::example(columns, take).map_err(|(column, found, expected)| Error::WrongType {
        path: path.into(),
        place,
        column,
        found,
        expected,
    })
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
    let file = dpg_files::open(path);
    let file = file.map_err(|source| Error::Io { action: "open", path: path.into(), source })?;
    let failed = |source| Error::Parquet { action: "read", path: path.into(), source };
    let reader = parquet::reader(path, file)?.build().map_err(failed)?;
    let mut rewards = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| failed(error.into()))?;
        let column = batch.column_by_name(REWARD).and_then(|column| column.as_primitive_opt::<Float64Type>());
        let column = column.filter(|column| column.null_count() == 0);
        let column = column.ok_or_else(|| Error::NoRewards(path.into()))?;
        rewards.extend(column.values());
    }
    Ok(rewards)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
