//! A weighted sum of metrics.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Code, Metric, MetricSettings, Part};
use crate::{Fault, LARGEST, Location};

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

impl MetricSettings for Sum {
    fn described(&self, code: Code) -> String {
        let terms = self.terms.iter();
        let terms =
            terms.map(|term| format!("{} x ({})", term.weight, term.metric.settings().described(code)));
        terms.collect::<Vec<_>>().join(" + ")
    }

    fn locations(&mut self) -> Vec<Location<'_>> {
        let terms = self.terms.iter_mut().enumerate();
        terms.flat_map(|(index, term)| term.metric.locations_below(&key(index))).collect()
    }

    fn faults(&self) -> Vec<Fault> {
        self.parts().iter().flat_map(|part| part.metric.faults_below(&part.key)).collect()
    }

    fn parts(&self) -> Vec<Part<'_>> {
        let terms = self.terms.iter().enumerate();
        terms
            .map(|(index, term)| Part { key: key(index), weight: term.weight, metric: &term.metric })
            .collect()
    }
}

fn key(index: usize) -> String {
    format!("terms[{index}].metric")
}
