//! Minus the norm of parameters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Code, MetricSettings, NamedParameter};

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

impl Parameters {
    /// The parameters, in order.
    pub fn names(&self) -> &[NamedParameter] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }

    /// Their names for people.
    pub(super) fn described(&self, code: Code) -> String {
        match self {
            Self::One(name) => code(&name.0),
            Self::Many(names) => {
                let names: Vec<_> = names.iter().map(|name| code(&name.0)).collect();
                format!("{}, as one vector", names.join(", "))
            }
        }
    }
}

impl MetricSettings for WeightNorm {
    fn described(&self, code: Code) -> String {
        format!("minus the l2 norm of {}", self.parameter.described(code))
    }
}
