//! The optimizers a target can be fine-tuned with.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::LARGEST;

/// An inner optimizer and its settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[expect(missing_docs, reason = "each kind's own type says what it is")]
pub enum Optimizer {
    Adamw(AdamW),
    Sgd(Sgd),
}

impl Default for Optimizer {
    fn default() -> Self {
        Self::Adamw(AdamW::default())
    }
}

/// AdamW with bias correction, decoupled weight decay and `eps_root` inside the square root. The defaults are
/// the paper's.
///
/// ```toml
/// optimizer = { kind = "adamw", learning_rate = 1e-5, eps_root = 1e-8 }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Step size. Default 5e-6.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = LARGEST))]
    pub learning_rate: f64,
    /// Decay rates of the first and second moment. Default [0.9, 0.95].
    #[schemars(schema_with = "decay_rates")]
    pub betas: [f64; 2],
    /// Added to the root. Default 1e-8.
    #[schemars(range(min = 0, max = LARGEST))]
    pub eps: f64,
    /// Added under the root, so that the step is differentiable at g = 0. Default 1e-9.
    #[schemars(range(min = 0, max = LARGEST))]
    pub eps_root: f64,
    /// Decoupled weight decay. Default 1e-4.
    #[schemars(range(min = 0, max = LARGEST))]
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { learning_rate: 5e-6, betas: [0.9, 0.95], eps: 1e-8, eps_root: 1e-9, weight_decay: 1e-4 }
    }
}

/// Gradient descent with decoupled weight decay.
///
/// ```toml
/// optimizer = { kind = "sgd", learning_rate = 1e-3 }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    /// Step size.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = LARGEST))]
    pub learning_rate: f64,
    /// Decoupled weight decay. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = LARGEST))]
    pub weight_decay: f64,
}

/// Two numbers in [0, 1).
pub(crate) fn decay_rates(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": { "type": "number", "minimum": 0, "exclusiveMaximum": 1 },
        "minItems": 2,
        "maxItems": 2,
    })
}
