//! What a run tells while it runs, and keeps as its history.

use std::collections::BTreeMap;

use dpg_generator::{Account, Chance, Completion};
use dpg_metagrad::{Score, metrics::Decoded};
use dpg_policy::{UpdateStats, mean_and_deviation};
use serde::{Deserialize, Serialize};

use crate::{LengthRecord, Signal};

/// One thing that happened.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "most events are steps")]
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
    /// What the run may spend has room for its dataset and not for another step.
    Spent {
        /// The steps made.
        step: usize,
    },
    /// The final dataset is being drawn and scored.
    Drawing {
        /// Rows asked for.
        examples: usize,
    },
    /// Rows of the dataset were refused, and others drawn in their place.
    Refused {
        /// Rows drawn.
        drawn: usize,
        /// Those that are published.
        kept: usize,
        /// The others, by what was wrong with them.
        refused: BTreeMap<String, usize>,
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
    /// Mean tokens of a completion, if somebody counts them.
    pub length: Option<f64>,
    /// The generator's update. Of a teacher with arms, entropy and KL are those of the choice among them.
    pub update: UpdateStats,
    /// The teacher's arms as they were drawn, before the update; none if it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arms: Vec<ArmRecord>,
    /// Rollouts that the dataset's gates would refuse, by what is wrong with them, if that is a loss.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, usize>,
    /// The classes of `output.length`; none if it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lengths: Vec<LengthRecord>,
    /// What the step's rollouts took, if somebody counts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// What all that the run has drawn so far took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Account>,
}

/// An arm of a teacher in a draw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmRecord {
    /// Its name.
    pub name: String,
    /// Its probability when it was drawn.
    pub probability: f64,
    /// Rows that it wrote.
    pub rows: usize,
    /// Their mean reward, if there are any.
    pub reward: Option<f64>,
}

impl ArmRecord {
    /// The arms of a draw's completions with these rewards; `chances` are what they were drawn by.
    pub(crate) fn of(chances: Vec<Chance>, completions: &[Completion], rewards: &[f64]) -> Vec<Self> {
        let arm = |(number, Chance { name, probability }): (usize, Chance)| {
            let is_its =
                |completion: &Completion| completion.asked.as_ref().is_some_and(|asked| asked.arm == number);
            let rewards = completions.iter().zip(rewards).filter(|(completion, _)| is_its(completion));
            let rewards: Vec<f64> = rewards.map(|(_, reward)| *reward).collect();
            let reward = (!rewards.is_empty()).then(|| mean_and_deviation(&rewards).0);
            Self { name, probability, rows: rewards.len(), reward }
        };
        chances.into_iter().enumerate().map(arm).collect()
    }
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
