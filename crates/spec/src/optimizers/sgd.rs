//! Gradient descent.

use std::fmt::{Display, Formatter, Result};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Settings, brief};
use crate::LARGEST;

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

impl Settings for Sgd {
    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }
}

impl Display for Sgd {
    fn fmt(&self, f: &mut Formatter) -> Result {
        let decay = brief(self.weight_decay);
        write!(f, "SGD, learning rate {:e}, weight decay {decay}", self.learning_rate)
    }
}
