//! Values as Python has and writes them: `str`, `repr`, `json.dumps`, `str.strip`.

use std::{fmt, sync::Arc};

use minijinja::{
    Error, ErrorKind, Value,
    value::{Enumerator, Object, ObjectRepr, ValueKind},
};

/// A JSON value, whose lists and objects are written as Python's wherever a template joins them to
/// a text.
pub(super) fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Array(items) => Value::from_object(List(items.iter().map(value).collect())),
        serde_json::Value::Object(members) => Value::from_object(Dict(
            members.iter().map(|(name, member)| (name.clone(), value(member))).collect(),
        )),
        scalar => Value::from_serialize(scalar),
    }
}

#[derive(Debug)]
struct List(Vec<Value>);

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&repr(&Value::from_dyn_object(self.clone())))
    }
}

#[derive(Debug)]
struct Dict(Vec<(String, Value)>);

impl Object for Dict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        self.0.iter().find(|(name, _)| name == key).map(|(_, member)| member.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(name, _)| name.clone().into()).collect())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&repr(&Value::from_dyn_object(self.clone())))
    }
}

/// `str(value)`; nothing for an undefined value.
pub(super) fn str(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::String => value.to_string(),
        _ => repr(value),
    }
}

fn repr(value: &Value) -> String {
    let items = |open: &str, items: Vec<String>, close: &str| format!("{open}{}{close}", items.join(", "));
    match value.kind() {
        ValueKind::Undefined => "Undefined".into(),
        ValueKind::Number => number(value),
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            items("[", value.try_iter().into_iter().flatten().map(|v| repr(&v)).collect(), "]")
        }
        ValueKind::Map => {
            items("{", pairs(value).map(|(k, v)| format!("{}: {}", repr(&k), repr(&v))).collect(), "}")
        }
        _ => value.to_string(),
    }
}

fn pairs(map: &Value) -> impl Iterator<Item = (Value, Value)> {
    map.try_iter().into_iter().flatten().map(|key| {
        let value = map.get_item(&key).unwrap_or_default();
        (key, value)
    })
}

fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => repr_float(float),
        _ => value.to_string(),
    }
}

/// The shortest digits that give the number back; an exponent outside of 1e-4..1e16.
fn repr_float(float: f64) -> String {
    let text = format!("{float:e}");
    match text.split_once('e').and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?))) {
        Some((_, exponent)) if (-4..16).contains(&exponent) => {
            let text = float.to_string();
            if text.contains('.') { text } else { text + ".0" }
        }
        Some((digits, exponent)) => {
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        // NaN and infinity
        None => float.to_string().to_lowercase(),
    }
}

fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::from(quote);
    for character in text.chars() {
        match character {
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            '\\' => quoted += "\\\\",
            c if c == quote => quoted.extend(['\\', c]),
            c if c.is_ascii_control() => quoted += &format!("\\x{:02x}", c as u32),
            c => quoted.push(c),
        }
    }
    quoted.push(quote);
    quoted
}

/// Whether `str.isspace` holds: Unicode's white space and the ASCII separators.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

fn strips(characters: Option<&str>) -> impl Fn(char) -> bool {
    move |c| characters.map_or_else(|| is_space(c), |characters| characters.contains(c))
}

pub(super) fn strip<'t>(text: &'t str, characters: Option<&str>) -> &'t str {
    text.trim_matches(strips(characters))
}

pub(super) fn strip_start<'t>(text: &'t str, characters: Option<&str>) -> &'t str {
    text.trim_start_matches(strips(characters))
}

pub(super) fn strip_end<'t>(text: &'t str, characters: Option<&str>) -> &'t str {
    text.trim_end_matches(strips(characters))
}

/// How `json.dumps` writes.
pub(super) struct Json {
    pub(super) indent: Option<String>,
    /// Between the items.
    pub(super) item: String,
    /// Between a key and its value.
    pub(super) key: String,
    /// Other characters are escaped.
    pub(super) ascii: bool,
    pub(super) sort_keys: bool,
}

impl Json {
    pub(super) fn dumps(&self, value: &Value) -> Result<String, Error> {
        let mut out = String::new();
        self.write(value, 0, &mut out)?;
        Ok(out)
    }

    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => *out += "null",
            ValueKind::Bool => *out += if value.is_true() { "true" } else { "false" },
            ValueKind::Number => *out += &number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.items(['[', ']'], &items, depth, out, |item, out| self.write(item, depth + 1, out))?;
            }
            ValueKind::Map => {
                let mut items: Vec<_> = pairs(value).collect();
                if self.sort_keys {
                    items.sort();
                }
                self.items(['{', '}'], &items, depth, out, |(key, value), out| {
                    // keys are texts; a number or truth value becomes one
                    match key.as_str() {
                        Some(key) => self.string(key, out),
                        None => self.string(&self.dumps(key)?, out),
                    }
                    *out += &self.key;
                    self.write(value, depth + 1, out)
                })?;
            }
            kind => {
                let reason = format!("a value of type {kind} cannot be written as JSON");
                return Err(Error::new(ErrorKind::BadSerialization, reason));
            }
        }
        Ok(())
    }

    fn items<T>(
        &self,
        [open, close]: [char; 2],
        items: &[T],
        depth: usize,
        out: &mut String,
        mut write: impl FnMut(&T, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = |depth: usize, out: &mut String| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                *out += &indent.repeat(depth);
            }
        };
        out.push(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                *out += &self.item;
            }
            line(depth + 1, out);
            write(item, out)?;
        }
        if !items.is_empty() {
            line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for character in text.chars() {
            match character {
                '"' => *out += "\\\"",
                '\\' => *out += "\\\\",
                '\n' => *out += "\\n",
                '\r' => *out += "\\r",
                '\t' => *out += "\\t",
                '\u{8}' => *out += "\\b",
                '\u{c}' => *out += "\\f",
                c if c < ' ' || (self.ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        *out += &format!("\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}
