//! What can go wrong in an update.

#![allow(missing_docs, reason = "a variant's fields are what its message names")]

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model refused.
    #[error(transparent)]
    Model(#[from] dpg_models::Error),
    /// A reward is NaN or infinite.
    #[error(
        "the reward of rollout {index} is {value}: lower the learning rate of `target.sft.optimizer` or raise its `eps_root`"
    )]
    RewardNotFinite {
        /// Position of the rollout in the step.
        index: usize,
        value: f64,
    },
    /// The rewards tell no rollout from another.
    #[error(
        "all {count} rewards of the step are equal ({value:e}): the generator may have collapsed to one output, or the \
         metric does not depend on the examples; raise `generator.temperature` or `policy.entropy`, lower \
         `policy.learning_rate`, or run `dpg plan --signal`"
    )]
    NoSignal {
        /// How many rewards.
        count: usize,
        /// Their common value.
        value: f64,
    },
    /// The sampler and the training forward disagree.
    #[error(
        "sampled log-probabilities differ from the training forward by {gap:e}, over the tolerance {tolerance:e}"
    )]
    LogProbGap {
        /// Largest absolute difference.
        gap: f64,
        /// What was allowed.
        tolerance: f64,
    },
    /// The update made the generator useless.
    #[error("the policy diverged: {what}; lower `policy.learning_rate` or `policy.max_grad_norm`")]
    Diverged {
        /// What shows it.
        what: String,
    },
}
