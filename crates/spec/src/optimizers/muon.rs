//! Muon.

use std::fmt::{Display, Formatter, Result};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AdamW, Optimizer, Settings, adamw::decay_rates, brief};
use crate::LARGEST;

/// Muon for the weights of linear layers, AdamW with the same learning rate and weight decay for the rest:
/// embeddings, head, norms and biases. A step of a matrix is scaled by 0.2 sqrt(its longer side), so that it is as long
/// as AdamW's; that is `torch.optim.Muon(adjust_lr_fn="match_rms_adamw")`, in the precision of the run.
///
/// ```toml
/// optimizer = { kind = "muon", learning_rate = 1e-3 }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Muon {
    /// Step size. Default 1e-3.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = LARGEST))]
    pub learning_rate: f64,
    /// What is kept of the momentum in a step, which is Nesterov's. Default 0.95.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub momentum: f64,
    /// Decoupled weight decay. Default 0.1.
    #[schemars(range(min = 0, max = LARGEST))]
    pub weight_decay: f64,
    /// Decay rates of AdamW's first and second moment. Default [0.9, 0.95].
    #[schemars(schema_with = "decay_rates")]
    pub betas: [f64; 2],
    /// Added to AdamW's root. Default 1e-8.
    #[schemars(range(min = 0, max = LARGEST))]
    pub eps: f64,
    /// Added under AdamW's root, so that its step is differentiable at g = 0. Default 1e-9.
    #[schemars(range(min = 0, max = LARGEST))]
    pub eps_root: f64,
}

impl Default for Muon {
    fn default() -> Self {
        let AdamW { betas, eps, eps_root, .. } = AdamW::default();
        Self { learning_rate: 1e-3, momentum: 0.95, weight_decay: 0.1, betas, eps, eps_root }
    }
}

impl Muon {
    /// What moves all that is not the weight of a linear layer.
    pub fn rest(&self) -> AdamW {
        let Self { learning_rate, weight_decay, betas, eps, eps_root, .. } = *self;
        AdamW { learning_rate, betas, eps, eps_root, weight_decay }
    }
}

impl Settings for Muon {
    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn without_eps_root(&self) -> Option<Optimizer> {
        (self.eps_root > 0.0).then_some(Optimizer::Muon(Self { eps_root: 0.0, ..*self }))
    }

    fn fault(&self) -> Option<(&'static str, &'static str)> {
        self.rest().fault()
    }
}

impl Display for Muon {
    fn fmt(&self, f: &mut Formatter) -> Result {
        let (momentum, decay) = (self.momentum, brief(self.weight_decay));
        write!(f, "Muon, learning rate {:e}, momentum {momentum}, weight decay {decay}", self.learning_rate)?;
        f.write_str(", as `torch.optim.Muon(adjust_lr_fn=\"match_rms_adamw\")`, for linear layers")?;
        let (betas, eps, eps_root) = (self.betas, brief(self.eps), brief(self.eps_root));
        write!(f, "; AdamW for the rest, betas {betas:?}, eps {eps}, eps_root {eps_root}")
    }
}
