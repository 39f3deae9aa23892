//! What a run tells while it runs, and keeps as its history.

use dpg_metagrad::{Score, metrics::Decoded};
use dpg_policy::UpdateStats;
use serde::{Deserialize, Serialize};

use crate::Signal;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The run starts at this step, above 0 if it resumes.
    Started {
        /// The next step.
        step: usize,
        /// Steps in all.
        steps: usize,
    },
    /// The first step's rewards have been checked.
    Signal(Signal),
    /// A step is done and its state on disk.
    Step(StepRecord),
    /// A validation is done.
    Validation(ValidationRecord),
    /// The final dataset is being drawn and scored.
    Drawing {
        /// Rows asked for.
        examples: usize,
    },
    /// The dataset is being tried out before it is published.
    Verifying {
        /// Data orders of each arm.
        orders: usize,
    },
}

/// One DPG step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its number, from 0.
    pub step: usize,
    /// The metric after fine-tuning on this step's rollouts.
    pub score: Score,
    /// Mean reward.
    pub reward_mean: f64,
    /// Standard deviation of the rewards.
    pub reward_std: f64,
    /// Mean tokens of a completion; 0 if the generator counts none.
    pub length: f64,
    /// The generator's update.
    pub update: UpdateStats,
}

/// One validation: fresh generations from prompts that are never trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// Updates made before it.
    pub step: usize,
    /// The metric after fine-tuning on them.
    pub score: Score,
    /// What can be told of the generations themselves, see [`Outputs`](crate::Outputs).
    pub outputs: Vec<(String, f64)>,
    /// What the generator writes to the first prompt if it always takes the likeliest token.
    #[serde(default)]
    pub greedy: String,
    /// A few of the generations.
    pub samples: Vec<String>,
    /// The patterns that they drew into the target, if the metric has any.
    #[serde(default)]
    pub decoded: Vec<Decoded>,
}

impl ValidationRecord {
    /// What a goal may name, with its value: `phi`, the metric's proxies, and those of the generations.
    pub fn figures(&self) -> Vec<(String, f64)> {
        let phi = ("phi".to_owned(), self.score.value);
        let proxies = self.score.proxies.iter().map(|(name, value)| (name.replace(' ', "_"), *value));
        std::iter::once(phi).chain(proxies).chain(self.outputs.iter().cloned()).collect()
    }
}

/// All records of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The steps.
    pub steps: Vec<StepRecord>,
    /// The validations.
    pub validations: Vec<ValidationRecord>,
}
