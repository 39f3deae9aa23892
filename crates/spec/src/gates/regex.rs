//! Rows that do not look as they should.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GateSettings;
use crate::{Code, Fault};

/// Refuses what the generator wrote if a regular expression is found nowhere in it. `(?s)^...$` is for all of it.
///
/// ```toml
/// gates = [{ kind = "regex", pattern = "Answer: -?[0-9]+$" }]
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// The expression, as the Rust crate `fancy-regex` reads it.
    #[schemars(length(min = 1, max = 4096))]
    pub pattern: String,
}

impl GateSettings for Pattern {
    fn reason(&self, code: Code) -> String {
        format!("without {}", code(&self.pattern))
    }

    fn faults(&self) -> Vec<Fault> {
        pattern_fault("pattern", &self.pattern).into_iter().collect()
    }
}

/// What is wrong with a regular expression.
pub(crate) fn pattern_fault(path: &str, pattern: &str) -> Option<Fault> {
    let error = fancy_regex::Regex::new(pattern).err()?;
    Some(Fault::new(path, format!("is not a regular expression: {error}")))
}
