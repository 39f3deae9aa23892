//! The reference of the spec in `config/`, made from the JSON schema, is the one that stands there.
//!
//! `DPG_BLESS=1 cargo test -p dpg-spec --test reference` writes it anew.

use std::fs;
use std::path::{Path, PathBuf};

use dpg_spec::{Spec, Syntax};
use serde_json::{Value, json};

/// The sections of the reference, each a table of a spec.
const SECTIONS: [(&str, &str); 13] = [
    ("A spec", ""),
    ("`[target]`", "Target"),
    ("`[target.sft]`", "Sft"),
    ("`[generator]`", "LocalGenerator"),
    ("`[generator]` with `kind = \"api\"`", "ApiGenerator"),
    ("`[generator]` with `kind = \"rubric\"`", "RubricGenerator"),
    ("`[generator]` with `kind = \"mix\"`", "MixGenerator"),
    ("`[[generator.members]]`", "Member"),
    ("`[policy]`", "Policy"),
    ("`[output]`", "Output"),
    ("`[output.length]`", "Length"),
    ("`[output.length.siblings]`", "Siblings"),
    ("`[resources]`", "Resources"),
];

/// Enums whose values have keys of their own: title, name, place in a spec, and the section that they come after.
const KINDS: [(&str, &str, &str, &str); 3] = [
    ("`target.sft.optimizer`", "Optimizer", "target.sft.optimizer", "Sft"),
    ("`[metric]`", "Metric", "metric", "Sft"),
    ("`output.gates`", "Gate", "output.gates", "Siblings"),
];

#[test]
fn the_reference_is_that_of_the_schema() {
    let begin = "<!-- made from the schema by crates/spec/tests/reference.rs -->\n";
    let path = config("README.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, _) = page.split_once(begin).expect("config/README.md has a place for the reference");
    is_or_becomes(&path, &format!("{before}{begin}{}", Reference::of(&Spec::json_schema()).markdown()));
}

#[test]
fn the_schema_for_editors_is_that_of_the_spec() {
    let schema = serde_json::to_string_pretty(&Spec::json_schema()).unwrap();
    is_or_becomes(&config("spec.schema.json"), &(schema + "\n"));
}

#[test]
fn every_kind_has_an_example_that_parses() {
    let schema = Spec::json_schema();
    let reference = Reference::of(&schema);
    let mut seen = 0;
    for (_, name, place, _) in KINDS {
        for kind in reference.kinds(name) {
            let description = text(kind, "description");
            let (_, example) =
                description.split_once("```toml\n").unwrap_or_else(|| panic!("no example: {description}"));
            let (example, _) = example.split_once("```").unwrap();
            let example: toml::Table = example.parse().unwrap();
            let key = place.rsplit('.').next().unwrap();
            let mut spec = json!({
                "name": "example",
                "target": { "model": "embedded:target", "sft": {} },
                "metric": { "kind": "weight_norm" },
                "output": {},
            });
            let mut at = &mut spec;
            for key in place.split('.') {
                at = &mut at[key];
            }
            *at = serde_json::to_value(&example[key]).unwrap();
            // a list is of one
            let written = at.as_array().map_or(&*at, |list| &list[0]);
            assert_eq!(written["kind"], kind["properties"]["kind"]["const"]);
            Spec::parse(&spec.to_string(), Syntax::Json)
                .unwrap_or_else(|error| panic!("{description}\n{error}"));
            seen += 1;
        }
    }
    assert!(seen >= 13, "{seen} kinds");
}

struct Reference<'s> {
    root: &'s Value,
}

impl<'s> Reference<'s> {
    fn of(root: &'s Value) -> Self {
        Self { root }
    }

    fn named(&self, name: &str) -> &'s Value {
        if name.is_empty() { self.root } else { &self.root["$defs"][name] }
    }

    fn kinds(&self, name: &str) -> impl Iterator<Item = &'s Value> {
        self.named(name)["oneOf"].as_array().into_iter().flatten()
    }

    fn markdown(&self) -> String {
        let mut page = String::new();
        for (title, name) in SECTIONS {
            page += &format!("\n### {title}\n\n{}\n", text(self.named(name), "description"));
            page += &self.table(self.named(name));
            for (title, name, ..) in KINDS.iter().filter(|(.., after)| *after == name) {
                page += &format!("\n### {title}\n\n{}\n", text(self.named(name), "description"));
                for kind in self.kinds(name) {
                    let (word, said) =
                        (text(&kind["properties"]["kind"], "const"), text(kind, "description"));
                    page += &format!("\n#### `{word}`\n\n{said}\n{}", self.table(kind));
                }
            }
        }
        page
    }

    fn table(&self, schema: &'s Value) -> String {
        format!("\n| key | |\n|---|---|\n{}", self.rows(schema, ""))
    }

    /// A row for every key of a table and of the tables in it that have no section.
    fn rows(&self, schema: &'s Value, prefix: &str) -> String {
        let keys = schema["properties"].as_object().into_iter().flatten();
        let row = |(key, schema): (&String, &'s Value)| {
            let said = text(schema, "description").replace('\n', " ");
            let row = format!("| `{prefix}{key}` | {said}{} |\n", self.choices(schema));
            let list = schema["type"] == "array";
            let inner = if list { &schema["items"] } else { schema };
            let dot = if list { "[]." } else { "." };
            let inner = alternatives(inner).filter_map(|one| self.without_section(one));
            row + &inner.map(|table| self.rows(table, &format!("{prefix}{key}{dot}"))).collect::<String>()
        };
        keys.filter(|(key, _)| *key != "kind").map(row).collect()
    }

    /// The table that a schema refers to, if no section is about it.
    fn without_section(&self, schema: &Value) -> Option<&'s Value> {
        let name = schema["$ref"].as_str()?.trim_start_matches("#/$defs/");
        let told = SECTIONS.iter().any(|(_, section)| *section == name);
        (!told && self.named(name)["properties"].is_object()).then(|| self.named(name))
    }

    /// The words that a key takes, if it takes some of a few.
    fn choices(&self, schema: &Value) -> String {
        let choices = alternatives(schema).flat_map(|one| match one["$ref"].as_str() {
            Some(reference) => alternatives(self.named(reference.trim_start_matches("#/$defs/"))).collect(),
            None => vec![one],
        });
        let said = choices.filter_map(|one| {
            let said = text(one, "description").replace('\n', " ");
            let tables = one["properties"].as_object().filter(|keys| !keys.contains_key("kind"));
            match (one["const"].as_str(), tables) {
                (Some(word), _) => Some(format!("<br>`{word}`: {said}")),
                (None, Some(keys)) if keys.len() == 1 => {
                    Some(format!("<br>`{{ {} = ... }}`: {said}", keys.keys().next()?))
                }
                _ => None,
            }
        });
        said.collect()
    }
}

/// A schema, or those that it is a choice of.
fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    let choices = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
    choices.map_or(std::slice::from_ref(schema), Vec::as_slice).iter()
}

fn text<'s>(schema: &'s Value, key: &str) -> &'s str {
    schema[key].as_str().unwrap_or("")
}

fn config(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config").join(file)
}

/// Holds a file against its right content, or writes that, if asked to.
fn is_or_becomes(path: &Path, content: &str) {
    if std::env::var_os("DPG_BLESS").is_some() {
        fs::write(path, content).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(found == content, "`{}` is not what the spec's types say; run with DPG_BLESS=1", path.display());
}
