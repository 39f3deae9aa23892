//! Rows that a program does not take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::GateSettings;
use crate::metrics::program_fault;
use crate::{Code, Fault, NamedProgram};

/// Refuses what a program refuses. It is started once, and asked in lines of JSON on its standard input,
/// `{"parameters": .., "prompt": .., "text": ..}`, and answers each with a line, `{"valid": true}` or `{"valid": false}`.
/// A program that is asked the same twice must answer the same.
///
/// The spec names the program; which command that is, `--program NAME=COMMAND` or `[allow.programs]` of the settings
/// says, as for the metric `external`.
///
/// ```toml
/// gates = [{ kind = "program", program = "compiles" }]
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Checker {
    /// The program's name: `[a-z0-9][a-z0-9-]{0,62}`.
    #[schemars(length(max = 63), extend("pattern" = "^[a-z0-9][a-z0-9-]{0,62}$"))]
    pub program: String,
    /// What the program is told, as it stands here. Default: nothing.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub parameters: Map<String, Value>,
    /// Seconds that an answer may take. Default 60.
    #[serde(default = "Checker::default_timeout_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_seconds: u64,
    /// The command that the program's name stands for on this machine. It is never written in a spec.
    #[serde(skip)]
    pub command: Option<String>,
}

impl Checker {
    fn default_timeout_seconds() -> u64 {
        60
    }
}

impl GateSettings for Checker {
    fn reason(&self, code: Code) -> String {
        format!("invalid, as {} says", code(&self.program))
    }

    fn faults(&self) -> Vec<Fault> {
        program_fault(&self.program, &self.parameters)
    }

    fn program(&mut self) -> Option<NamedProgram<'_>> {
        Some(NamedProgram { key: "program".into(), name: &self.program, command: &mut self.command })
    }
}
