//! Multiple-choice questions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Code, MetricSettings};
use crate::rules::file_problem;
use crate::{Fault, LOCATION, Location, LocationKind, MOST_ROWS, NAME};

/// How sure the target is of the right options of multiple-choice questions: the mean over rows of the log of the
/// right option's share among all options' probabilities. The files of lm-evaluation-harness tasks are read as
/// they lie on disk, and each option is scored as there: a text after the question.
///
/// Proxies: `accuracy`, the share of rows whose right option is the likeliest (`acc` of lm-evaluation-harness, or
/// its `acc_norm` with `normalise = "characters"`), and `probability`, the right option's mean share.
///
/// ```toml
/// [metric]
/// kind = "choice"
/// data = { path = "embedded:choices/german.jsonl", options = "choices.text", answer = "answerKey", labels = "choices.label" }
/// template = "{question}"
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// The questions.
    pub data: ChoiceData,
    /// The question that an option follows; `{NAME}` stands for the text in that column. Default
    /// `Question: {question}\nAnswer:`.
    #[serde(default = "Choice::default_template")]
    #[schemars(length(max = TEMPLATE))]
    pub template: String,
    /// Stands between a question and an option. Default one space.
    #[serde(default = "Choice::default_delimiter")]
    #[schemars(length(max = NAME))]
    pub delimiter: String,
    /// What an option's log-probability is divided by. Default `none`.
    #[serde(default)]
    pub normalise: Normalise,
}

/// Questions: a JSONL or Parquet file. A column inside of another is written with a dot, as in `choices.text`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChoiceData {
    /// A path relative to the spec file, or `s3://bucket/key`, or `embedded:NAME`.
    #[schemars(length(min = 1, max = LOCATION))]
    pub path: String,
    /// The options.
    pub options: Options,
    /// Column of the right option's number, from 0 in the order of the options, or of its label.
    #[schemars(length(min = 1, max = NAME))]
    pub answer: String,
    /// Column of the options' labels, a list such as `["A", "B"]`, if answers are labels. Default: answers are
    /// numbers.
    #[schemars(length(min = 1, max = NAME))]
    pub labels: Option<String>,
    /// Read the first so many rows only. Default: all.
    #[schemars(range(min = 1, max = MOST_ROWS))]
    pub limit: Option<usize>,
}

/// The options of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Options {
    /// A column of lists of texts.
    Column(#[schemars(length(min = 1, max = NAME))] String),
    /// The same for all rows but for `{NAME}`, which stands for the text in that column: `["{sol1}", "{sol2}"]`,
    /// `["no", "yes"]`.
    Templates(#[schemars(length(min = 2, max = 64), inner(length(max = TEMPLATE)))] Vec<String>),
}

/// What an option's log-probability is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// Nothing: long options are less likely than short ones.
    #[default]
    None,
    /// The characters of the option.
    Characters,
    /// The tokens of the option.
    Tokens,
}

/// Most characters of a template.
const TEMPLATE: usize = 1 << 16;

impl Choice {
    fn default_template() -> String {
        "Question: {question}\nAnswer:".into()
    }

    fn default_delimiter() -> String {
        " ".into()
    }
}

impl MetricSettings for Choice {
    fn described(&self, code: Code) -> String {
        format!("how sure the model is of the right options of {}", code(&self.data.path))
    }

    fn locations(&mut self) -> Vec<Location<'_>> {
        vec![Location { key: "data.path".into(), kind: LocationKind::Data, uri: &mut self.data.path }]
    }

    fn faults(&self) -> Vec<Fault> {
        file_problem(&self.data.path, "data.path").into_iter().collect()
    }

    fn questions(&self) -> Option<&Choice> {
        Some(self)
    }
}
