//! The rows of a version, their rewards, and what was found out about the version.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{Attestation, RewardStatistics};

/// Some rows of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RowPage {
    /// Rows of the split.
    pub total: u64,
    /// Rows of it that the search found; all without one.
    pub matching: u64,
    /// The rows that were asked for.
    pub rows: Vec<Row>,
}

/// A row of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Row {
    /// Its place in the split, from 0.
    pub row: u64,
    /// Its id.
    pub example_id: String,
    /// Derivative of the metric with respect to its weight.
    pub reward: f64,
    /// The columns that trainers read: `text`, `prompt` and `completion`, or `messages`.
    #[schema(value_type = Object)]
    pub example: Map<String, Value>,
    /// How it came about, if the split tells.
    pub record: Option<RowRecord>,
}

/// How a row came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RowRecord {
    /// What the generator was asked.
    pub prompt: String,
    /// Tokens of the completion, where somebody counted them.
    pub n_tokens: Option<i64>,
    /// Log-probability of the completion, where the generator knows.
    pub logprob: Option<f64>,
    /// The generator's step that drew it.
    pub step: Option<i64>,
    /// The reward relative to its group.
    pub advantage: Option<f64>,
    /// The arm of a teacher that wrote it, where it has several.
    #[serde(default)]
    pub arm: Option<String>,
}

/// The rewards of a version's rows at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RewardSummary {
    /// Their statistics.
    pub statistics: RewardStatistics,
    /// How often which reward came.
    pub rewards: Vec<Bin>,
    /// How often which number of tokens came; empty if they are not known.
    pub lengths: Vec<Bin>,
}

/// A bar of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Bin {
    /// The smallest value in it.
    pub from: f64,
    /// Where the next begins.
    pub to: f64,
    /// Rows in it.
    pub count: u64,
}

/// What a version was made from and what was found when it was tried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// Whose trusted key signed the provenance; only then it counts.
    pub signer: Option<String>,
    /// Why the provenance is not believed, if it is not.
    pub doubt: Option<String>,
    /// The in-toto statement of what the version was made from.
    #[schema(value_type = Option<Object>)]
    pub provenance: Option<Value>,
    /// The verifications, oldest first.
    pub reports: Vec<Report>,
}

/// A verification of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// The verdict and who signed it.
    pub attestation: Attestation,
    /// What was measured, by arm; absent if the record cannot be read.
    #[schema(value_type = Option<Object>)]
    pub report: Option<Value>,
}
