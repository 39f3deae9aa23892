//! How the generator is trained: GRPO with per-example rewards.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{LARGEST, MOST_ROLLOUTS, MOST_STEPS, NAME, goal::Goal, optimizers::decay_rates};

/// Settings of the generator's training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Updates of the generator; 0 draws the dataset from the generator as it is. Default 120.
    #[schemars(range(max = MOST_STEPS))]
    pub steps: usize,
    /// Prompts drawn at each step. Default 256.
    #[schemars(range(min = 1, max = MOST_ROLLOUTS))]
    pub prompts_per_step: usize,
    /// Rollouts of each prompt. Default 4.
    #[schemars(range(min = 1, max = MOST_ROLLOUTS))]
    pub group_size: usize,
    /// What a rollout is rewarded with. Default `metagradient`.
    pub reward: Reward,
    /// The rollouts of a step make so many datasets, each fine-tuning a target of its own. Default 1.
    #[schemars(range(min = 1, max = MOST_ROLLOUTS))]
    pub datasets_per_step: usize,
    /// `false` makes each prompt's rollouts a dataset of their own. Default true.
    pub cross_group_batching: bool,
    /// How rewards become advantages. Default `group`.
    pub advantage: Advantage,
    /// Advantages are cut to this size after normalisation; 0 for no bound. Default 0.
    #[schemars(range(min = 0, max = LARGEST))]
    pub advantage_clip: f64,
    /// What a rollout loses that one of `output.gates` refuses, in standard deviations of the step's rewards. Default 0.
    // a daemon that does not know the key runs a spec without it
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = LARGEST))]
    pub refusal_penalty: f64,
    /// Step size of the generator's AdamW. Default 5e-6.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = LARGEST))]
    pub learning_rate: f64,
    /// Decay rates of its moments. Default [0.9, 0.95].
    #[schemars(schema_with = "decay_rates")]
    pub betas: [f64; 2],
    /// Its decoupled weight decay. Default 0.
    #[schemars(range(min = 0, max = LARGEST))]
    pub weight_decay: f64,
    /// Prompts per minibatch; one optimizer step each, one pass over the rollouts. Default: all.
    #[schemars(range(min = 1, max = MOST_ROLLOUTS))]
    pub minibatch_prompts: Option<usize>,
    /// Bound of the probability ratio: [1 - clip, 1 + clip]. Default 0.2.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = LARGEST))]
    pub clip: f64,
    /// Factor of the KL divergence to the initial generator. Default 0.
    #[schemars(range(min = 0, max = LARGEST))]
    pub kl: f64,
    /// Factor of the entropy bonus. Default 0.
    #[schemars(range(min = 0, max = LARGEST))]
    pub entropy: f64,
    /// Gradients of a larger l2 norm are scaled down to it; 0 for no bound. Default 1.
    #[schemars(range(min = 0, max = LARGEST))]
    pub max_grad_norm: f64,
    /// Validate every so many steps, and at the start and the end; 0 for those two alone. Default 10.
    #[schemars(range(max = MOST_STEPS))]
    pub validate_every: usize,
    /// Fresh examples of a validation. Default: as many as a step draws.
    #[schemars(range(min = 1, max = MOST_ROLLOUTS))]
    pub validation_examples: Option<usize>,
    /// Stop early once a validation reaches this: `pixel_accuracy >= 1.0`, `spa >= 0.9`,
    /// `perplexity < 8`. What can be named is what validations print. Default unset.
    #[schemars(length(max = NAME))]
    pub stop_when: Option<String>,
    /// In a daemon: start from the generator that the dataset's latest version ended with, if it was
    /// made by a job that says so too and starts from the same model. Default false.
    pub warm_start: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            steps: 120,
            prompts_per_step: 256,
            group_size: 4,
            reward: Reward::Metagradient,
            datasets_per_step: 1,
            cross_group_batching: true,
            advantage: Advantage::Group,
            advantage_clip: 0.0,
            refusal_penalty: 0.0,
            learning_rate: 5e-6,
            betas: [0.9, 0.95],
            weight_decay: 0.0,
            minibatch_prompts: None,
            clip: 0.2,
            kl: 0.0,
            entropy: 0.0,
            max_grad_norm: 1.0,
            validate_every: 10,
            validation_examples: None,
            stop_when: None,
            warm_start: false,
        }
    }
}

impl Policy {
    /// What the run stops at, if it is to stop early.
    pub fn goal(&self) -> Option<Goal> {
        self.stop_when.as_ref().and_then(|goal| goal.parse().ok())
    }

    /// Rollouts of a step.
    pub fn rollouts(&self) -> usize {
        self.prompts_per_step * self.group_size
    }

    /// Generations of a validation, the likeliest completion apart.
    pub fn validated(&self) -> usize {
        self.validation_examples.unwrap_or(self.rollouts())
    }

    /// Validations of a run that does not stop early.
    pub fn validations(&self) -> usize {
        match self.steps {
            0 => 1,
            steps => 2 + (steps - 1).checked_div(self.validate_every).unwrap_or(0),
        }
    }
}

/// What a rollout is rewarded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reward {
    /// The derivative of the metric after fine-tuning with respect to the example's weight.
    Metagradient,
    /// The metric after fine-tuning on the dataset that the example is in, the same for all of them
    /// (the paper's naive policy gradient). It takes `datasets_per_step` above 1.
    DatasetMetric,
    /// Edit similarity, from 0 to 1, to the nearest text of a held-out metric.
    Levenshtein,
    /// Cosine of the target's mean-pooled hidden states with those of a held-out metric's texts.
    Embedding,
    /// Confidence, from -1 to 1, that the text is in the language of a held-out metric's texts.
    LanguageId,
}

/// How rewards become advantages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Advantage {
    /// Minus the group's mean, over the group's standard deviation (GRPO).
    Group,
    /// Minus the group's mean, over the standard deviation of all rewards of the step.
    GroupMean,
    /// Minus the mean, over the standard deviation, of all rewards of the step.
    Global,
}
