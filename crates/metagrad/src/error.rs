//! What can go wrong in a metagradient run.

#![allow(missing_docs, reason = "a variant's fields are what its message names")]

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

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
    /// A program that measures did not do so.
    #[error("the program `{program}` failed")]
    Program { program: String, source: ProgramFailure },
    /// A file for the model of a program could not be written.
    #[error("cannot make a folder for the program `{program}` in `{}`", scratch.display())]
    Handing { program: String, scratch: PathBuf, source: io::Error },
    /// A checkpoint of the inner run could not be written or read.
    #[error("cannot use the spill file `{}`", path.display())]
    Spill { path: PathBuf, source: io::Error },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// What is wrong with a program that measures. `said` are the last lines that it wrote to standard error.
#[derive(Debug, thiserror::Error)]
pub enum ProgramFailure {
    /// There is no shell, or the system has no room for one more process.
    #[error("it cannot be started")]
    Start(#[source] io::Error),
    /// It ended.
    #[error("it ended, {status}, without an answer{}", shown(said))]
    Ended { status: ExitStatus, said: Vec<String> },
    /// It took too long.
    #[error(
        "it did not answer within {seconds} seconds and was ended; raise the metric's `timeout_seconds`, or see what it \
         waits for{}",
        shown(said)
    )]
    Silent { seconds: u64, said: Vec<String> },
    /// It said that it cannot measure, or what is not an answer.
    #[error("{reason}{}", shown(said))]
    Answer { reason: String, said: Vec<String> },
}

impl ProgramFailure {
    /// Whether another attempt may do better: something else ended the program, or it took too long. `None` if the
    /// cause knows.
    pub fn is_transient(&self) -> Option<bool> {
        // of a program that a signal ended, a shell says so with its own status
        const SIGNALS: i32 = 128;
        match self {
            Self::Start(_) => None,
            Self::Ended { status, .. } => Some(status.code().is_none_or(|code| code > SIGNALS)),
            Self::Silent { .. } => Some(true),
            Self::Answer { .. } => Some(false),
        }
    }
}

fn shown(said: &[String]) -> String {
    let lines = said.iter().map(|line| format!("\n    {line}"));
    if said.is_empty() {
        String::new()
    } else {
        format!("; last on its standard error:{}", lines.collect::<String>())
    }
}
