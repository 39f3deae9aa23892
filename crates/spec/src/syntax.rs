//! From text to a raw value, in time linear in the text, and back from a fault to its line.
//!
//! A spec comes from somebody else: a text is refused that is larger, deeper or of more values than any
//! spec needs, before anything is done for each of them.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::{Error, Fault};

/// Most bytes of a spec's text.
pub const TEXT_BYTES: usize = 256 << 10;
/// Most values in it: keys and items of lists.
const VALUES: usize = 10_000;
/// Most items of one list, or keys of one table.
const ITEMS: usize = 4096;
/// Most tables and lists around a value.
const DEPTH: usize = 32;
/// Most bytes of a key.
const KEY_BYTES: usize = 256;
/// Most bytes of a line that is shown with an error in it.
const SHOWN_BYTES: usize = 400;

/// What a spec is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// TOML.
    Toml,
    /// JSON. Problems are reported without line numbers.
    Json,
}

/// Where keys stand in a TOML text.
#[derive(Default)]
pub(crate) struct Lines<'t> {
    table: DeTable<'t>,
    /// Offsets at which lines begin.
    starts: Vec<usize>,
}

impl Lines<'_> {
    /// Gives a fault the line of its key or, if that was not written, of the closest table around.
    pub(crate) fn locate(&self, fault: &mut Fault) {
        let offset = in_table(&self.table, &fault.path);
        fault.line = offset.map(|offset| self.starts.partition_point(|start| *start <= offset));
    }
}

/// The path of `key` inside the table at `path`.
pub(crate) fn member(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Where the last key of a path stands, as far as the path is there.
fn in_table(table: &DeTable, path: &str) -> Option<usize> {
    table.iter().find_map(|(key, value)| {
        let rest = path.strip_prefix(key.get_ref().as_ref())?;
        let deeper = match rest.chars().next() {
            None => None,
            Some('.') => in_value(value.get_ref(), &rest[1..]),
            Some('[') => in_value(value.get_ref(), rest),
            // a longer key that begins like this one
            Some(_) => return None,
        };
        Some(deeper.unwrap_or(key.span().start))
    })
}

fn in_value(value: &DeValue, path: &str) -> Option<usize> {
    match value {
        DeValue::Table(table) => in_table(table, path),
        DeValue::Array(items) => {
            let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
            let item = items.get(index.parse::<usize>().ok()?)?;
            let deeper = in_value(item.get_ref(), rest.strip_prefix('.').unwrap_or(rest));
            Some(deeper.unwrap_or(item.span().start))
        }
        _ => None,
    }
}

pub(crate) fn read(text: &str, syntax: Syntax) -> Result<(Value, Lines<'_>), Error> {
    within("bytes", text.len(), TEXT_BYTES)?;
    let (value, lines) = match syntax {
        Syntax::Json => (json(text).map_err(Error::Json)?, Lines::default()),
        Syntax::Toml => {
            let table = DeTable::parse(text).map_err(|error| Error::Toml(brief(error, text)))?.into_inner();
            let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
            (toml_table(&table), Lines { table, starts })
        }
    };
    within("keys and items", measure(&value, 0)?, VALUES)?;
    Ok((value, lines))
}

/// Values inside a value, which is within the limits of one list and of depth.
fn measure(value: &Value, depth: usize) -> Result<usize, Error> {
    let inside: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Array(items) => {
            within("items in a list", items.len(), ITEMS)?;
            Box::new(items.iter())
        }
        Value::Object(map) => {
            within("keys in a table", map.len(), ITEMS)?;
            within("bytes in a key", map.keys().map(String::len).max().unwrap_or(0), KEY_BYTES)?;
            Box::new(map.values())
        }
        _ => return Ok(0),
    };
    within("levels", depth + 1, DEPTH)?;
    inside.map(|value| Ok(1 + measure(value, depth + 1)?)).sum()
}

fn within(what: &'static str, found: usize, limit: usize) -> Result<(), Error> {
    if found > limit { Err(Error::Limit { what, found, limit }) } else { Ok(()) }
}

/// An error without the line that it is in, if that is long.
fn brief(error: toml::de::Error, text: &str) -> toml::de::Error {
    let at = error.span().map_or(0, |span| span.start);
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    let line = before.rsplit('\n').next().map_or(0, str::len) + after.split('\n').next().map_or(0, str::len);
    if line <= SHOWN_BYTES {
        return error;
    }
    let number = 1 + before.matches('\n').count();
    serde::de::Error::custom(format!("line {number}: {}", error.message()))
}

fn toml_table(table: &DeTable) -> Value {
    let pairs = table.iter().map(|(key, value)| (key.get_ref().to_string(), toml_value(value)));
    Value::Object(pairs.collect())
}

fn toml_value(value: &Spanned<DeValue>) -> Value {
    match value.get_ref() {
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
        DeValue::Array(items) => Value::Array(items.iter().map(toml_value).collect()),
        DeValue::Table(table) => toml_table(table),
    }
}

/// Reads JSON in which no key stands twice in a table.
fn json(text: &str) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = distinct(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// A value whose tables have each key once; of two, one reader takes the first and another the last.
///
/// # Errors
/// Those of the reader; a key that stands twice.
pub fn distinct<'de, D: Deserializer<'de>>(reader: D) -> Result<Value, D::Error> {
    Distinct.deserialize(reader)
}

#[derive(Clone, Copy)]
struct Distinct;

impl<'de> DeserializeSeed<'de> for Distinct {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Distinct {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(flag.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = vec![];
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self)?;
            if map.contains_key(&key) {
                let reason = format!("the key `{}` stands twice in a table", key.escape_debug());
                return Err(serde::de::Error::custom(reason));
            }
            map.insert(key, value);
        }
        Ok(map.into())
    }
}
