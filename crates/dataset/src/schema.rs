//! The Arrow schemas of a dataset's two configs, and rows as record batches in them.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, StringArray, StructArray, UInt64Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::record_batch::RecordBatch;
use dpg_spec::Format;

use crate::{Error, Example, REASONING, Result, Row};

/// A part of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// What a model is fine-tuned on.
    Train,
    /// What is kept aside.
    Validation,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Validation => "validation",
        })
    }
}

/// What wrote a dataset, by what is known of its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WrittenBy {
    /// A model whose log-probabilities and tokens are known.
    #[default]
    Model,
    /// A teacher, of which may be known which of its arms was asked, and how many tokens it counted; or a model that was
    /// asked in several ways, which stand in the place of arms.
    Teacher,
    /// A teacher of which is kept, with what it says, what it thought before.
    ThinkingTeacher,
}

impl WrittenBy {
    /// What wrote a row.
    pub(crate) fn of(row: &Row) -> Self {
        match &row.example {
            Example::Messages(said) if said.reasoned().is_some() => Self::ThinkingTeacher,
            _ if row.logprob.is_some() && row.arm.is_none() => Self::Model,
            _ => Self::Teacher,
        }
    }
}

/// A table of a dataset, row-aligned with the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Config {
    /// What SFT trainers read.
    Default,
    /// The scoring record.
    Rewards,
}

impl Config {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Default, Self::Rewards];

    /// Its name for `load_dataset`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Rewards => "rewards",
        }
    }

    /// The folder of its shards.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Default => "data",
            Self::Rewards => "rewards",
        }
    }

    /// Its columns.
    pub(crate) fn schema(self, format: Format, written_by: WrittenBy) -> Schema {
        let string = |name| Field::new(name, DataType::Utf8, false);
        let float = |name| Field::new(name, DataType::Float64, false);
        let integer = |name| Field::new(name, DataType::Int64, false);
        match self {
            Self::Default => {
                let mut fields = match format {
                    Format::Text => vec![string("text")],
                    Format::PromptCompletion => vec![string("prompt"), string("completion")],
                    Format::Messages => vec![Field::new("messages", DataType::List(turn(written_by)), false)],
                };
                fields.extend([string("example_id"), float("reward")]);
                Schema::new(fields)
            }
            Self::Rewards => {
                let told = |field: Field| field.with_nullable(written_by != WrittenBy::Model);
                let mut fields = vec![
                    string("example_id"),
                    integer("group_id"),
                    integer("step"),
                    float("reward"),
                    float("advantage"),
                    told(float("logprob")),
                    told(integer("n_tokens")),
                    string("prompt"),
                    Field::new("seed", DataType::UInt64, false),
                    string("content_sha256"),
                ];
                if written_by != WrittenBy::Model {
                    fields.push(Field::new("arm", DataType::Utf8, true));
                }
                Schema::new(fields)
            }
        }
    }
}

/// One element of a `messages` list, named as the Parquet format asks.
fn turn(written_by: WrittenBy) -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Struct(turn_fields(written_by)), false))
}

fn turn_fields(written_by: WrittenBy) -> Fields {
    let said = ["role", "content"].map(|name| Field::new(name, DataType::Utf8, false));
    // a user's turn has none
    let thought = Field::new(REASONING, DataType::Utf8, true);
    let thought = (written_by == WrittenBy::ThinkingTeacher).then_some(thought);
    said.into_iter().chain(thought).collect()
}

/// A batch of the config `default`; every example has the schema's format.
pub(crate) fn data_batch<'a>(
    schema: &Arc<Schema>,
    (format, written_by): (Format, WrittenBy),
    examples: impl Iterator<Item = &'a Example>,
    ids: &[String],
    rewards: &[f64],
) -> Result<RecordBatch> {
    // One buffer a column: text, or prompt and completion, or role and content.
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let (mut thoughts, mut turns) = (Vec::new(), Vec::new());
    for example in examples {
        match example {
            Example::Text(text) => first.push(text.as_str()),
            Example::PromptCompletion { prompt, completion } => {
                first.push(prompt);
                second.push(completion.as_str());
            }
            Example::Messages(conversation) if written_by == WrittenBy::ThinkingTeacher => {
                let said = conversation.reasoned().ok_or(Error::MoreThanContent)?;
                turns.push(said.len());
                first.extend(said.iter().map(|(role, ..)| *role));
                second.extend(said.iter().map(|(_, content, _)| *content));
                thoughts.extend(said.iter().map(|(.., thought)| *thought));
            }
            Example::Messages(conversation) => {
                let said = conversation.plain().ok_or(Error::MoreThanContent)?;
                turns.push(said.len());
                first.extend(said.iter().map(|(role, _)| *role));
                second.extend(said.iter().map(|(_, content)| *content));
            }
        }
    }
    let mut columns: Vec<ArrayRef> = match format {
        Format::Text => vec![strings(first)],
        Format::PromptCompletion => vec![strings(first), strings(second)],
        Format::Messages => {
            let mut parts = vec![strings(first), strings(second)];
            if written_by == WrittenBy::ThinkingTeacher {
                parts.push(Arc::new(StringArray::from(thoughts)));
            }
            let flat = StructArray::try_new(turn_fields(written_by), parts, None)?;
            let offsets = OffsetBuffer::from_lengths(turns);
            vec![Arc::new(ListArray::try_new(turn(written_by), offsets, Arc::new(flat), None)?)]
        }
    };
    columns.push(strings(ids));
    columns.push(Arc::new(Float64Array::from(rewards.to_vec())));
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// A batch of the config `rewards`.
pub(crate) fn rewards_batch(
    schema: &Arc<Schema>,
    rows: &[Row],
    ids: &[String],
    content_sha256: &[String],
) -> Result<RecordBatch> {
    let integers = |of: fn(&Row) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| of(row) as i64)))
    };
    let floats =
        |of: fn(&Row) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(rows.iter().map(of))) };
    let mut columns: Vec<ArrayRef> = vec![
        strings(ids),
        integers(|row| row.group_id),
        integers(|row| row.step),
        floats(|row| row.reward),
        floats(|row| row.advantage),
        Arc::new(rows.iter().map(|row| row.logprob).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.n_tokens.map(|tokens| tokens as i64)).collect::<Int64Array>()),
        strings(rows.iter().map(|row| &row.prompt)),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.seed))),
        strings(content_sha256),
    ];
    if schema.fields().len() > columns.len() {
        columns.push(Arc::new(rows.iter().map(|row| row.arm.as_deref()).collect::<StringArray>()));
    }
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

fn strings(values: impl IntoIterator<Item = impl AsRef<str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// Refuses a row (from 0) in another format than the dataset's, or with a number that is not finite.
pub(crate) fn check(
    split: Split,
    format: Format,
    row: u64,
    example: &Example,
    numbers: &[(&'static str, f64)],
) -> Result<()> {
    if example.format() != format {
        return Err(Error::WrongFormat { row: row + 1, expected: format, found: example.format() });
    }
    match numbers.iter().find(|(_, value)| !value.is_finite()) {
        Some(&(column, value)) => Err(Error::NotFinite { split, row: row + 1, column, value }),
        None => Ok(()),
    }
}

/// The fields of a config, for its descriptions.
pub(crate) fn fields(config: Config, format: Format, written_by: WrittenBy) -> Fields {
    config.schema(format, written_by).fields
}
