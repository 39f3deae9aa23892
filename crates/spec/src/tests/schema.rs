//! The JSON schema says all of every key.

use super::*;

#[test]
fn the_schema_describes_every_key() {
    fn undescribed(schema: &serde_json::Value, path: &str, found: &mut Vec<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            let keys =
                properties.iter().filter(|(_, key)| key["description"].is_null() && key["const"].is_null());
            found.extend(keys.map(|(key, _)| format!("{path}.{key}")));
        }
        match schema {
            serde_json::Value::Object(map) => {
                map.iter().for_each(|(key, value)| undescribed(value, &format!("{path}/{key}"), found));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|value| undescribed(value, path, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    undescribed(&Spec::json_schema(), "", &mut found);
    assert_eq!(found, ["/$defs/Select/oneOf.top_fraction"]);
}

/// Every number has a maximum, every text a longest and every list a most, so that no spec can ask for
/// more than the machine has without being told.
#[test]
fn the_schema_bounds_everything() {
    fn unbounded(schema: &serde_json::Value, path: &str, found: &mut Vec<String>) {
        let is = |name: &str| match &schema["type"] {
            serde_json::Value::Array(names) => names.iter().any(|one| one == name),
            one => one == name,
        };
        let lacks = |keys: &[&str]| keys.iter().all(|key| schema[*key].is_null());
        if (is("integer") || is("number")) && lacks(&["maximum", "exclusiveMaximum"])
            || is("string") && lacks(&["maxLength", "const", "enum"])
            || is("array") && lacks(&["maxItems"])
            || is("object") && lacks(&["maxProperties", "properties"])
        {
            found.push(path.to_owned());
        }
        match schema {
            serde_json::Value::Object(map) => {
                map.iter().for_each(|(key, value)| unbounded(value, &format!("{path}/{key}"), found));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|value| unbounded(value, path, found)),
            _ => {}
        }
    }
    let mut found = vec![];
    unbounded(&Spec::json_schema(), "", &mut found);
    assert_eq!(found, Vec::<String>::new());
}
