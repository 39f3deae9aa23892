//! Rows in the wrong language.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GateSettings;
use crate::{Code, Fault, NAME};

/// The languages that are told apart, by their ISO 639-3 codes.
const LANGUAGES: [&str; 7] = ["eng", "spa", "fra", "deu", "ita", "por", "nld"];

/// Refuses what the generator wrote in another language: the likeliest of seven is none of these.
///
/// ```toml
/// gates = [{ kind = "language", languages = ["spa", "por"] }]
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Languages {
    /// ISO 639-3 codes among `eng`, `spa`, `fra`, `deu`, `ita`, `por` and `nld`.
    #[schemars(length(min = 1, max = 7), inner(length(max = NAME)))]
    pub languages: Vec<String>,
}

impl GateSettings for Languages {
    fn reason(&self, code: Code) -> String {
        let languages: Vec<_> = self.languages.iter().map(|language| code(language)).collect();
        format!("not in {}", languages.join(" or "))
    }

    fn faults(&self) -> Vec<Fault> {
        let unknown = self.languages.iter().find(|language| !LANGUAGES.contains(&language.as_str()));
        let fault = |language| {
            let known = LANGUAGES.map(|language| format!("`{language}`")).join(", ");
            Fault::new("languages", format!("`{language}` is not one of those that are told apart: {known}"))
        };
        unknown.map(fault).into_iter().collect()
    }
}
