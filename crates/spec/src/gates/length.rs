//! Rows that are too short or too long.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GateSettings;
use crate::{Code, Fault, MOST_TOKENS};

/// Refuses what the generator wrote with too few or too many tokens of the target's tokenizer. What mix of lengths
/// there should be, `output.length` says.
///
/// ```toml
/// gates = [{ kind = "length", min = 8, max = 400 }]
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRange {
    /// Fewest tokens. Default 0.
    #[serde(default)]
    #[schemars(range(max = MOST_TOKENS))]
    pub min: usize,
    /// Most tokens. Default: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = MOST_TOKENS))]
    pub max: Option<usize>,
}

impl GateSettings for TokenRange {
    fn reason(&self, _: Code) -> String {
        match self.max {
            None => format!("under {} tokens", self.min),
            Some(max) => format!("not of {} to {max} tokens", self.min),
        }
    }

    fn faults(&self) -> Vec<Fault> {
        let empty = self.max.is_some_and(|max| max < self.min);
        empty
            .then(|| Fault::new("max", "is less than `min`: no row would pass; raise it"))
            .into_iter()
            .collect()
    }
}
