//! What can go wrong in a metagradient run.

#![allow(missing_docs, reason = "a variant's fields are what its message names")]

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model refused.
    #[error(transparent)]
    Model(#[from] dpg_models::Error),
    /// A number became NaN or infinite; nothing derived from it would mean anything.
    #[error("{what} is not finite{}: lower the learning rate of `target.sft.optimizer` or raise its `eps_root`",
        step.map(|step| format!(" at inner step {step}")).unwrap_or_default())]
    NotFinite {
        /// Which number.
        what: &'static str,
        /// The inner step it was met at.
        step: Option<usize>,
    },
    /// There is nothing to train on.
    #[error("the dataset has no examples")]
    NoExamples,
    /// The learning rate never leaves 0.
    #[error(
        "the learning rate is 0 in all {steps} steps of the run: lower `target.sft.warmup_steps` or \
         `target.sft.warmup_ratio`, or make more steps of the data with a smaller `target.sft.batch_size`"
    )]
    NoRate {
        /// Steps of the run.
        steps: usize,
    },
    /// An example has no token whose prediction could be scored.
    #[error("example {index} has no scored token: it needs at least two tokens, or a completion")]
    NothingScored {
        /// Its position in the dataset.
        index: usize,
    },
    /// A patch or picture does not fit.
    #[error("metric.{field}: {reason}")]
    Metric {
        /// The key of the spec.
        field: &'static str,
        /// What is wrong, what was expected and what to do.
        reason: String,
    },
    /// A checkpoint of the inner run could not be written or read.
    #[error("cannot use the spill file `{}`", path.display())]
    Spill { path: PathBuf, source: std::io::Error },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}
