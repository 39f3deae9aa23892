//! How much more likely a chosen answer is than a rejected one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Code, HeldOutData, MetricSettings};
use crate::rules::file_problem;
use crate::{Fault, LARGEST, LOCATION, Location, LocationKind, MOST_ROWS, NAME};

/// How much more likely chosen answers are than rejected ones, as DPO trains them (arXiv 2305.18290): the
/// mean over rows of `log sigmoid(beta * (m - m0))`. `m` is the log-probability of the chosen answer less that of
/// the rejected one, and `m0` the same under the untrained target.
///
/// Proxies: `wins`, the share of rows whose chosen answer is the likelier one, and `margin`, the mean of `m` in nats.
///
/// ```toml
/// [metric]
/// kind = "preference"
/// data = { path = "embedded:preferences/spanish.jsonl" }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Preference {
    /// The pairs of answers.
    pub data: PreferenceData,
    /// What is made of a row's margin. Default `dpo`.
    #[serde(default)]
    pub form: PreferenceForm,
    /// Slope of the log-sigmoid in `m - m0`; `margin` has none. Default 0.1.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = LARGEST))]
    pub beta: Option<f64>,
}

/// Pairs of answers: a JSONL or Parquet file with three columns of text, or of turns as chat models have them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreferenceData {
    /// A path relative to the spec file, or `s3://bucket/key`, or `embedded:NAME`.
    #[schemars(length(min = 1, max = LOCATION))]
    pub path: String,
    /// Column of prompts. Default `prompt`.
    #[serde(default = "PreferenceData::prompt")]
    #[schemars(length(min = 1, max = NAME))]
    pub prompt: String,
    /// Column of the answers to prefer. Default `chosen`.
    #[serde(default = "PreferenceData::chosen")]
    #[schemars(length(min = 1, max = NAME))]
    pub chosen: String,
    /// Column of the others. Default `rejected`.
    #[serde(default = "PreferenceData::rejected")]
    #[schemars(length(min = 1, max = NAME))]
    pub rejected: String,
    /// Read the first so many rows only. Default: all.
    #[schemars(range(min = 1, max = MOST_ROWS))]
    pub limit: Option<usize>,
}

/// What is made of a row's margin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PreferenceForm {
    /// `log sigmoid(beta * (m - m0))`: rows that are won by far count little.
    #[default]
    Dpo,
    /// `m` itself.
    Margin,
}

impl PreferenceData {
    fn prompt() -> String {
        "prompt".into()
    }

    fn chosen() -> String {
        "chosen".into()
    }

    fn rejected() -> String {
        "rejected".into()
    }

    /// The prompts with the chosen and with the rejected answers.
    pub fn answers(&self) -> [HeldOutData; 2] {
        [&self.chosen, &self.rejected].map(|answer| HeldOutData {
            prompt: Some(self.prompt.clone()),
            completion: Some(answer.clone()),
            limit: self.limit,
            ..HeldOutData::at(&self.path)
        })
    }
}

impl Preference {
    /// The slope of the log-sigmoid.
    pub fn slope(&self) -> f64 {
        self.beta.unwrap_or(0.1)
    }
}

impl MetricSettings for Preference {
    fn described(&self, code: Code) -> String {
        let path = code(&self.data.path);
        format!("how much more likely the chosen answers of {path} are than the rejected ones")
    }

    fn locations(&mut self) -> Vec<Location<'_>> {
        vec![Location { key: "data.path".into(), kind: LocationKind::Data, uri: &mut self.data.path }]
    }

    fn faults(&self) -> Vec<Fault> {
        let beta = self.form == PreferenceForm::Margin && self.beta.is_some();
        let beta =
            beta.then(|| Fault::new("beta", "`margin` has no slope; remove it, or set `form` to `dpo`"));
        [file_problem(&self.data.path, "data.path"), beta].into_iter().flatten().collect()
    }

    fn held_out(&self) -> Vec<HeldOutData> {
        self.data.answers().into()
    }

    fn helpful(&self) -> Vec<HeldOutData> {
        let [chosen, _] = self.data.answers();
        vec![chosen]
    }
}
