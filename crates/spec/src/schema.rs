//! Checks a raw value against the JSON schema of the spec types.
//!
//! Serde stops at the first mistake and, inside tagged enums, no longer knows where it was. This
//! walk names the full path of each unknown key, missing key, wrong type, unknown choice and number
//! out of range. It covers the part of JSON Schema that schemars writes for these types.

use std::sync::LazyLock;

use schemars::schema_for;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::load::REPORTED;
use crate::syntax::member;
use crate::{Problem, Spec};

/// The JSON schema of a spec.
pub(crate) static SPEC: LazyLock<Value> = LazyLock::new(|| schema_for!(Spec).to_value());

/// One of every kind of an enum, which stands at a spec's `key`: the example in the kind's documentation.
pub(crate) fn examples<T: DeserializeOwned>(kinds: &str, key: &str) -> Vec<T> {
    let example = |kind: &Value| {
        let (_, example) = kind["description"].as_str()?.split_once("```toml\n")?;
        let table: toml::Table = example.split_once("```")?.0.parse().ok()?;
        table.get(key)?.clone().try_into().ok()
    };
    let kinds = SPEC["$defs"][kinds]["oneOf"].as_array().into_iter().flatten();
    kinds.map(|kind| example(kind).expect("a kind's documentation has an example that parses")).collect()
}

/// Problems of `value` as a [`Spec`], as many as are told, and how many more there are. None means that it
/// deserialises.
pub(crate) fn problems(value: &Value) -> (Vec<Problem>, usize) {
    let mut walk = Walk { definitions: &SPEC["$defs"], problems: vec![], more: 0 };
    walk.visit("", value, &SPEC);
    (walk.problems, walk.more)
}

struct Walk<'s> {
    definitions: &'s Value,
    problems: Vec<Problem>,
    more: usize,
}

impl<'s> Walk<'s> {
    fn visit(&mut self, path: &str, value: &Value, schema: &'s Value) {
        let alternatives = self.alternatives(schema);
        match (value, alternatives.iter().find(|alternative| accepts(value, alternative))) {
            (_, None) => self.report(path, || mismatch(value, &alternatives), schema),
            (Value::Object(object), _) => self.object(path, object, &alternatives),
            (Value::Array(items), Some(list)) => {
                for (index, item) in items.iter().enumerate() {
                    self.visit(&format!("{path}[{index}]"), item, &list["items"]);
                }
            }
            _ => {}
        }
    }

    /// The schemas that `schema` is a choice of, references followed.
    fn alternatives(&self, schema: &'s Value) -> Vec<&'s Value> {
        if let Some(reference) = schema["$ref"].as_str() {
            return self.alternatives(&self.definitions[reference.trim_start_matches("#/$defs/")]);
        }
        match schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
            Some(choices) => choices.iter().flat_map(|choice| self.alternatives(choice)).collect(),
            None => vec![schema],
        }
    }

    fn object(&mut self, path: &str, object: &Map<String, Value>, alternatives: &[&'s Value]) {
        let keys_of = |schema: &'s Value| schema["properties"].as_object();
        let kinds: Vec<_> = alternatives
            .iter()
            .map(|schema| &schema["properties"]["kind"])
            .filter(|kind| !kind.is_null())
            .collect();
        let chosen = if kinds.is_empty() {
            let shared = |schema: &&&'s Value| {
                keys_of(schema).map(|keys| object.keys().filter(|key| keys.contains_key(*key)).count())
            };
            alternatives.iter().rev().max_by_key(shared)
        } else {
            let path = member(path, "kind");
            let Some(chosen) = alternatives.iter().find(|schema| is_of_kind(schema, object.get("kind")))
            else {
                let message =
                    || object.get("kind").map_or_else(|| missing(&kinds), |kind| mismatch(kind, &kinds));
                return self.report(&path, message, &Value::Null);
            };
            Some(chosen)
        };
        let Some(schema) = chosen else { return };
        let Some(keys) = keys_of(schema) else {
            // a table of any names
            let inside = &schema["additionalProperties"];
            for (key, value) in object.iter().filter(|_| inside.is_object()) {
                self.visit(&format!("{path}.\"{key}\""), value, inside);
            }
            return;
        };
        for (key, value) in object {
            let path = member(path, key);
            let Some(schema) = keys.get(key) else {
                self.report(&path, || unknown(key, keys), &Value::Null);
                continue;
            };
            self.visit(&path, value, schema);
        }
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !object.contains_key(key) {
                let alternatives = self.alternatives(&keys[key]);
                self.report(&member(path, key), || missing(&alternatives), &keys[key]);
            }
        }
    }

    /// `schema` is the one at the key, whose description says what the key is for.
    fn report(&mut self, path: &str, message: impl FnOnce() -> String, schema: &Value) {
        if self.problems.len() == REPORTED {
            self.more += 1;
            return;
        }
        let about = schema["description"].as_str().and_then(|text| text.split("\n\n").next());
        let about = about.map(|text| text.replace('\n', " "));
        self.problems.push(Problem { about, ..Problem::new(path, message()) });
    }
}

/// Whether a schema is that of a kind; of several, one that need not be named is the usual one.
fn is_of_kind(schema: &Value, kind: Option<&Value>) -> bool {
    let (own, required) = (&schema["properties"]["kind"], schema["required"].as_array());
    match kind {
        Some(kind) => own["const"] == *kind,
        None => !own.is_null() && !required.is_some_and(|keys| keys.iter().any(|key| key == "kind")),
    }
}

/// Whether a value is right as far as can be said without looking inside it.
fn accepts(value: &Value, schema: &Value) -> bool {
    let limit = |key: &str| schema[key].as_f64();
    match value {
        Value::Null => has_type(schema, "null"),
        Value::Bool(_) => has_type(schema, "boolean"),
        Value::Object(map) => {
            has_type(schema, "object") && limit("maxProperties").is_none_or(|most| map.len() as f64 <= most)
        }
        Value::Array(items) => {
            let length = items.len() as f64;
            has_type(schema, "array")
                && limit("minItems").is_none_or(|least| length >= least)
                && limit("maxItems").is_none_or(|most| length <= most)
        }
        Value::String(text) => {
            has_type(schema, "string")
                && schema["const"].as_str().is_none_or(|only| text == only)
                && limit("minLength").is_none_or(|least| text.len() as f64 >= least)
                && limit("maxLength").is_none_or(|most| text.chars().count() as f64 <= most)
        }
        Value::Number(number) => {
            let number_type = if number.is_f64() { "number" } else { "integer" };
            let number = number.as_f64().unwrap_or(f64::NAN);
            (has_type(schema, number_type) || has_type(schema, "number"))
                && limit("minimum").is_none_or(|least| number >= least)
                && limit("exclusiveMinimum").is_none_or(|below| number > below)
                && limit("maximum").is_none_or(|most| number <= most)
                && limit("exclusiveMaximum").is_none_or(|above| number < above)
        }
    }
}

fn has_type(schema: &Value, name: &str) -> bool {
    match &schema["type"] {
        Value::Array(names) => names.iter().any(|one| one == name),
        one => one == name,
    }
}

fn unknown(key: &str, keys: &Map<String, Value>) -> String {
    let known: Vec<_> = keys.keys().map(String::as_str).collect();
    let hint = closest(key, &known).unwrap_or_else(|| format!("the keys here are {}", quoted(&known, ", ")));
    format!("unknown key; {hint}")
}

fn missing(alternatives: &[&Value]) -> String {
    format!("missing; expected {}", expectations(alternatives))
}

fn mismatch(value: &Value, alternatives: &[&Value]) -> String {
    let found = match value {
        Value::Null => "nothing".into(),
        Value::Bool(_) | Value::Number(_) => format!("`{value}`"),
        Value::String(text) => {
            let (begin, length) = (text.chars().take(60).collect::<String>(), text.chars().count());
            let long = if length > 60 { format!("..., {length} characters") } else { String::new() };
            format!("the text \"{begin}\"{long}")
        }
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(map) => format!("a table of {}", map.len()),
    };
    let choices: Vec<_> = alternatives.iter().filter_map(|schema| schema["const"].as_str()).collect();
    let hint = value.as_str().and_then(|text| closest(text, &choices));
    let hint = hint.map_or_else(String::new, |hint| format!("; {hint}"));
    format!("expected {}, found {found}{hint}", expectations(alternatives))
}

fn expectations(alternatives: &[&Value]) -> String {
    let mut all: Vec<String> = Vec::new();
    for text in alternatives.iter().map(|schema| expectation(schema)).filter(|text| !text.is_empty()) {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    match all.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => all.concat(),
    }
}

/// What a schema takes, in words; empty for an absent value.
fn expectation(schema: &Value) -> String {
    if let Some(only) = schema["const"].as_str() {
        return format!("`{only}`");
    }
    let noun = if has_type(schema, "integer") {
        "a whole number"
    } else if has_type(schema, "number") {
        "a number"
    } else if has_type(schema, "string") {
        return format!("a text{}", size(schema, "minLength", "maxLength", " characters"));
    } else if has_type(schema, "boolean") {
        "`true` or `false`"
    } else if has_type(schema, "array") {
        return format!("a list{}", size(schema, "minItems", "maxItems", ""));
    } else if has_type(schema, "object") {
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        return match required.collect::<Vec<_>>() {
            keys if keys.is_empty() => {
                format!("a table{}", size(schema, "minProperties", "maxProperties", " keys"))
            }
            keys => format!("a table with {}", quoted(&keys, " and ")),
        };
    } else {
        ""
    };
    let bounds = [
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    ];
    let bounds: Vec<_> =
        bounds.iter().filter_map(|(key, words)| Some(format!("{words} {}", schema.get(*key)?))).collect();
    format!("{noun} {}", bounds.join(" and ")).trim_end().to_owned()
}

/// How much of something a schema takes, in words.
fn size(schema: &Value, least: &str, most: &str, of: &str) -> String {
    match (schema[least].as_u64(), schema[most].as_u64()) {
        (Some(least), Some(most)) if least == most => format!(" of {least}{of}"),
        (Some(least), Some(most)) => format!(" of {least} to {most}{of}"),
        (None, Some(most)) => format!(" of at most {most}{of}"),
        (Some(least), None) => format!(" of at least {least}{of}"),
        (None, None) => String::new(),
    }
}

/// A question whether the closest of some names was meant, if one is close.
fn closest(name: &str, known: &[&str]) -> Option<String> {
    let closeness = |other: &str| strsim::jaro_winkler(name, other);
    let best = known.iter().max_by(|a, b| closeness(a).total_cmp(&closeness(b)))?;
    (closeness(best) > 0.85).then(|| format!("did you mean `{best}`?"))
}

fn quoted(names: &[&str], separator: &str) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(separator)
}
