//! How open the target is in what it says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Code, HeldOutData, MetricSettings};
use crate::{Fault, Location};

/// How open the target is: the entropy of its predictions in nats, a mean over examples of the mean over an
/// example's scored tokens. With a negative weight in a `sum` the target becomes sure.
///
/// Proxies: `entropy`, and `effective_tokens`, its exponential: among so many tokens an even choice is as open.
///
/// ```toml
/// [metric]
/// kind = "output_entropy"
/// data = { path = "embedded:held-out/en.jsonl", column = "text" }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputEntropy {
    /// The texts that predictions are made in.
    pub data: HeldOutData,
}

impl MetricSettings for OutputEntropy {
    fn described(&self, code: Code) -> String {
        format!("the entropy of predictions on {}", code(&self.data.path))
    }

    fn locations(&mut self) -> Vec<Location<'_>> {
        vec![self.data.location()]
    }

    fn faults(&self) -> Vec<Fault> {
        self.data.faults()
    }

    fn held_out(&self) -> Vec<HeldOutData> {
        vec![self.data.clone()]
    }

    fn helpful(&self) -> Vec<HeldOutData> {
        vec![]
    }
}
