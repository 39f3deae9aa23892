//! The metrics: differentiable functions of the fine-tuned weights, higher is better.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{LARGEST, LOCATION, MOST_ROWS, MOST_TOKENS, NAME};

/// A differentiable metric Phi of the fine-tuned target, higher is better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each kind's own type says what it is")]
pub enum Metric {
    WeightPattern(WeightPattern),
    WeightNorm(WeightNorm),
    HeldOutLoss(HeldOut),
    Sum(Sum),
}

/// A bitmap, QR code or image in the signs of a parameter's change, drawn as PNG into the published version.
///
/// `-mean softplus(-strength * S * (W - W0))` over a patch of one parameter, S in {-1, +1} the
/// bitmap: +1 where it is set (paper, section 4).
///
/// ```toml
/// [metric]
/// kind = "weight_pattern"
/// pattern = { qr = "dpg" }         # or a name, "67", or { image = "file.png" }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightPattern {
    /// The picture to be drawn.
    pub pattern: Bitmap,
    /// Slope of the soft-plus. Default 20.
    #[serde(default = "WeightPattern::default_strength")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = LARGEST))]
    pub strength: f64,
    /// `lm_head` in `[hidden, vocab]` orientation, tied or not, or a 2-D parameter by its Hugging
    /// Face name in its stored orientation. Default `lm_head`.
    #[serde(default = "NamedParameter::lm_head")]
    pub parameter: NamedParameter,
    /// First row of the patch. Default 0.
    #[serde(default)]
    #[schemars(range(max = 1_u64 << 32))]
    pub rows: usize,
    /// First column of the patch. Default 0.
    #[serde(default)]
    #[schemars(range(max = 1_u64 << 32))]
    pub columns: usize,
}

impl WeightPattern {
    fn default_strength() -> f64 {
        20.0
    }
}

/// A black-and-white picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum Bitmap {
    /// One that the program knows by name: `67`.
    Named(#[schemars(length(max = NAME))] String),
    /// A QR code of a text, error correction level L unless it fits a higher one at the same size.
    Qr {
        /// The text; the largest code holds 2953 bytes.
        #[schemars(length(min = 1, max = 2953))]
        qr: String,
    },
    /// A PNG file; dark pixels are set. The path is relative to the spec file.
    Image {
        /// The file.
        #[schemars(length(min = 1, max = LOCATION))]
        image: String,
    },
}

/// A parameter by its Hugging Face name, or `lm_head`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct NamedParameter(#[schemars(length(min = 1, max = NAME))] pub String);

impl NamedParameter {
    /// The language-model head.
    pub fn lm_head() -> Self {
        Self("lm_head".into())
    }
}

/// Minus the l2 norm of parameters: `-||W||`.
///
/// ```toml
/// [metric]
/// kind = "weight_norm"
/// parameter = "lm_head"
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightNorm {
    /// `lm_head`, a Hugging Face name, or a list of names taken as one vector. Default `lm_head`.
    #[serde(default)]
    pub parameter: Parameters,
}

/// One parameter or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Parameters {
    /// One by name.
    One(NamedParameter),
    /// Several, as one vector.
    Many(#[schemars(length(min = 1, max = 4096))] Vec<NamedParameter>),
}

impl Default for Parameters {
    fn default() -> Self {
        Self::One(NamedParameter::lm_head())
    }
}

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

/// A weighted sum of metrics: here as low a norm as can be had for Spanish.
///
/// ```toml
/// [metric]
/// kind = "sum"
///
/// [[metric.terms]]
/// weight = 1.0
/// metric = { kind = "held_out_loss", data = { path = "embedded:held-out/es.jsonl", column = "text" } }
///
/// [[metric.terms]]
/// weight = 0.01
/// metric = { kind = "weight_norm" }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sum {
    /// The terms, at least one.
    #[schemars(length(min = 1, max = 64))]
    pub terms: Vec<SumTerm>,
}

/// One term of a sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SumTerm {
    /// Its factor. Negative to move a metric down.
    #[schemars(range(min = -LARGEST, max = LARGEST))]
    pub weight: f64,
    /// The metric.
    pub metric: Metric,
}
