//! A metric to raise, and metrics not to lose.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Code, Metric, MetricSettings, Part};
use crate::{Fault, LARGEST, Location};

/// A metric to raise while others are kept: each may fall below what the untrained target has by its tolerance, and
/// beyond that it counts against the metric, `strength` times. Here Spanish without losing English.
///
/// Proxies: `raise` and `keep_0`, `keep_1` and so on with the metrics' own; `lost_0` and so on, how far each kept
/// metric fell; and `kept`, the share of them that fell by no more than their tolerance.
///
/// ```toml
/// [metric]
/// kind = "guard"
/// raise = { kind = "held_out_loss", data = { path = "embedded:held-out/es.jsonl", column = "text" } }
///
/// [[metric.keep]]
/// tolerance = 0.01
/// metric = { kind = "held_out_loss", data = { path = "embedded:held-out/en.jsonl", column = "text" } }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// The metric to raise.
    pub raise: Box<Metric>,
    /// The metrics not to lose, at least one.
    #[schemars(length(min = 1, max = 64))]
    pub keep: Vec<Kept>,
    /// What a loss beyond its tolerance counts for, times what `raise` does. Default 10.
    #[serde(default = "Guard::default_strength")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = LARGEST))]
    pub strength: f64,
}

/// A metric not to lose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// How far it may fall below what the untrained target has.
    #[schemars(range(min = 0, max = LARGEST))]
    pub tolerance: f64,
    /// The metric.
    pub metric: Metric,
}

impl Guard {
    fn default_strength() -> f64 {
        10.0
    }
}

impl MetricSettings for Guard {
    fn described(&self, code: Code) -> String {
        let kept = self.keep.iter().map(|kept| {
            format!("{} falls by at most {}", kept.metric.settings().described(code), kept.tolerance)
        });
        let raise = self.raise.settings().described(code);
        format!("{raise}, while {}", kept.collect::<Vec<_>>().join(" and "))
    }

    fn locations(&mut self) -> Vec<Location<'_>> {
        let kept = self.keep.iter_mut().enumerate();
        let kept = kept.flat_map(|(index, kept)| kept.metric.locations_below(&key(index)));
        self.raise.locations_below("raise").into_iter().chain(kept).collect()
    }

    fn faults(&self) -> Vec<Fault> {
        self.parts().iter().flat_map(|part| part.metric.faults_below(&part.key)).collect()
    }

    fn parts(&self) -> Vec<Part<'_>> {
        let raise = Part { key: "raise".into(), weight: 1.0, metric: &self.raise };
        // of what is kept, as much as there was is enough
        let kept = self.keep.iter().enumerate();
        let kept = kept.map(|(index, kept)| Part { key: key(index), weight: 0.0, metric: &kept.metric });
        std::iter::once(raise).chain(kept).collect()
    }
}

fn key(index: usize) -> String {
    format!("keep[{index}].metric")
}
