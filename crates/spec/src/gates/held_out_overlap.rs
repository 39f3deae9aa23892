//! Rows that copy the test.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GateSettings;
use crate::Code;

/// Refuses a row that copies a text which the metric holds out: one that has `words` words in a row of it. A run without
/// this gate publishes such rows, and says how many there are.
///
/// ```toml
/// gates = [{ kind = "held_out_overlap", words = 8 }]
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldOutOverlap {
    /// Words in a row that make a copy; of a shorter text, all of it. Words are runs of letters and digits, in lower
    /// case. Default 8.
    #[serde(default = "HeldOutOverlap::default_words")]
    #[schemars(range(min = 1, max = 1000))]
    pub words: usize,
    /// The share of a row's runs of so many words that may be copied. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub share: f64,
}

impl Default for HeldOutOverlap {
    fn default() -> Self {
        Self { words: Self::default_words(), share: 0.0 }
    }
}

impl HeldOutOverlap {
    fn default_words() -> usize {
        8
    }
}

impl GateSettings for HeldOutOverlap {
    fn reason(&self, _: Code) -> String {
        "a copy of what the metric holds out".into()
    }
}
