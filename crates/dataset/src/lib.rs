//! Datasets as files: rows to Parquet shards, the dataset card and its Croissant description, and
//! back from JSONL or Parquet to examples.
//!
//! A published dataset has two configs, row-aligned and joined by `example_id`. `default`, in
//! `data/`, is what an SFT trainer reads: the columns of one [`Format`], `example_id` and `reward`.
//! `rewards` is the full scoring record. No column is ever null but those of the
//! record that a teacher behind an API does not tell (`logprob`, `n_tokens`, `arm`), and every shard of a config has
//! the same schema.
//!
//! [`Format`]: dpg_spec::Format

mod card;
mod croissant;
mod error;
pub mod markdown;
mod row;
mod schema;
mod scored;
mod shard;
mod source;

pub use card::{Card, Figure, GeneratorFolder};
pub use croissant::croissant;
pub use error::{Error, Result};
pub use row::{Conversation, Example, Message, REASONING, Row, example_id, message};
pub use schema::{Config, Split, WrittenBy};
pub use scored::{Layout, is_scored, json_rows, write_scored};
pub use shard::{Shard, scored_ids, write_split};
pub use source::{Columns, Place, Question, read_examples, read_questions, read_rewards, read_texts};
