//! The optimizers that a target can be fine-tuned with, a file each: settings, rules between them, an
//! example. `dpg-optim` has a file of the same name with the step and its adjoint.

use std::fmt::Display;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Calls `$then!` with every optimizer: its file, here and in `dpg-optim`, its kind, and its settings.
#[macro_export]
macro_rules! optimizers {
    ($then:ident) => {
        $then! {
            adamw: Adamw(AdamW),
            muon: Muon(Muon),
            sgd: Sgd(Sgd),
        }
    };
}

/// What an optimizer's settings say of themselves; `Display` is its name and settings for people.
pub trait Settings: Display {
    /// Decoupled weight decay.
    fn weight_decay(&self) -> f64;

    /// The optimizer as PyTorch has it, without `eps_root`; `None` if it has none.
    fn without_eps_root(&self) -> Option<Optimizer> {
        None
    }

    /// The size of a weight's gradient beyond which its step hardly grows with it, if `eps_root` says so.
    fn saturates_at(&self) -> Option<f64> {
        None
    }

    /// A key whose value does not go with the others, and what to do about it.
    fn fault(&self) -> Option<(&'static str, &'static str)> {
        None
    }
}

/// A small number as people write it.
fn brief(number: f64) -> String {
    if number == 0.0 { "0".into() } else { format!("{number:e}") }
}

macro_rules! declare {
    ($($file:ident: $kind:ident($settings:ident),)*) => {
        $(mod $file; pub use $file::$settings;)*

        /// An optimizer and its settings.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(tag = "kind", rename_all = "lowercase")]
        #[expect(missing_docs, reason = "the settings say what each is, in the schema as well")]
        pub enum Optimizer {
            $($kind($settings),)*
        }

        impl Optimizer {
            /// What is common to the settings of all kinds.
            pub fn settings(&self) -> &dyn Settings {
                match self {
                    $(Self::$kind(settings) => settings,)*
                }
            }
        }
    };
}

optimizers!(declare);

pub(crate) use adamw::decay_rates;

impl Default for Optimizer {
    fn default() -> Self {
        Self::Adamw(AdamW::default())
    }
}

impl Optimizer {
    /// One of every kind: the example that its documentation gives.
    pub fn examples() -> Vec<Self> {
        schema::examples("Optimizer", "optimizer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Spec, Syntax};

    #[test]
    fn every_example_is_valid_in_a_spec() {
        for optimizer in Optimizer::examples() {
            let spec = serde_json::json!({
                "name": "a",
                "target": { "model": "m", "sft": { "optimizer": optimizer } },
                "metric": { "kind": "weight_norm" },
            });
            let spec = Spec::parse(&spec.to_string(), Syntax::Json)
                .unwrap_or_else(|error| panic!("{optimizer:?}: {error}"));
            assert_eq!(spec.target.sft.optimizer, optimizer);
            assert_eq!(optimizer.settings().fault(), None, "{optimizer:?}");
        }
    }
}
