//! Conversations from the values of a row, as TRL reads them.

use serde_json::Value;

use super::{Columns, TOOLS, VARIABLES, kind};
use crate::{Conversation, Example, Message};

/// What is wrong with a column: its name, what it has, and what was expected.
pub(super) type Wrong = (String, String, &'static str);

const TURNS: &str = "a list of turns: objects with a `role` and mostly a `content`";

/// Members of a turn that are not text.
const MEDIA: [&str; 6] = ["image", "images", "audio", "audios", "video", "videos"];

/// Kinds of parts of a content that are not text, as in `image_url` and `input_audio`.
const MEDIA_PARTS: [&str; 5] = ["image", "audio", "video", "file", "document"];

/// Arguments of `apply_chat_template` that a row may not choose.
const RESERVED: [&str; 15] = [
    "conversation",
    "messages",
    "tools",
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
    "tokenize",
    "padding",
    "truncation",
    "max_length",
    "return_tensors",
    "return_dict",
    "return_assistant_tokens_mask",
    "tokenizer_kwargs",
    "sanitize_control_tokens",
];

/// The example that the values of `columns` make; `None` for a column that the row has not.
pub(super) fn example(
    columns: &Columns,
    mut take: impl FnMut(&str) -> Option<Value>,
) -> Result<Example, Wrong> {
    let value = |value: Option<Value>| value.unwrap_or(Value::Null);
    match columns {
        Columns::Text(column) => match value(take(column)) {
            Value::String(text) => Ok(Example::Text(text)),
            other => Err(wrong(column, kind(&other), "a string")),
        },
        Columns::PromptCompletion { prompt, completion } => {
            match (value(take(prompt)), value(take(completion))) {
                (Value::String(prompt), Value::String(completion)) => {
                    Ok(Example::PromptCompletion { prompt, completion })
                }
                (asked @ Value::Array(_), answered @ Value::Array(_)) => {
                    let mut all = turns(prompt, asked)?;
                    let prompt = all.len();
                    all.extend(turns(completion, answered)?);
                    conversation(all, Some(prompt), take)
                }
                (Value::String(_), other) => {
                    Err(wrong(completion, kind(&other), "a string, as the prompt is"))
                }
                (Value::Array(_), other) => {
                    Err(wrong(completion, kind(&other), "a list of turns, as the prompt is"))
                }
                (other, _) => Err(wrong(prompt, kind(&other), "a string or a list of turns")),
            }
        }
        Columns::Messages(column) => {
            let turns = turns(column, value(take(column)))?;
            conversation(turns, None, take)
        }
    }
}

fn wrong(column: &str, found: impl Into<String>, expected: &'static str) -> Wrong {
    (column.into(), found.into(), expected)
}

fn conversation(
    turns: Vec<Message>,
    prompt: Option<usize>,
    mut take: impl FnMut(&str) -> Option<Value>,
) -> Result<Example, Wrong> {
    const SCHEMAS: &str = "a list of JSON schemas, or such a list as text";
    const KWARGS: &str = "an object of the template's variables";
    let tools = match take(TOOLS) {
        Some(Value::String(text)) => serde_json::from_str(&text)
            .map_err(|error| wrong(TOOLS, format!("a text that is not JSON ({error})"), SCHEMAS))?,
        other => other.unwrap_or(Value::Null),
    };
    let tools = match tools {
        Value::Null => None,
        Value::Array(tools) => match tools.iter().find(|tool| !tool.is_object()) {
            Some(other) => return Err(wrong(TOOLS, format!("a list with {}", kind(other)), SCHEMAS)),
            None => Some(tools),
        },
        other => return Err(wrong(TOOLS, kind(&other), SCHEMAS)),
    };
    let variables = match take(VARIABLES).unwrap_or(Value::Null) {
        Value::Null => Message::new(),
        Value::Object(variables) => variables,
        other => return Err(wrong(VARIABLES, kind(&other), KWARGS)),
    };
    if let Some(name) = RESERVED.iter().find(|&&name| variables.contains_key(name)) {
        return Err(wrong(VARIABLES, format!("an object with `{name}`, which the trainer sets"), KWARGS));
    }
    Ok(Example::Messages(Conversation { turns, prompt, tools, variables }))
}

fn turns(column: &str, value: Value) -> Result<Vec<Message>, Wrong> {
    let Value::Array(values) = value else { return Err(wrong(column, kind(&value), TURNS)) };
    if values.is_empty() {
        return Err(wrong(column, "an empty list", "at least one turn"));
    }
    let numbered = (1..).zip(values);
    numbered
        .map(|(number, value)| {
            turn(value).map_err(|(found, expected)| {
                wrong(column, format!("a list whose turn {number} {found}"), expected)
            })
        })
        .collect()
}

/// One turn, or what it has and what was expected.
fn turn(value: Value) -> Result<Message, (String, &'static str)> {
    const TEXT: &str = "text alone, which is what the model reads";
    let value = match value {
        // datasets may keep a turn as JSON text
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        other => other,
    };
    let Value::Object(mut turn) = value else { return Err((format!("is {}", kind(&value)), TURNS)) };
    if turn.contains_key("from") && !turn.contains_key("role") {
        // what TRL makes of ShareGPT's names
        for (old, new) in [("from", "role"), ("value", "content")] {
            if let Some(value) = turn.shift_remove(old) {
                turn.insert(new.into(), value);
            }
        }
    }
    match turn.get("role") {
        Some(Value::String(_)) => {}
        None => return Err(("has no `role`".into(), TURNS)),
        Some(other) => return Err((format!("has {} as its `role`", kind(other)), TURNS)),
    }
    let given = |name: &String, value: &Value| {
        let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        !empty && MEDIA.contains(&name.as_str())
    };
    if let Some((name, _)) = turn.iter().find(|(name, value)| given(name, value)) {
        return Err((format!("has `{name}`"), TEXT));
    }
    for part in turn.get("content").and_then(Value::as_array).into_iter().flatten() {
        let part = part.get("type").and_then(Value::as_str).unwrap_or_default();
        if MEDIA_PARTS.iter().any(|media| part.contains(media)) {
            return Err((format!("has a part of type `{part}`"), TEXT));
        }
    }
    Ok(turn)
}
