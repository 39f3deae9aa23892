//! Target specs: what a user submits, as serde types.
//!
//! A spec names a target model and the recipe it will be fine-tuned with ([`Target`]), the metric
//! to move ([`Metric`]), the generator that writes the examples ([`Generator`]), how it is trained
//! ([`Policy`]) and what is published ([`Output`]). Every field says its default; a field without
//! one is required.

mod error;
mod gates;
mod generator;
mod goal;
mod hash;
mod hint;
mod length;
mod load;
mod location;
mod lora;
mod metrics;
mod mix;
mod optimizers;
mod output;
mod policy;
mod prompts;
mod resources;
mod rubric;
mod rules;
mod schedule;
mod schema;
mod sft;
mod syntax;
mod teacher;
#[cfg(test)]
mod tests;

pub use error::{Error, Fault};
pub use gates::*;
pub use generator::{ApiGenerator, ApiKind, Arm, ArmSettings, Budget, Generator, LocalKind};
pub use goal::Goal;
pub use hint::Hint;
pub use length::{Length, LengthClass, SharesOf, Siblings};
pub use location::{Location, LocationKind};
pub use lora::{AllLinear, Lora, LoraTargets};
pub use metrics::*;
pub use mix::{Member, MixGenerator, MixKind};
pub use optimizers::*;
pub use output::{Format, Output, PublishIf, Select, Within};
pub use policy::{Advantage, Policy, Reward};
pub use prompts::{PromptClasses, Prompts};
pub use resources::Resources;
pub use rubric::{RubricGenerator, RubricKind};
pub use schedule::{Schedule, Start};
pub use sft::{DecayOn, Loss, LossOn, LrSchedule, Preset, Sft};
pub use syntax::{Syntax, TEXT_BYTES, distinct};
pub use teacher::{Connection, Price, Teacher};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use prompts::prompts_below;
use syntax::member;

/// Most rollouts of a step or of a validation, and most examples of a batch.
const MOST_ROLLOUTS: usize = 1 << 20;
/// Most rows of a dataset.
const MOST_ROWS: usize = 1 << 24;
/// Most tokens of a sequence.
const MOST_TOKENS: usize = 1 << 20;
/// Most steps of a run, and most passes over a dataset.
const MOST_STEPS: usize = 1 << 20;
/// Most characters of a location.
const LOCATION: usize = 4096;
/// Most characters of a name: of a column, a parameter, a licence.
const NAME: usize = 256;
/// A real number is at most this large, so that f32 holds it.
const LARGEST: f64 = 1e38;

/// A target spec: one dataset to make. Every number, text and list has an upper bound in its schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Name of the dataset: `[a-z0-9][a-z0-9-]{0,62}`.
    #[schemars(length(max = 63), extend("pattern" = "^[a-z0-9][a-z0-9-]{0,62}$"))]
    pub name: String,
    /// One line for people, shown in listings and on the dataset card.
    #[serde(default)]
    #[schemars(length(max = 2000))]
    pub description: String,
    /// Seed of every random choice of the run, below 2^53. Default 0.
    #[serde(default)]
    #[schemars(range(max = 9007199254740991_u64))]
    pub seed: u64,
    /// The model to be changed and the recipe it is fine-tuned with.
    pub target: Target,
    /// What the fine-tuned target is measured by; higher is better.
    pub metric: Metric,
    /// The model that writes the examples. Needed by `run` and `plan`, not by `score` and `audit --data`.
    pub generator: Option<Generator>,
    /// How the generator is trained.
    #[serde(default)]
    pub policy: Policy,
    /// Where numbers of the metric, the target's optimizer and the policy start: each moves linearly
    /// to its own value, `"policy.learning_rate" = 1e-3` over all steps, `"policy.kl" = { from = 0.05,
    /// until = 0.5 }` over half of them. Validations and the dataset see the own values alone.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub schedule: Schedule,
    /// What is published.
    #[serde(default)]
    pub output: Output,
    /// What a worker must have to take the job, as in `{ gpus = 2, gpu_memory = 40 }`. Default unset: any worker
    /// takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// The model to be changed and the recipe it is fine-tuned with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// `embedded:NAME`, a folder, `hf:org/name@rev` or `s3://bucket/prefix`.
    #[schemars(length(min = 1, max = LOCATION))]
    pub model: String,
    /// Train LoRA adapters in the place of its weights, as in `{ rank = 8 }`. Default unset: all weights are trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
    /// The fine-tuning recipe A(D).
    #[serde(default)]
    pub sft: Sft,
}

/// `kind = "local"`, which need not be written: a model on this machine, all of whose weights are trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalGenerator {
    /// `local`, the default.
    // written, it would be another spec for daemons that know no kinds
    #[serde(default, skip_serializing)]
    #[schemars(schema_with = "generator::local_kind")]
    pub kind: LocalKind,
    /// `embedded:NAME`, a folder, `hf:org/name@rev` or `s3://bucket/prefix`.
    #[schemars(length(min = 1, max = LOCATION))]
    pub model: String,
    /// Train LoRA adapters in the place of its weights; `export_generator` then publishes them as peft reads them.
    /// Default unset: all weights are trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
    /// The prompts, one per row. Without it `{text}` stands for nothing.
    pub prompts: Option<Prompts>,
    /// Prompt text around `{text}`, or `chat` for the model's own chat template. Default `{text}`.
    #[serde(default = "LocalGenerator::default_template")]
    #[schemars(length(max = 65536))]
    pub template: String,
    /// Sampling temperature, above 0. Default 1.
    #[serde(default = "LocalGenerator::default_temperature")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = LARGEST))]
    pub temperature: f64,
    /// Fewest new tokens: end-of-sequence is not drawn before. Default 1.
    #[serde(default = "LocalGenerator::default_min_new_tokens")]
    #[schemars(range(max = MOST_TOKENS))]
    pub min_new_tokens: usize,
    /// Most new tokens. Default 128.
    #[serde(default = "LocalGenerator::default_max_new_tokens")]
    #[schemars(range(min = 1, max = MOST_TOKENS))]
    pub max_new_tokens: usize,
    /// What its matrix products are computed in. `tf32` and `bf16` are faster and need a CUDA device;
    /// rewards are computed in `f32` whatever is said here. Default `f32`.
    #[serde(default)]
    pub precision: Precision,
}

/// What the generator's matrix products are computed in; its weights are f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Operands rounded to 11 bits of mantissa.
    Tf32,
    /// Operands rounded to 8 bits of mantissa.
    Bf16,
}

impl LocalGenerator {
    /// The locations below a key, to be read or replaced.
    pub(crate) fn locations_below(&mut self, at: &str) -> Vec<Location<'_>> {
        let model = Location { key: member(at, "model"), kind: LocationKind::Model, uri: &mut self.model };
        [model].into_iter().chain(prompts_below(&mut self.prompts, at)).collect()
    }

    fn default_template() -> String {
        "{text}".into()
    }
    fn default_temperature() -> f64 {
        1.0
    }
    fn default_min_new_tokens() -> usize {
        1
    }
    fn default_max_new_tokens() -> usize {
        128
    }
}
