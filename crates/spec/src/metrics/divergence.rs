//! How near the target stays to another model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Code, HeldOutData, MetricSettings};
use crate::rules::model_problem;
use crate::{Fault, LOCATION, Location, LocationKind};

/// Minus how far the target's predictions are from a reference model's: the divergence `KL(target || reference)` in
/// nats, a mean over examples of the mean over an example's scored tokens. With a negative weight in a `sum` the
/// target moves away from the reference.
///
/// Proxies: `divergence`, and `worst`, that of the example with the largest.
///
/// ```toml
/// [metric]
/// kind = "divergence"
/// data = { path = "embedded:held-out/en.jsonl", column = "text" }
/// reference = "embedded:fluency"
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Divergence {
    /// The texts that predictions are made in.
    pub data: HeldOutData,
    /// A model with the target's tokens, written as `target.model` is. Default: the untrained target.
    #[schemars(length(min = 1, max = LOCATION))]
    pub reference: Option<String>,
}

impl MetricSettings for Divergence {
    fn described(&self, code: Code) -> String {
        let reference = self.reference.as_ref().map_or("the untrained target".into(), |uri| code(uri));
        format!("minus the divergence from {reference} on {}", code(&self.data.path))
    }

    fn locations(&mut self) -> Vec<Location<'_>> {
        let model = self.reference.as_mut();
        let model = model.map(|uri| Location { key: "reference".into(), kind: LocationKind::Model, uri });
        std::iter::once(self.data.location()).chain(model).collect()
    }

    fn faults(&self) -> Vec<Fault> {
        let model = self.reference.as_ref().and_then(|model| model_problem(model, "reference"));
        self.data.faults().into_iter().chain(model).collect()
    }

    fn held_out(&self) -> Vec<HeldOutData> {
        vec![self.data.clone()]
    }

    fn helpful(&self) -> Vec<HeldOutData> {
        vec![]
    }
}
