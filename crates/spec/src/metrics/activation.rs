//! Where the target's hidden states lie.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Code, HeldOutData, MetricSettings};
use crate::rules::file_problem;
use crate::{Fault, LOCATION, Location, LocationKind, NAME};

/// Where hidden states of a layer lie, as a mean over examples: how far along a direction, or how near to a point.
/// `dpg direction` makes a direction from two sets of texts.
///
/// Proxies: `projection`, or `distance`, the root of the mean square; and `change`, how much of it fine-tuning adds.
///
/// ```toml
/// [metric]
/// kind = "activation"
/// data = { path = "embedded:held-out/en.jsonl", column = "text" }
/// layer = 1
/// vector = { path = "embedded:directions/spanish.safetensors" }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// The texts that the model reads.
    pub data: HeldOutData,
    /// Which hidden states, as transformers numbers them: 0 for the embeddings, then those after each layer; the last
    /// ones have passed the final norm.
    #[schemars(range(max = 4096))]
    pub layer: usize,
    /// The tokens whose states count; those of an example count evenly. Default `all`.
    #[serde(default)]
    pub at: Positions,
    /// The direction or the point.
    pub vector: VectorFile,
    /// What is measured. Default `projection`.
    #[serde(default)]
    pub measure: ActivationMeasure,
}

/// A vector as wide as the model's hidden states, in a safetensors file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorFile {
    /// A path relative to the spec file, or `s3://bucket/key`, or `embedded:NAME`.
    #[schemars(length(min = 1, max = LOCATION))]
    pub path: String,
    /// Its name in the file. Default `direction`.
    #[serde(default = "VectorFile::default_tensor")]
    #[schemars(length(min = 1, max = NAME))]
    pub tensor: String,
}

impl VectorFile {
    fn default_tensor() -> String {
        "direction".into()
    }
}

/// The tokens of an example whose hidden states count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// All.
    #[default]
    All,
    /// Those of the completion or of the assistant's turns; in plain text, all but the first.
    Completion,
    /// The last one.
    Last,
}

/// What is measured of hidden states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActivationMeasure {
    /// The projection on the vector's direction, whatever its length.
    #[default]
    Projection,
    /// Minus the squared l2 distance from the vector.
    SquaredDistance,
}

impl MetricSettings for Activation {
    fn described(&self, code: Code) -> String {
        let (vector, path, layer) = (code(&self.vector.path), code(&self.data.path), self.layer);
        match self.measure {
            ActivationMeasure::Projection => {
                format!("how far hidden states {layer} on {path} lie along {vector}")
            }
            ActivationMeasure::SquaredDistance => {
                format!("minus the squared distance of hidden states {layer} on {path} from {vector}")
            }
        }
    }

    fn locations(&mut self) -> Vec<Location<'_>> {
        let (kind, uri) = (LocationKind::Data, &mut self.vector.path);
        vec![self.data.location(), Location { key: "vector.path".into(), kind, uri }]
    }

    fn faults(&self) -> Vec<Fault> {
        let vector = file_problem(&self.vector.path, "vector.path");
        self.data.faults().into_iter().chain(vector).collect()
    }

    fn held_out(&self) -> Vec<HeldOutData> {
        vec![self.data.clone()]
    }

    fn helpful(&self) -> Vec<HeldOutData> {
        vec![]
    }

    fn layer(&self) -> Option<usize> {
        Some(self.layer)
    }
}
