//! AdamW.

use std::fmt::{Display, Formatter, Result};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{Optimizer, Settings, brief};
use crate::LARGEST;

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

impl Settings for AdamW {
    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn without_eps_root(&self) -> Option<Optimizer> {
        (self.eps_root > 0.0).then_some(Optimizer::Adamw(Self { eps_root: 0.0, ..*self }))
    }

    fn saturates_at(&self) -> Option<f64> {
        Some(self.eps_root.sqrt() + self.eps)
    }

    fn fault(&self) -> Option<(&'static str, &'static str)> {
        (self.eps + self.eps_root == 0.0).then_some((
            "eps",
            "is 0 like `eps_root`: parameters without a gradient are divided by 0; raise one",
        ))
    }
}

impl Display for AdamW {
    fn fmt(&self, f: &mut Formatter) -> Result {
        write!(
            f,
            "AdamW, learning rate {:e}, betas {:?}, eps {}, eps_root {}, weight decay {}",
            self.learning_rate,
            self.betas,
            brief(self.eps),
            brief(self.eps_root),
            brief(self.weight_decay)
        )
    }
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
