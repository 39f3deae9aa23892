//! One example of a dataset and its scoring record.

use dpg_spec::Format;
use serde_json::{Map, Value, json};
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
    Messages(Conversation),
}

/// A conversation, with all that a chat template may write of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// Its turns.
    pub turns: Vec<Message>,
    /// How many of the turns are the prompt, where prompt and completion are given apart.
    pub prompt: Option<usize>,
    /// JSON schemas of the tools that the assistant may call.
    pub tools: Option<Vec<Value>>,
    /// More variables of the template: `chat_template_kwargs`.
    pub variables: Message,
}

/// One turn of a conversation, or other named values. A turn has a `role`, mostly a `content`, and
/// whatever else its template writes: tool calls, a thought, a name.
pub type Message = Map<String, Value>;

/// The key of a turn for what was thought before it was said, as chat templates name it.
pub const REASONING: &str = "reasoning_content";

/// A turn that says `content`.
pub fn message(role: &str, content: &str) -> Message {
    [("role", role), ("content", content)]
        .map(|(name, text)| (name.into(), text.into()))
        .into_iter()
        .collect()
}

impl Conversation {
    /// The roles and texts of the turns if they have nothing else, and nothing stands beside them.
    pub(crate) fn plain(&self) -> Option<Vec<(&str, &str)>> {
        let bare = self.prompt.is_none() && self.tools.is_none() && self.variables.is_empty();
        self.turns.iter().map(said).collect::<Option<Vec<_>>>().filter(|_| bare)
    }

    /// The same with what was thought before, of turns that have that too, or nothing in its place.
    pub(crate) fn reasoned(&self) -> Option<Vec<(&str, &str, Option<&str>)>> {
        let bare = self.prompt.is_none() && self.tools.is_none() && self.variables.is_empty();
        self.turns.iter().map(thought).collect::<Option<Vec<_>>>().filter(|_| bare)
    }

    /// The columns that hold it, with their values.
    pub fn columns(&self) -> Message {
        let turns = |turns: &[Message]| turns.iter().cloned().map(Value::Object).collect::<Value>();
        let mut columns = Message::new();
        let mut put = |name: &str, value: Value| columns.insert(name.into(), value);
        match self.prompt {
            Some(prompt) => {
                put("prompt", turns(&self.turns[..prompt]));
                put("completion", turns(&self.turns[prompt..]));
            }
            None => _ = put("messages", turns(&self.turns)),
        }
        if let Some(tools) = &self.tools {
            put("tools", tools.clone().into());
        }
        if !self.variables.is_empty() {
            put("chat_template_kwargs", self.variables.clone().into());
        }
        columns
    }
}

/// The role and the text of a turn, if these are all it has.
fn said(turn: &Message) -> Option<(&str, &str)> {
    match (turn.get("role"), turn.get("content"), turn.len()) {
        (Some(Value::String(role)), Some(Value::String(content)), 2) => Some((role, content)),
        _ => None,
    }
}

/// The role, the text and the thought of a turn, if it has a place for one and nothing else.
fn thought(turn: &Message) -> Option<(&str, &str, Option<&str>)> {
    let thought = turn.get(REASONING).filter(|_| turn.len() == 3)?;
    let text = |name| turn.get(name).and_then(Value::as_str);
    Some((text("role")?, text("content")?, thought.as_str()))
}

impl From<Vec<Message>> for Conversation {
    fn from(turns: Vec<Message>) -> Self {
        Self { turns, ..Self::default() }
    }
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
    /// `{"prompt":..,"completion":..}` or `[{"role":..,"content":..},..]`; where turns have more than
    /// these, or something stands beside them, as an object of the columns that hold it.
    pub fn content_sha256(&self) -> String {
        let content = match self {
            Self::Text(text) => return sha256(text.as_bytes()),
            Self::PromptCompletion { prompt, completion } => {
                json!({ "prompt": prompt, "completion": completion })
            }
            Self::Messages(conversation) => match conversation.plain() {
                Some(turns) => {
                    turns.iter().map(|(role, content)| json!({ "role": role, "content": content })).collect()
                }
                None => conversation.columns().into(),
            },
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
    /// Log-probability of the completion under the generator, summed over its tokens, where the generator knows.
    pub logprob: Option<f64>,
    /// Tokens of the completion, where somebody counted them.
    pub n_tokens: Option<u64>,
    /// Which arm of a teacher wrote it, where it has several.
    pub arm: Option<String>,
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
