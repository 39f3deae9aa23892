//! Rows that say what another one says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GateSettings;
use crate::Code;

/// Refuses a row with the content of an earlier one. With a `similarity` below 1 it also refuses a row in which the
/// generator wrote nearly what it wrote in an earlier one: the Jaccard similarity of their runs of five characters, in
/// lower case and with single spaces, is at least that. Pairs are found by MinHash.
///
/// ```toml
/// gates = [{ kind = "duplicates", similarity = 0.8 }]
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Duplicates {
    /// At which similarity a row is nearly an earlier one; 1 for rows that are the same. Default 1.
    #[serde(default = "Duplicates::default_similarity")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1))]
    pub similarity: f64,
}

impl Duplicates {
    fn default_similarity() -> f64 {
        1.0
    }
}

impl GateSettings for Duplicates {
    fn reason(&self, _: Code) -> String {
        if self.similarity < 1.0 { "nearly an earlier row" } else { "the same as an earlier row" }.into()
    }
}
