//! Chat templates: the Jinja text by which a model folder turns conversations into text.
//!
//! A turn is a JSON object and reaches the template whole: tool calls, thoughts, names and parts of
//! content are the template's to write. It is given what `apply_chat_template` of transformers gives
//! it. Where transformers 4.57 and 5 differ, 5 is followed: keys of a turn that are null are left out
//! (in 4 a template sees `None`), a thought is given as `reasoning_content` and `thinking` whichever
//! name it has, and each token that touches a `{% generation %}` block is the assistant's.
//!
//! There is one departure: `strftime_now` is a fixed day (the one that Llama's template itself falls
//! back to), since a run must not depend on its date.

mod jinja;
mod python;
mod source;

use std::{io, ops::Range, path::Path, path::PathBuf};

use minijinja::Environment;
use serde_json::{Map, Value};

use crate::{Error, tokenizer::special_tokens};

/// Names of a thought. Most templates read the first, that of gpt-oss the second.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Bytes that a template may write.
const TEXT_BYTES: usize = 16 << 20;

/// What a template makes text of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conversation<'a> {
    /// Its turns, each with a `role`.
    pub turns: &'a [Map<String, Value>],
    /// JSON schemas of the tools that the assistant may call.
    pub tools: Option<&'a [Value]>,
    /// More variables of the template, such as `enable_thinking`.
    pub variables: Option<&'a Map<String, Value>>,
}

/// A conversation as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The whole of it.
    pub text: String,
    /// The byte ranges that the assistant wrote, each with the mark that ends its turn.
    pub assistant: Vec<Range<usize>>,
}

/// A model's chat template, compiled.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: Vec<(String, String)>,
    path: PathBuf,
}

impl ChatTemplate {
    /// Reads chat_template.jinja and additional_chat_templates/, or else `chat_template` of
    /// tokenizer_config.json. Of several templates the one named `default` is used, and the one named
    /// `tool_use` where tools are given.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let source::Templates { path, default, tool_use } = source::read(folder)?;
        let mut environment = jinja::environment();
        let tool_use = tool_use.as_ref().unwrap_or(&default);
        jinja::add(&mut environment, jinja::DEFAULT, &default)
            .and_then(|()| jinja::add(&mut environment, jinja::TOOL_USE, tool_use))
            .map_err(|source| Error::ChatTemplate { path: path.clone(), source })?;
        Ok(Self { environment, special_tokens: special_tokens(folder)?, path })
    }

    /// The text of a conversation; with `generation_prompt` the assistant's next turn is begun.
    pub fn render(&self, conversation: &Conversation<'_>, generation_prompt: bool) -> Result<String, Error> {
        let name = if conversation.tools.is_some() { jinja::TOOL_USE } else { jinja::DEFAULT };
        self.render_with(name, conversation, generation_prompt)
    }

    /// The text of a conversation and which parts of it the assistant wrote.
    ///
    /// A template with `{% generation %}` blocks says so itself. With another one, a part is what a
    /// turn adds to the text before it with the assistant's turn begun. TRL asks for the blocks, and
    /// exchanges the templates of known models for such as have them; what they mark is then the
    /// same, unless the exchanged template also writes another text (Qwen3's keeps every thought).
    ///
    /// # Errors
    /// A template without blocks that writes a turn otherwise once more turns follow: its parts are
    /// undefined.
    pub fn render_turns(&self, conversation: &Conversation<'_>) -> Result<Rendered, Error> {
        let text = self.render(conversation, false)?;
        let with_tools = conversation.tools.is_some();
        let marked = if with_tools { jinja::MARKED_TOOL_USE } else { jinja::MARKED_DEFAULT };
        if self.environment.get_template(marked).is_ok() {
            let rendered = jinja::unmark(&self.render_with(marked, conversation, false)?);
            // a template that cuts or counts what a block wrote also cut or counted the marks
            let same = rendered.text == text;
            return if same { Ok(rendered) } else { Err(Error::ChatGeneration { path: self.path.clone() }) };
        }
        let turns = conversation.turns;
        let mut assistant = Vec::new();
        for turn in (0..turns.len()).filter(|&turn| turns[turn].get("role").is_some_and(|r| r == "assistant"))
        {
            let upto = |end: usize| Conversation { turns: &turns[..end], ..*conversation };
            // some templates refuse a conversation without turns
            let before = if turn == 0 { String::new() } else { self.render(&upto(turn), true)? };
            let after = self.render(&upto(turn + 1), false)?;
            if !after.starts_with(&before) || !text.starts_with(&after) {
                return Err(Error::ChatTurn { path: self.path.clone(), turn: turn + 1 });
            }
            assistant.push(before.len()..after.len());
        }
        Ok(Rendered { text, assistant })
    }

    fn render_with(
        &self,
        name: &str,
        conversation: &Conversation<'_>,
        generation_prompt: bool,
    ) -> Result<String, Error> {
        let value = |name: &str, value| (name.to_owned(), value);
        let special = self.special_tokens.iter().map(|(name, token)| value(name, token.clone().into()));
        let variables = conversation.variables.into_iter().flatten();
        let turns = conversation.turns.iter().map(without_nulls).map(Value::Object);
        let tools = conversation.tools.map(|tools| python::value(&tools.into()));
        let own = [
            value("messages", python::value(&turns.collect())),
            value("tools", tools.unwrap_or_else(|| ().into())),
            value("add_generation_prompt", generation_prompt.into()),
        ];
        let context: minijinja::Value = [value("documents", ().into())]
            .into_iter()
            .chain(special)
            .chain(variables.map(|(name, given)| value(name, python::value(given))))
            .chain(own)
            .collect();
        self.environment
            .get_template(name)
            .and_then(|template| {
                let mut text = Bounded(vec![]);
                template.render_captured_to(context, &mut text)?;
                Ok(String::from_utf8_lossy(&text.0).into_owned())
            })
            .map_err(|source| Error::ChatTemplate { path: self.path.clone(), source })
    }
}

/// What a template has written, which is no more than its bound.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > TEXT_BYTES {
            let reason = format!("it writes more than {TEXT_BYTES} bytes, which is the limit");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A turn as transformers gives it: without null keys, and a thought under the names that are read.
fn without_nulls(turn: &Map<String, Value>) -> Map<String, Value> {
    let given = turn.iter().filter(|(_, value)| !value.is_null());
    let given = given.map(|(name, value)| (name.clone(), value.clone()));
    let thought = REASONING.iter().find_map(|&name| turn.get(name).filter(|value| !value.is_null()));
    let Some(thought) = thought else { return given.collect() };
    let mut turn = Map::from_iter([("thinking".to_owned(), thought.clone())]);
    turn.extend(given);
    turn.insert("reasoning_content".into(), thought.clone());
    turn
}
