//! How near the target's weights come to another checkpoint's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Code, MetricSettings, Parameters};
use crate::rules::model_problem;
use crate::{Fault, LOCATION, Location, LocationKind};

/// How near weights come to those of another checkpoint of the same model.
///
/// Proxies: `distance`, the l2 norm of what is left, and `distance_change`, how much of it fine-tuning adds; or
/// `cosine`, and `change`, the l2 norm of the change.
///
/// ```toml
/// [metric]
/// kind = "distance"
/// checkpoint = "embedded:fluency"
/// measure = "cosine"
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Distance {
    /// A model of the target's architecture and sizes, written as `target.model` is.
    #[schemars(length(min = 1, max = LOCATION))]
    pub checkpoint: String,
    /// What is measured. Default `squared_distance`.
    #[serde(default)]
    pub measure: DistanceMeasure,
    /// The checkpoint that a task vector starts from; `cosine` alone has one. Default: the untrained target.
    #[schemars(length(min = 1, max = LOCATION))]
    pub base: Option<String>,
    /// `lm_head`, a Hugging Face name, or a list of names taken as one vector. Default: all parameters.
    pub parameter: Option<Parameters>,
}

/// What is measured of weights and a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DistanceMeasure {
    /// Minus the squared l2 distance of the weights from the checkpoint's.
    #[default]
    SquaredDistance,
    /// The cosine of the weights' change with the task vector, the checkpoint less `base`; 0 before any change.
    Cosine,
}

impl MetricSettings for Distance {
    fn described(&self, code: Code) -> String {
        let checkpoint = code(&self.checkpoint);
        let of = self.parameter.as_ref().map_or("the weights".into(), |parameter| parameter.described(code));
        match (self.measure, &self.base) {
            (DistanceMeasure::SquaredDistance, _) => {
                format!("minus the squared distance of {of} from {checkpoint}")
            }
            (DistanceMeasure::Cosine, base) => {
                let base = base.as_ref().map_or("the untrained target".into(), |base| code(base));
                format!("the cosine of the change of {of} with the way from {base} to {checkpoint}")
            }
        }
    }

    fn locations(&mut self) -> Vec<Location<'_>> {
        let kind = LocationKind::Model;
        let base = self.base.as_mut().map(|uri| Location { key: "base".into(), kind, uri });
        let checkpoint = Location { key: "checkpoint".into(), kind, uri: &mut self.checkpoint };
        std::iter::once(checkpoint).chain(base).collect()
    }

    fn faults(&self) -> Vec<Fault> {
        let base = self.base.as_ref().and_then(|base| model_problem(base, "base"));
        let unused = self.base.is_some() && self.measure == DistanceMeasure::SquaredDistance;
        let unused = unused.then(|| {
            Fault::new("base", "a squared distance has none; remove it, or set `measure` to `cosine`")
        });
        [model_problem(&self.checkpoint, "checkpoint"), base, unused].into_iter().flatten().collect()
    }
}
