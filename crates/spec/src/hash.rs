//! The hash of a spec: of what it says beyond the defaults of its schema.
//!
//! A later version of the program knows more keys, each with a default, and gives every older spec the hash
//! that it had.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The version of the schema, which each hash covers. A default that changes, or a key that means something
/// else, makes another.
const SCHEMA: u64 = 1;

/// SHA-256 in hex: the same for two values that mean the same.
pub(crate) fn sha256<T: Serialize + DeserializeOwned>(of: &T) -> String {
    let mut said = beyond_defaults(of);
    said["schema"] = json!(SCHEMA);
    // whatever order the keys are declared in
    said.sort_all_objects();
    hex::encode(Sha256::digest(said.to_string()))
}

/// The least that means the same as `of`.
fn beyond_defaults<T: Serialize + DeserializeOwned>(of: &T) -> Value {
    let value = |of: &T| serde_json::to_value(of).expect("text keys and plain values only");
    let mut said = value(of);
    leave_out(&mut said, "", &|said| T::deserialize(said).ok().map(|read| value(&read)));
    said
}

/// Takes out of `whole`, at a place and below it, each key without which it means the same.
fn leave_out(whole: &mut Value, place: &str, meaning: &dyn Fn(&Value) -> Option<Value>) {
    match whole.pointer(place).cloned() {
        Some(Value::Object(object)) => {
            // which no key that goes changes
            let meant = meaning(whole);
            for key in object.keys() {
                let mut without = whole.clone();
                if let Some(object) = without.pointer_mut(place).and_then(Value::as_object_mut) {
                    object.shift_remove(key);
                }
                if meaning(&without).is_some_and(|said| Some(&said) == meant.as_ref()) {
                    *whole = without;
                } else {
                    let key = key.replace('~', "~0").replace('/', "~1");
                    leave_out(whole, &format!("{place}/{key}"), meaning);
                }
            }
        }
        Some(Value::Array(items)) => {
            for (at, item) in items.into_iter().enumerate().filter(|(_, item)| item.is_object()) {
                // by itself: read again with all others for each of its keys, a long list takes long
                let mut alone = whole.clone();
                put(&mut alone, place, json!([item]));
                let place_of = |at: usize| format!("{place}/{at}");
                leave_out(&mut alone, &place_of(0), meaning);
                let least = alone.pointer(&place_of(0)).cloned();
                put(whole, &place_of(at), least.unwrap_or(item));
            }
        }
        _ => {}
    }
}

fn put(whole: &mut Value, place: &str, value: Value) {
    if let Some(found) = whole.pointer_mut(place) {
        *found = value;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde::Deserialize;

    use super::*;
    use crate::{Spec, Syntax};

    #[derive(Serialize, Deserialize)]
    struct Old {
        name: String,
        #[serde(default)]
        steps: u64,
        inner: Vec<OldInner>,
    }

    #[derive(Serialize, Deserialize)]
    struct OldInner {
        #[serde(default)]
        rate: f64,
    }

    /// The same with other keys, and in another order.
    #[derive(Serialize, Deserialize)]
    struct New {
        inner: Vec<NewInner>,
        #[serde(default)]
        added: Option<String>,
        #[serde(default)]
        steps: u64,
        name: String,
        #[serde(default = "ten")]
        more: u64,
    }

    #[derive(Serialize, Deserialize)]
    struct NewInner {
        #[serde(default = "ten")]
        warmup: u64,
        #[serde(default)]
        rate: f64,
    }

    fn ten() -> u64 {
        10
    }

    #[test]
    fn a_new_key_changes_no_old_hash() {
        for text in [
            r#"{ "name": "a", "inner": [] }"#,
            r#"{ "name": "a", "steps": 3, "inner": [{ "rate": 0.5 }, {}, { "rate": 0.0 }] }"#,
        ] {
            let (old, new): (Old, New) =
                (serde_json::from_str(text).unwrap(), serde_json::from_str(text).unwrap());
            assert_eq!(sha256(&new), sha256(&old), "{text}");
            let said = New { more: 11, ..serde_json::from_str(text).unwrap() };
            assert_ne!(sha256(&said), sha256(&old), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_default_stays() {
        let new: New = serde_json::from_str(
            r#"{ "name": "a", "steps": 0, "more": 10, "inner": [{ "rate": 2.5, "warmup": 10 }, { "warmup": 1 }] }"#,
        )
        .unwrap();
        assert_eq!(
            beyond_defaults(&new),
            json!({ "inner": [{ "rate": 2.5 }, { "warmup": 1 }], "name": "a" })
        );
    }

    /// A hash that changes orphans runs and jobs of an older version: the golden ones change with the text
    /// of their spec, or with `SCHEMA`, and never otherwise.
    #[test]
    fn the_specs_that_ship_keep_their_hashes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folders = ["../../config/specs", "../../config/real"];
        let files = folders.iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap());
        let mut found: Vec<_> = files
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .map(|path| {
                let spec = Spec::parse(&fs::read_to_string(&path).unwrap(), Syntax::Toml).unwrap();
                assert_eq!(serde_json::from_value::<Spec>(beyond_defaults(&spec)).unwrap(), spec);
                format!("{}  {}\n", spec.sha256(), path.file_name().unwrap().to_string_lossy())
            })
            .collect();
        found.sort_by_key(|line| line.split("  ").last().map(str::to_owned));
        let golden = fs::read_to_string(root.join("src/hash/golden.txt")).unwrap();
        assert_eq!(found.concat(), golden);
    }
}
