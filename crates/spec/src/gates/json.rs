//! Rows that are not the JSON that they should be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{GateSettings, pattern_fault};
use crate::metrics::is_writable;
use crate::{Code, Fault, syntax::member};

/// Refuses what the generator wrote unless it is one JSON value, white space around it apart, of a schema.
///
/// Of JSON Schema it knows `type`, `const`, `enum`, `properties`, `required`, `additionalProperties` as true or false,
/// `items`, `minItems`, `maxItems`, `minLength`, `maxLength`, `pattern`, `minimum` and `maximum`. `title` and
/// `description` say nothing of a value; any other keyword is an error.
///
/// ```toml
/// gates = [{ kind = "json", schema = { type = "object", required = ["answer"] } }]
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonShape {
    /// The schema. Default: any JSON.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub schema: Map<String, Value>,
}

impl GateSettings for JsonShape {
    fn reason(&self, _: Code) -> String {
        "not the JSON that is wanted".into()
    }

    fn faults(&self) -> Vec<Fault> {
        let unwritable = !self.schema.values().all(is_writable);
        let message = "has `null` or a whole number above 2^63 - 1, which TOML cannot say; remove it";
        let unwritable = unwritable.then(|| Fault::new("schema", message));
        unwritable.into_iter().chain(faults_of("schema", &self.schema)).collect()
    }
}

const TYPES: [&str; 7] = ["null", "boolean", "object", "array", "string", "number", "integer"];

/// What is wrong with a schema, by keys below `path`.
fn faults_of(path: &str, schema: &Map<String, Value>) -> Vec<Fault> {
    let mut faults = vec![];
    for (keyword, value) in schema {
        let at = member(path, keyword);
        let is_type = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
        let texts = |value: &Value| value.as_array().is_some_and(|all| all.iter().all(Value::is_string));
        let (holds, expected) = match keyword.as_str() {
            "type" => {
                let all = value.as_array().is_some_and(|all| all.iter().all(is_type));
                (all || is_type(value), "the name of a type of JSON, or a list of them")
            }
            "const" | "title" | "description" => (true, ""),
            "enum" => (value.is_array(), "a list of values"),
            "required" => (texts(value), "a list of names"),
            "additionalProperties" => (value.is_boolean(), "true or false"),
            "minItems" | "maxItems" | "minLength" | "maxLength" => (value.is_u64(), "a whole number"),
            "minimum" | "maximum" => (value.is_number(), "a number"),
            "pattern" => {
                faults.extend(value.as_str().and_then(|pattern| pattern_fault(&at, pattern)));
                (value.is_string(), "a regular expression")
            }
            "items" => {
                faults.extend(value.as_object().into_iter().flat_map(|inner| faults_of(&at, inner)));
                (value.is_object(), "a schema")
            }
            "properties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    match inner.as_object() {
                        Some(inner) => faults.extend(faults_of(&member(&at, name), inner)),
                        None => faults.push(Fault::new(member(&at, name), "expected a schema")),
                    }
                }
                (value.is_object(), "schemas by the names of properties")
            }
            _ => {
                faults.push(Fault::new(at, "is not one of the keywords of JSON Schema that this gate knows"));
                continue;
            }
        };
        if !holds {
            faults.push(Fault::new(at, format!("expected {expected}")));
        }
    }
    faults
}
