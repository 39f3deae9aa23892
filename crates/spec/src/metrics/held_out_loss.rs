//! Minus the loss on held-out text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Code, MetricSettings};
use crate::rules::{file_problem, model_problem};
use crate::{Fault, LOCATION, Location, LocationKind, MOST_ROWS, MOST_TOKENS, NAME};

/// Minus the loss on held-out text: the mean over examples of the mean cross-entropy of an
/// example's scored tokens.
///
/// ```toml
/// [metric]
/// kind = "held_out_loss"
/// data = { path = "held-out.jsonl", column = "text" }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// The held-out examples.
    pub data: HeldOutData,
    /// Longest example in tokens. One whose scored tokens would be cut is an error. Default: the
    /// target's `sequence_length`.
    #[schemars(range(min = 2, max = MOST_TOKENS))]
    pub sequence_length: Option<usize>,
    /// Append the end-of-sequence token, scored. Default false.
    #[serde(default)]
    pub append_eos: bool,
    /// Score the last word of each text alone, as LAMBADA does. Default false.
    #[serde(default)]
    pub last_word: bool,
    /// A language model that takes no part in the run, written as `target.model` is. Validations then tell
    /// `relative_loss`, its loss on generations over its loss on the held-out examples: far above 1, they
    /// are not such text, whatever the target says. Default: none.
    #[schemars(length(min = 1, max = LOCATION))]
    pub fluency_model: Option<String>,
    /// What validations tell of generations beside the metric. Default `languages`.
    #[serde(default)]
    pub proxies: Proxies,
}

/// What people read off generations, by what the held-out examples are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proxies {
    /// Held-out texts in a language: shares of languages, how many generations repeat another, and
    /// `relative_loss` where there is a fluency model.
    #[default]
    Languages,
    /// Held-out texts that generations may be equal to: `exact_matches`, `character_matches`, `greedy_match`.
    Matches,
}

impl HeldOut {
    /// Examples as they are, none longer than a model's context.
    pub fn whole(data: &HeldOutData, context: usize) -> Self {
        let (data, sequence_length) = (data.clone(), Some(context));
        let proxies = Proxies::default();
        Self { data, sequence_length, append_eos: false, last_word: false, fluency_model: None, proxies }
    }
}

/// Held-out examples: a JSONL or Parquet file with a text column, a prompt and a completion
/// column (the completion is scored), or a messages column (the assistant's turns are scored).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldOutData {
    /// A path relative to the spec file, or `s3://bucket/key`, or `embedded:NAME`.
    #[schemars(length(min = 1, max = LOCATION))]
    pub path: String,
    /// Column of plain text; every token that has a predecessor is scored.
    #[schemars(length(min = 1, max = NAME))]
    pub column: Option<String>,
    /// Column of prompts.
    #[schemars(length(min = 1, max = NAME))]
    pub prompt: Option<String>,
    /// Column of completions.
    #[schemars(length(min = 1, max = NAME))]
    pub completion: Option<String>,
    /// Column of messages.
    #[schemars(length(min = 1, max = NAME))]
    pub messages: Option<String>,
    /// Read the first so many rows only. Default: all.
    #[schemars(range(min = 1, max = MOST_ROWS))]
    pub limit: Option<usize>,
}

impl HeldOutData {
    /// A file of which no column is named yet.
    pub(super) fn at(path: &str) -> Self {
        Self { path: path.into(), column: None, prompt: None, completion: None, messages: None, limit: None }
    }

    /// Where it is, by its key in a metric.
    pub(super) fn location(&mut self) -> Location<'_> {
        Location { key: "data.path".into(), kind: LocationKind::Data, uri: &mut self.path }
    }

    /// What is wrong with it as `data` of a metric.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let columns = [&self.column, &self.prompt, &self.completion, &self.messages].map(Option::is_some);
        let right = matches!(
            columns,
            [true, false, false, false] | [false, true, true, false] | [false, false, false, true]
        );
        let columns = (!right).then(|| {
            Fault::new("data", "expected exactly one of: `column`; `prompt` and `completion`; `messages`")
        });
        file_problem(&self.path, "data.path").into_iter().chain(columns).collect()
    }
}

impl MetricSettings for HeldOut {
    fn described(&self, code: Code) -> String {
        format!("minus the loss on {}", code(&self.data.path))
    }

    fn locations(&mut self) -> Vec<Location<'_>> {
        let model = self.fluency_model.as_mut();
        let model = model.map(|uri| Location { key: "fluency_model".into(), kind: LocationKind::Model, uri });
        std::iter::once(self.data.location()).chain(model).collect()
    }

    fn faults(&self) -> Vec<Fault> {
        let texts = self.last_word && self.data.column.is_none();
        let texts = texts.then(|| Fault::new("data", "`last_word` splits texts: expected `column`"));
        let model = self.fluency_model.as_ref().and_then(|model| model_problem(model, "fluency_model"));
        model.into_iter().chain(self.data.faults()).chain(texts).collect()
    }

    fn held_out(&self) -> Vec<HeldOutData> {
        vec![self.data.clone()]
    }

    fn fluency_model(&self) -> Option<&str> {
        self.fluency_model.as_deref()
    }

    fn proxies(&self) -> Option<Proxies> {
        Some(self.proxies)
    }
}
