//! Rows that are not the JSON that they should be.

use dpg_spec::JsonShape;
use fancy_regex::Regex;
use serde_json::{Map, Value};

use super::{Around, Candidate, Gate};
use crate::Error;

pub(super) struct Shape(Map<String, Value>);

#[expect(clippy::unnecessary_wraps, reason = "other gates may fail to open")]
pub(super) fn open(settings: &JsonShape, _: Around) -> Result<Shape, Error> {
    Ok(Shape(settings.schema.clone()))
}

impl Gate for Shape {
    fn passes(&mut self, row: &Candidate) -> Result<bool, Error> {
        let value: Option<Value> = serde_json::from_str(row.text.trim()).ok();
        Ok(value.is_some_and(|value| is_of(&value, &self.0)))
    }
}

/// Whether a value is of a schema all of whose keywords a spec may have.
fn is_of(value: &Value, schema: &Map<String, Value>) -> bool {
    let within = |size: usize, [least, most]: [&str; 2]| {
        let limit = |keyword: &str| schema.get(keyword).and_then(Value::as_u64);
        limit(least).is_none_or(|least| size as u64 >= least)
            && limit(most).is_none_or(|most| size as u64 <= most)
    };
    let plain = schema.iter().all(|(keyword, said)| match (keyword.as_str(), said) {
        ("type", Value::Array(names)) => names.iter().any(|name| has_type(value, name)),
        ("type", name) => has_type(value, name),
        ("const", wanted) => value == wanted,
        ("enum", Value::Array(all)) => all.contains(value),
        _ => true,
    });
    plain
        && match value {
            Value::String(text) => {
                let pattern = schema.get("pattern").and_then(Value::as_str);
                let found =
                    |pattern| Regex::new(pattern).is_ok_and(|found| found.is_match(text).unwrap_or(false));
                within(text.chars().count(), ["minLength", "maxLength"]) && pattern.is_none_or(found)
            }
            Value::Number(number) => {
                let limit = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
                number.as_f64().is_some_and(|number| {
                    limit("minimum").is_none_or(|least| number >= least)
                        && limit("maximum").is_none_or(|most| number <= most)
                })
            }
            Value::Array(items) => {
                let of_each = schema.get("items").and_then(Value::as_object);
                within(items.len(), ["minItems", "maxItems"])
                    && of_each.is_none_or(|schema| items.iter().all(|item| is_of(item, schema)))
            }
            Value::Object(object) => {
                let properties = schema.get("properties").and_then(Value::as_object);
                let others = schema.get("additionalProperties").and_then(Value::as_bool).unwrap_or(true);
                let member = |(name, value): (&String, &Value)| match properties.and_then(|all| all.get(name))
                {
                    Some(schema) => schema.as_object().is_some_and(|schema| is_of(value, schema)),
                    None => others,
                };
                let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
                object.iter().all(member)
                    && required.filter_map(Value::as_str).all(|name| object.contains_key(name))
            }
            Value::Null | Value::Bool(_) => true,
        }
}

fn has_type(value: &Value, name: &Value) -> bool {
    match name.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("number") => value.is_number(),
        Some("integer") => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => false,
    }
}
