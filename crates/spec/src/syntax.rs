//! From text to a raw value, keeping the line of every key.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::{Error, Problem};

/// What a spec is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// TOML.
    Toml,
    /// JSON. Problems are reported without line numbers.
    Json,
}

/// Where keys stand: path to line, from 1.
#[derive(Debug, Default)]
pub(crate) struct Lines(BTreeMap<String, usize>);

impl Lines {
    /// Gives a problem the line of its key or, if that was not written, of the closest table around.
    pub(crate) fn locate(&self, problem: &mut Problem) {
        let mut path = problem.path.as_str();
        while !path.is_empty() && problem.line.is_none() {
            problem.line = self.0.get(path).copied();
            path = path.rfind(['.', '[']).map_or("", |end| &path[..end]);
        }
    }
}

/// The path of `key` inside the table at `path`.
pub(crate) fn member(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

pub(crate) fn read(text: &str, syntax: Syntax) -> Result<(Value, Lines), Error> {
    let mut lines = Lines::default();
    let value = match syntax {
        Syntax::Json => serde_json::from_str(text).map_err(Error::Json)?,
        Syntax::Toml => {
            let table = DeTable::parse(text).map_err(Error::Toml)?;
            toml_table(table.get_ref(), "", text, &mut lines)
        }
    };
    Ok((value, lines))
}

fn toml_table(table: &DeTable, path: &str, text: &str, lines: &mut Lines) -> Value {
    let mut map = Map::new();
    for (key, value) in table {
        let path = member(path, key.get_ref());
        lines.0.insert(path.clone(), line(key, text));
        map.insert(key.get_ref().to_string(), toml_value(value.get_ref(), &path, text, lines));
    }
    Value::Object(map)
}

fn toml_value(value: &DeValue, path: &str, text: &str, lines: &mut Lines) -> Value {
    match value {
        DeValue::String(string) => Value::String(string.to_string()),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Integer(integer) => {
            let (digits, radix) = (integer.as_str(), integer.radix());
            let number = u64::from_str_radix(digits, radix).map(Number::from);
            let number = number.or_else(|_| i64::from_str_radix(digits, radix).map(Number::from));
            number.map_or_else(|_| Value::String(digits.to_owned()), Value::Number)
        }
        // JSON has no `inf` and `nan`: kept as text, they are refused wherever a number is expected.
        DeValue::Float(float) => float
            .as_str()
            .parse()
            .ok()
            .and_then(Number::from_f64)
            .map_or_else(|| Value::String(float.as_str().to_owned()), Value::Number),
        DeValue::Array(array) => {
            let items = array.iter().enumerate().map(|(index, item)| {
                let path = format!("{path}[{index}]");
                lines.0.insert(path.clone(), line(item, text));
                toml_value(item.get_ref(), &path, text, lines)
            });
            Value::Array(items.collect())
        }
        DeValue::Table(table) => toml_table(table, path, text, lines),
    }
}

fn line<T>(spanned: &Spanned<T>, text: &str) -> usize {
    1 + text[..spanned.span().start].matches('\n').count()
}
