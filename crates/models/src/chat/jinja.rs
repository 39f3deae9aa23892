//! Jinja as transformers sets it up, on minijinja: what its templates may call, and
//! `{% generation %}` blocks, which mark what the assistant wrote.

use chrono::NaiveDate;
use minijinja::{
    Environment, Error, ErrorKind, State, Value, filters,
    value::{Kwargs, ValueKind},
};
use minijinja_contrib::pycompat;

use super::{Rendered, python};

pub(super) const DEFAULT: &str = "default";
pub(super) const TOOL_USE: &str = "tool_use";
/// The same templates, writing marks around their generation blocks; they exist where there are any.
pub(super) const MARKED_DEFAULT: &str = "marked default";
pub(super) const MARKED_TOOL_USE: &str = "marked tool_use";

/// The marks: two characters that Unicode keeps for the inside of programs.
const OPEN: char = '\u{FDD0}';
const CLOSE: char = '\u{FDD1}';

/// What writes them.
const OPEN_BLOCK: &str = "open_generation_block";
const CLOSE_BLOCK: &str = "close_generation_block";

/// Steps that a template may take. A turn takes about a hundred.
const FUEL: u64 = 2_000_000;

/// An environment without templates.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_formatter(|out, _, value| Ok(out.write_str(&python::str(value))?));
    environment.set_unknown_method_callback(method);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_function(OPEN_BLOCK, |_: Kwargs| OPEN.to_string());
    environment.add_function(CLOSE_BLOCK, |_: Kwargs| CLOSE.to_string());
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", python::str);
    environment.add_filter("trim", trim);
    environment.add_filter("items", items);
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
    environment.add_test("number", is_number);
    environment
}

/// Adds a template under its name and, if it has generation blocks, under its marked name.
pub(super) fn add(environment: &mut Environment<'_>, name: &'static str, source: &str) -> Result<(), Error> {
    // as Jinja reads it
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let (plain, blocks) = with_blocks(&source, false);
    environment.add_template_owned(name, plain)?;
    if blocks {
        let marked = if name == TOOL_USE { MARKED_TOOL_USE } else { MARKED_DEFAULT };
        environment.add_template_owned(marked, with_blocks(&source, true).0)?;
    }
    Ok(())
}

/// The template with its generation blocks as scopes, which transformers makes of them too, with
/// marks or without, and whether it has any.
///
/// Marks are written by statements, not by expressions, so that white space around the tags is cut
/// as it would be.
fn with_blocks(template: &str, marked: bool) -> (String, bool) {
    let mut blocks = false;
    let mut parts = template.split("{%");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (tag, text) = part.split_once("%}").unwrap_or((part, ""));
        let is_sign = |c: &char| matches!(c, '-' | '+');
        let before = tag.chars().next().filter(is_sign).map(String::from).unwrap_or_default();
        let after = tag.chars().next_back().filter(is_sign).map(String::from).unwrap_or_default();
        plain += "{%";
        let word = tag.trim_matches(|c: char| c.is_whitespace() || is_sign(&c));
        plain += &match (word, marked) {
            ("generation", true) => {
                format!("{before} with %}}{{% call {OPEN_BLOCK}() %}}{{% endcall {after}")
            }
            ("generation", false) => format!("{before} with {after}"),
            ("endgeneration", true) => {
                format!("{before} call {CLOSE_BLOCK}() %}}{{% endcall %}}{{% endwith {after}")
            }
            ("endgeneration", false) => format!("{before} endwith {after}"),
            _ => tag.to_owned(),
        };
        blocks |= word == "generation";
        if part.contains("%}") {
            plain += "%}";
        }
        plain += text;
    }
    (plain, blocks)
}

/// A marked text as the text and the ranges between its marks.
pub(super) fn unmark(marked: &str) -> Rendered {
    let (mut text, mut assistant, mut open) = (String::with_capacity(marked.len()), vec![], vec![]);
    for character in marked.chars() {
        match character {
            OPEN => open.push(text.len()),
            CLOSE => assistant.extend(open.pop().map(|start| start..text.len())),
            other => text.push(other),
        }
    }
    Rendered { text, assistant }
}

fn failed(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(failed(message))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    use std::fmt::Write as _;
    const DAY: NaiveDate = NaiveDate::from_ymd_opt(2024, 7, 26).expect("a day of the calendar");
    let mut text = String::new();
    write!(text, "{}", DAY.and_time(chrono::NaiveTime::MIN).format(format))
        .map_err(|_| failed(format!("bad date format `{format}`")))?;
    Ok(text)
}

fn tojson(value: &Value, ensure_ascii: Option<bool>, options: Kwargs) -> Result<String, Error> {
    let indent: Option<Value> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let ascii = match ensure_ascii {
        Some(ascii) => ascii,
        None => options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let indent = indent.filter(|indent| !indent.is_none()).map(|indent| match indent.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(usize::try_from(indent).unwrap_or(0)),
    });
    let (item, key) = match separators.as_deref() {
        None => (if indent.is_some() { "," } else { ", " }.into(), ": ".into()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(failed("`separators` are two texts")),
    };
    python::Json { indent, item, key, ascii, sort_keys }.dumps(value)
}

fn trim(value: &Value, characters: Option<&str>) -> String {
    python::strip(&python::str(value), characters).to_owned()
}

/// In Python a string and a mapping have a length and items too.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String)
}

/// In Jinja an undefined value is an empty list, and null is none.
fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || matches!(value.kind(), ValueKind::Iterable | ValueKind::Undefined)
}

/// In Python a truth value is a number.
fn is_number(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
}

fn items(value: &Value) -> Result<Value, Error> {
    if value.is_undefined() { Ok(Value::from(Vec::<Value>::new())) } else { filters::items(value) }
}

fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    value.len().ok_or_else(|| failed(format!("a value of type {} has no length", value.kind())))
}

/// Methods of Python's strings that minijinja lacks or counts in bytes; it has the others.
fn method(state: &State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return pycompat::unknown_method_callback(state, value, name, arguments);
    };
    let argument = |index: usize| arguments.get(index).and_then(Value::as_str);
    let list = |parts: &[&str]| parts.iter().map(|&part| Value::from(part)).collect::<Value>();
    let place = |found: Option<usize>| found.map(|at| text[..at].chars().count() as i64);
    Ok(match (name, argument(0)) {
        ("strip", of) => python::strip(text, of).into(),
        ("lstrip", of) => python::strip_start(text, of).into(),
        ("rstrip", of) => python::strip_end(text, of).into(),
        ("find", Some(what)) if arguments.len() == 1 => place(text.find(what)).unwrap_or(-1).into(),
        ("rfind", Some(what)) if arguments.len() == 1 => place(text.rfind(what)).unwrap_or(-1).into(),
        ("index", Some(what)) if arguments.len() == 1 => {
            place(text.find(what)).ok_or_else(|| failed(format!("`{what}` is not in the text")))?.into()
        }
        ("removeprefix", Some(prefix)) => text.strip_prefix(prefix).unwrap_or(text).into(),
        ("removesuffix", Some(suffix)) => text.strip_suffix(suffix).unwrap_or(text).into(),
        ("partition", Some(by)) => {
            text.split_once(by).map_or(list(&[text, "", ""]), |(before, after)| list(&[before, by, after]))
        }
        ("rpartition", Some(by)) => {
            text.rsplit_once(by).map_or(list(&["", "", text]), |(before, after)| list(&[before, by, after]))
        }
        ("rsplit", Some(by)) => {
            let most = arguments.get(1).and_then(|most| usize::try_from(most.clone()).ok());
            let mut parts: Vec<&str> = match most {
                Some(most) => text.rsplitn(most + 1, by).collect(),
                None => text.rsplit(by).collect(),
            };
            parts.reverse();
            list(&parts)
        }
        ("casefold", None) => text.to_lowercase().into(),
        _ => return pycompat::unknown_method_callback(state, value, name, arguments),
    })
}
