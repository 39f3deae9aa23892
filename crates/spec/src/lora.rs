//! LoRA: small matrices that are trained in the place of a model's weights.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{LARGEST, NAME};

/// LoRA adapters as peft's `LoraConfig` has them: the model's weights stay as they are, and `alpha / rank B A` is
/// trained beside the weight of each target layer. There is no dropout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lora {
    /// Rows of A and columns of B, peft's `r`. Default 8.
    #[schemars(range(min = 1, max = 4096))]
    pub rank: usize,
    /// The product of A and B counts `alpha / rank`, peft's `lora_alpha`. Default 8.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = LARGEST))]
    pub alpha: f64,
    /// Linear layers by the ends of their names, as in `["q_proj", "v_proj"]`, or `all-linear`. Default peft's:
    /// `c_attn` of GPT-2, `q_proj` and `v_proj` of Llama and Qwen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<LoraTargets>,
}

impl Default for Lora {
    fn default() -> Self {
        Self { rank: 8, alpha: 8.0, targets: None }
    }
}

/// The layers that have adapters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LoraTargets {
    /// Every linear layer but the head.
    All(AllLinear),
    /// Those whose names end so.
    Named(#[schemars(length(min = 1, max = 4096), inner(length(min = 1, max = NAME)))] Vec<String>),
}

/// The word for every linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AllLinear {
    /// Every linear layer but the head, as peft's word of that name has it.
    AllLinear,
}
