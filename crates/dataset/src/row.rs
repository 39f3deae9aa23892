//! One example of a dataset and its scoring record.

use dpg_spec::Format;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::Split;

/// What a model is fine-tuned on, in one of the three shapes that SFT trainers read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Example {
    /// Plain text.
    Text(String),
    /// A prompt and its completion.
    PromptCompletion {
        /// What is asked.
        prompt: String,
        /// What is answered.
        completion: String,
    },
    /// The turns of a conversation.
    Messages(Vec<Message>),
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Example {
    /// The format whose columns hold this example.
    pub fn format(&self) -> Format {
        match self {
            Self::Text(_) => Format::Text,
            Self::PromptCompletion { .. } => Format::PromptCompletion,
            Self::Messages(_) => Format::Messages,
        }
    }

    /// SHA-256 in hex of the text, or of the other formats' columns as compact JSON:
    /// `{"prompt":..,"completion":..}` or `[{"role":..,"content":..},..]`.
    pub fn content_sha256(&self) -> String {
        let content = match self {
            Self::Text(text) => return sha256(text.as_bytes()),
            Self::PromptCompletion { prompt, completion } => {
                json!({ "prompt": prompt, "completion": completion })
            }
            Self::Messages(messages) => {
                messages.iter().map(|m| json!({ "role": m.role, "content": m.content })).collect()
            }
        };
        sha256(content.to_string().as_bytes())
    }
}

/// An example and how it was scored: one row of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The example itself.
    pub example: Example,
    /// Derivative of the metric with respect to the example's weight.
    pub reward: f64,
    /// The group of rollouts of one prompt that it was drawn in.
    pub group_id: u64,
    /// The generator's step that drew it.
    pub step: u64,
    /// The reward relative to its group.
    pub advantage: f64,
    /// Log-probability of the completion under the generator, summed over its tokens.
    pub logprob: f64,
    /// Tokens of the completion.
    pub n_tokens: u64,
    /// What the generator was asked.
    pub prompt: String,
    /// Seed of the completion's draw.
    pub seed: u64,
}

/// The id of row `index` (from 0) of a split: 32 hex digits, unique in a dataset, and the same
/// whenever the same content stands at the same place.
pub fn example_id(split: Split, index: u64, content_sha256: &str) -> String {
    let mut id = sha256(format!("{split}/{index}/{content_sha256}").as_bytes());
    id.truncate(32);
    id
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
