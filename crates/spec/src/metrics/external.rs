//! What a program measures.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Code, MetricSettings, NamedProgram};
use crate::rules::{file_problem, is_name};
use crate::{Fault, LOCATION, Location, LocationKind, NAME};

/// What a program measures: it is handed the fine-tuned model as a Hugging Face folder, and answers with Phi, its
/// gradient in any of the parameters, and figures for people. A program that is asked the same twice must answer
/// the same, or else a run that was stopped goes on otherwise. deploy/python has what a program of Python needs.
///
/// The spec names the program; which command that is, `--program NAME=COMMAND` or `[allow.programs]` of the settings
/// says.
///
/// Proxies: those that the program names.
///
/// ```toml
/// [metric]
/// kind = "external"
/// program = "quadratic"
/// parameters = { centre = 0.25 }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct External {
    /// The program's name: `[a-z0-9][a-z0-9-]{0,62}`.
    #[schemars(length(max = 63), extend("pattern" = "^[a-z0-9][a-z0-9-]{0,62}$"))]
    pub program: String,
    /// What the program is told, as it stands here. Real numbers in it may be scheduled.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub parameters: Map<String, Value>,
    /// Files that the program reads, by names that it knows: paths relative to the spec file, `s3://bucket/key` or
    /// `embedded:NAME`. It is told where they are on its machine.
    #[serde(default)]
    #[schemars(extend(
        "maxProperties" = 64,
        "additionalProperties" = { "type": "string", "minLength": 1, "maxLength": LOCATION }
    ))]
    pub files: BTreeMap<String, String>,
    /// Seconds that an answer may take, the start of the program counting as one. Default 600.
    #[serde(default = "External::default_timeout_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_seconds: u64,
    /// The command that the program's name stands for on this machine. It is never written in a spec.
    #[serde(skip)]
    pub command: Option<String>,
}

/// What a program's name is.
const PROGRAM: &str = "the name of a program, 1 to 63 of `a-z`, `0-9` and `-`, the first not `-`";

impl External {
    fn default_timeout_seconds() -> u64 {
        600
    }
}

impl MetricSettings for External {
    fn described(&self, code: Code) -> String {
        format!("what the program {} measures", code(&self.program))
    }

    fn locations(&mut self) -> Vec<Location<'_>> {
        let kind = LocationKind::Data;
        let files = self.files.iter_mut();
        files.map(|(name, uri)| Location { key: format!("files.{name}"), kind, uri }).collect()
    }

    fn faults(&self) -> Vec<Fault> {
        let files = self.files.iter();
        let files = files.flat_map(|(name, uri)| {
            let named =
                name.len() <= NAME && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let key = format!("files.{name}");
            let name = (!named).then(|| Fault::new(&key, "expected a name of letters, digits and `_`"));
            name.into_iter().chain(file_problem(uri, &key))
        });
        program_fault(&self.program, &self.parameters).into_iter().chain(files).collect()
    }

    fn programs(&mut self) -> Vec<NamedProgram<'_>> {
        vec![NamedProgram { key: "program".into(), name: &self.program, command: &mut self.command }]
    }
}

/// What is wrong with a program that a spec names, and with what that is told.
pub(crate) fn program_fault(program: &str, parameters: &Map<String, Value>) -> Vec<Fault> {
    let named = (!is_name(program)).then(|| {
        let message = format!(
            "expected {PROGRAM}; its command is given with `--program NAME=COMMAND` or in the daemon's settings"
        );
        Fault::new("program", message)
    });
    let unwritable = parameters.iter().filter(|(_, value)| !is_writable(value)).map(|(name, _)| {
        let message = "has `null` or a whole number above 2^63 - 1, which TOML cannot say; remove it";
        Fault::new(format!("parameters.{name}"), message)
    });
    named.into_iter().chain(unwritable).collect()
}

/// Whether TOML, in which specs are published, can say it.
pub(crate) fn is_writable(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Number(number) => number.is_f64() || number.is_i64(),
        Value::Bool(_) | Value::String(_) => true,
        Value::Array(items) => items.iter().all(is_writable),
        Value::Object(table) => table.values().all(is_writable),
    }
}

/// What is wrong with a program that an operator names, and its command.
///
/// # Errors
/// A name that specs cannot have, or no command.
pub fn check_program(name: &str, command: &str) -> Result<(), String> {
    if !is_name(name) {
        return Err(format!("`{name}` is not {PROGRAM}"));
    }
    if command.trim().is_empty() {
        return Err(format!(
            "`{name}` has no command; expected one of the shell, as in `python3 /srv/measure.py`"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{Error, Spec, Syntax};

    fn parse(metric: &str) -> Result<Spec, Vec<String>> {
        let text = format!("{{ \"name\": \"a\", \"target\": {{ \"model\": \"b\" }}, \"metric\": {metric} }}");
        Spec::parse(&text, Syntax::Json).map_err(|error| match error {
            Error::Invalid(problems) => problems.iter().map(ToString::to_string).collect(),
            error => panic!("{error}"),
        })
    }

    #[test]
    fn what_a_program_is_told_is_published_as_it_was_written() {
        let told = r#"{ "kind": "external", "program": "a", "files": { "x": "s3://b/c" },
            "parameters": { "n": 1, "x": 2.0, "list": [1, "a", true, { "deep": -1e-300 }] } }"#;
        let spec = parse(told).unwrap();
        assert_eq!(Spec::parse(&spec.to_toml().unwrap(), Syntax::Toml).unwrap(), spec);
        let mut known = spec.clone();
        for program in known.programs() {
            *program.command = Some("rm -r".into());
        }
        // a command is of one machine
        assert_eq!((known.sha256(), known.to_toml().unwrap()), (spec.sha256(), spec.to_toml().unwrap()));
        assert_ne!(spec.sha256(), parse(&told.replace("2.0", "3.0")).unwrap().sha256());
    }

    #[test]
    fn what_no_program_can_have_is_refused_by_its_key() {
        for (keys, expected) in [
            (r#""program": "a b""#, "`metric.program`: expected the name of a program"),
            (r#""program": "a", "command": "b""#, "`metric.command`: unknown key"),
            (r#""program": "a", "parameters": { "x": [null] }"#, "`metric.parameters.x`: has `null`"),
            (r#""program": "a", "parameters": { "x": 18446744073709551615 }"#, "`metric.parameters.x`: has"),
            (r#""program": "a", "files": { "x": "hf:a/b" }"#, "`metric.files.x`: `hf:a/b` is not one of"),
            (
                r#""program": "a", "files": { "../x": "b" }"#,
                "`metric.files.../x`: expected a name of letters",
            ),
            (r#""program": "a", "files": { "x": 1 }"#, "expected a text"),
            (r#""program": "a", "timeout_seconds": 0"#, "`metric.timeout_seconds`: expected a whole number"),
        ] {
            let problems = parse(&format!("{{ \"kind\": \"external\", {keys} }}")).unwrap_err();
            assert!(problems[0].contains(expected), "{keys}: {problems:?}");
        }
    }

    #[test]
    fn a_program_and_its_files_have_keys_wherever_they_stand() {
        let program =
            |name: &str| format!(r#"{{ "kind": "external", "program": "{name}", "files": {{ "x": "y" }} }}"#);
        let guard = format!(
            r#"{{ "kind": "guard", "raise": {}, "keep": [{{ "tolerance": 0, "metric": {} }}] }}"#,
            program("a"),
            program("b")
        );
        let mut spec =
            parse(&format!(r#"{{ "kind": "sum", "terms": [{{ "weight": 1, "metric": {guard} }}] }}"#))
                .unwrap();
        let found: Vec<_> = spec.programs().into_iter().map(|one| (one.key, one.name.to_owned())).collect();
        let key = |part: &str| format!("metric.terms[0].metric.{part}");
        assert_eq!(
            found,
            [(key("raise.program"), "a".to_owned()), (key("keep[0].metric.program"), "b".to_owned())]
        );
        let files: Vec<_> = spec.locations().into_iter().map(|one| one.key).skip(1).collect();
        assert_eq!(files, [key("raise.files.x"), key("keep[0].metric.files.x")]);
    }
}
