//! Chat templates: the Jinja text by which a model folder turns messages into a prompt.
//!
//! The template sees what transformers gives it, but for one thing: `strftime_now` is a fixed day
//! (the one that Llama's template itself falls back to), since a run must not depend on its date.

use std::{io, ops::Range, path::Path, path::PathBuf};

use chrono::NaiveDate;
use dpg_files::TEMPLATE_BYTES;
use minijinja::{Environment, ErrorKind, Value, value::Kwargs};
use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::{
    Error,
    tokenizer::{json, special_tokens},
};

const FILE: &str = "chat_template.jinja";
const CONFIG: &str = "tokenizer_config.json";
const NAME: &str = "chat";

/// Steps that a template may take, and bytes that it may write. A turn takes about a hundred steps.
const FUEL: u64 = 2_000_000;
const TEXT_BYTES: usize = 16 << 20;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A conversation as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The whole of it.
    pub text: String,
    /// The byte ranges that the assistant wrote, each with the mark that ends its turn.
    pub assistant: Vec<Range<usize>>,
}

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: Vec<(String, String)>,
    path: PathBuf,
}

impl ChatTemplate {
    /// Reads chat_template.jinja, or else `chat_template` of tokenizer_config.json (the one named
    /// `default` of several).
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let (path, source) = source(folder)?;
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", tojson);
        environment
            .add_template_owned(NAME, without_generation_tags(&source))
            .map_err(|source| Error::ChatTemplate { path: path.clone(), source })?;
        Ok(Self { environment, special_tokens: special_tokens(folder)?, path })
    }

    /// The text of a conversation; with `generation_prompt` the assistant's next turn is begun.
    pub fn render(&self, messages: &[Message], generation_prompt: bool) -> Result<String, Error> {
        let special =
            self.special_tokens.iter().map(|(name, token)| (name.clone(), Value::from(token.clone())));
        let context = [
            ("messages", Value::from_serialize(messages)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(generation_prompt)),
        ];
        let context = context.map(|(name, value)| (name.to_owned(), value));
        let context: Value = special.chain(context).collect();
        self.environment
            .get_template(NAME)
            .and_then(|template| {
                let mut text = Bounded(vec![]);
                template.render_captured_to(context, &mut text)?;
                Ok(String::from_utf8_lossy(&text.0).into_owned())
            })
            .map_err(|source| Error::ChatTemplate { path: self.path.clone(), source })
    }

    /// The text of a conversation and which parts of it the assistant wrote.
    ///
    /// A part is what a turn adds to the text before it with the assistant's turn begun.
    ///
    /// # Errors
    /// A template that writes a turn otherwise once more turns follow: its parts are undefined.
    pub fn render_turns(&self, messages: &[Message]) -> Result<Rendered, Error> {
        let text = self.render(messages, false)?;
        let mut assistant = Vec::new();
        for (turn, _) in messages.iter().enumerate().filter(|(_, message)| message.role == "assistant") {
            let before = self.render(&messages[..turn], true)?;
            let after = self.render(&messages[..=turn], false)?;
            if !after.starts_with(&before) || !text.starts_with(&after) {
                return Err(Error::ChatTurn { path: self.path.clone(), turn });
            }
            assistant.push(before.len()..after.len());
        }
        Ok(Rendered { text, assistant })
    }
}

/// The file that holds the template, and the template.
fn source(folder: &Path) -> Result<(PathBuf, String), Error> {
    let path = folder.join(FILE);
    if path.exists() {
        let source = dpg_files::read_to_string(&path, TEMPLATE_BYTES).map_err(Error::io(&path))?;
        return Ok((path, source));
    }
    let path = folder.join(CONFIG);
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let source = match &json(folder, CONFIG)?["chat_template"] {
        serde_json::Value::Null => None,
        serde_json::Value::Array(named) => {
            let default = named.iter().find(|entry| entry["name"] == "default");
            Some(default.and_then(|entry| text(&entry["template"])).ok_or("no template is named `default`"))
        }
        value => Some(text(value).ok_or("`chat_template` must be a text or a list of named texts")),
    };
    match source {
        Some(source) => source.map_err(|reason| Error::malformed(&path, reason)).map(|source| (path, source)),
        None => Err(Error::MissingFile {
            folder: folder.into(),
            file: FILE.into(),
            hint: "this is not a chat model; give it plain text instead of messages".into(),
        }),
    }
}

/// `{% generation %}` marks the assistant's text for transformers and prints nothing; here it
/// becomes a block of the same extent that every Jinja knows.
fn without_generation_tags(template: &str) -> String {
    let mut parts = template.split("{%");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (tag, text) = part.split_once("%}").unwrap_or((part, ""));
        let word = tag.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let replacement = match word {
            "generation" => "if true",
            "endgeneration" => "endif",
            word => word,
        };
        plain += "{%";
        plain += &tag.replacen(word, replacement, 1);
        if part.contains("%}") {
            plain += "%}";
        }
        plain += text;
    }
    plain
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

fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: &str) -> Result<String, minijinja::Error> {
    use std::fmt::Write as _;
    const DAY: NaiveDate = NaiveDate::from_ymd_opt(2024, 7, 26).expect("a day of the calendar");
    let mut text = String::new();
    match write!(text, "{}", DAY.and_time(chrono::NaiveTime::MIN).format(format)) {
        Ok(()) => Ok(text),
        Err(_) => {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("bad date format `{format}`")))
        }
    }
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)` of Python.
fn tojson(value: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let failed = |error: serde_json::Error| {
        minijinja::Error::new(ErrorKind::BadSerialization, "tojson").with_source(error)
    };
    let indent: Option<usize> = options.get("indent")?;
    let mut bytes = Vec::new();
    match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, Spaced)),
        Some(width) => {
            let indent = " ".repeat(width);
            let formatter = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        }
    }
    .map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// JSON on one line with a space after commas and colons.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
