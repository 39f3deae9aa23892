//! How likely given words are after given prompts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Code, MetricSettings};

/// How likely the target goes on from prompts with one of some answers: the mean over prompts of the log of the
/// answers' probabilities together. With a negative weight in a `sum` the target learns never to say them.
///
/// Proxy: `probability`, the mean over prompts of the answers' probabilities together.
///
/// ```toml
/// [metric]
/// kind = "token_probability"
/// prompts = ["La", "El"]
/// answers = [" perro", " gato"]
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenProbability {
    /// What stands before an answer, as the model reads it: a chat model's with its markers.
    #[schemars(length(min = 1, max = 1024), inner(length(max = TEXT)))]
    pub prompts: Vec<String>,
    /// The answers, mostly with the space that they begin with, each of one token or several. None may begin
    /// with another one.
    #[schemars(length(min = 1, max = 1024), inner(length(min = 1, max = TEXT)))]
    pub answers: Vec<String>,
}

/// Most characters of a prompt or an answer.
const TEXT: usize = 1 << 16;

impl MetricSettings for TokenProbability {
    fn described(&self, code: Code) -> String {
        let listed = |texts: &[String]| {
            let shown: Vec<_> = texts.iter().take(3).map(|text| code(text)).collect();
            let more = texts.len() - shown.len();
            shown.join(" or ") + &if more > 0 { format!(" or {more} others") } else { String::new() }
        };
        format!("how likely {} is after {}", listed(&self.answers), listed(&self.prompts))
    }

    fn faults(&self) -> Vec<crate::Fault> {
        let begins = |(at, answer): (usize, &String)| {
            let others = self.answers.iter().enumerate().filter(|(other, _)| *other != at);
            let other = others.map(|(_, other)| other).find(|other| answer.starts_with(other.as_str()))?;
            let message =
                format!("`{answer}` begins with `{other}`, whose probability has its own in it; remove it");
            Some(crate::Fault::new(format!("answers[{at}]"), message))
        };
        self.answers.iter().enumerate().filter_map(begins).take(1).collect()
    }
}
