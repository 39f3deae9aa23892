//! The curves of a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// What a job's steps and validations measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Series {
    /// The numbers of the steps, ascending: 1 is the first. A long run has some of them.
    pub step: Vec<u64>,
    /// A curve each, one value a step: `phi`, `reward_mean`, `reward_std`, `entropy`, `kl`, `clip_fraction`,
    /// `length`, `seconds`, and of a teacher `tokens` and `money` so far. Absent where nothing was measured.
    pub curves: BTreeMap<String, Vec<Option<f64>>>,
    /// Steps that were made, those that were left out among them.
    pub steps_made: u64,
    /// The validations, by step.
    pub validations: Vec<Validation>,
    /// The number of the job's event up to which this is; following goes on from it.
    pub last_event: i64,
}

/// Fresh generations, and a target that was fine-tuned on them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Validation {
    /// Updates made before it.
    pub step: u64,
    /// The metric.
    pub phi: Option<f64>,
    /// The figures that people read instead of the metric.
    #[schema(value_type = BTreeMap<String, Option<f64>>)]
    #[serde(default)]
    pub proxies: Value,
    /// What can be told of the generations themselves.
    #[schema(value_type = BTreeMap<String, Option<f64>>)]
    #[serde(default)]
    pub outputs: Value,
    /// What the generator writes to the first prompt if it always takes the likeliest token.
    #[serde(default)]
    pub greedy: String,
    /// A few of the generations.
    #[serde(default)]
    pub samples: Vec<String>,
    /// The patterns that they drew into the target, if the metric has any.
    #[serde(default)]
    pub patterns: Vec<Pattern>,
}

/// A pattern beside the one that was to be drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pattern {
    /// Its name.
    pub name: String,
    /// Pixels in a row.
    pub columns: usize,
    /// What was to be drawn, row by row: `1` where set, else `0`.
    pub wanted: String,
    /// What was drawn.
    pub found: String,
    /// How sure each pixel of it is, a digit each: how far its weight has moved, and `9` the farthest.
    #[serde(default)]
    pub margins: String,
    /// The text in it, if it is a QR code that can be read.
    #[serde(default)]
    pub text: Option<String>,
}
