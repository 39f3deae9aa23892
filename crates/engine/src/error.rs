//! What can stop a run.

#![allow(missing_docs, reason = "a variant's fields are what its message names")]

use std::path::{Path, PathBuf};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model or tokenizer.
    #[error(transparent)]
    Model(#[from] dpg_models::Error),
    /// The generator.
    #[error(transparent)]
    Generator(#[from] dpg_generator::Error),
    /// The problem was loaded without its generator.
    #[error("this needs the generator, and the problem was loaded to score examples alone")]
    NoGenerator,
    /// The metagradient run.
    #[error(transparent)]
    Metagrad(#[from] dpg_metagrad::Error),
    /// The advantages or the update of a step.
    #[error("step {step}")]
    Policy {
        /// The DPG step.
        step: usize,
        source: dpg_policy::Error,
    },
    /// Reading examples or prompts.
    #[error(transparent)]
    Dataset(#[from] dpg_dataset::Error),
    /// An example that cannot be encoded.
    #[error("row {row}")]
    InRow {
        /// Its number, from 1.
        row: usize,
        source: Box<Self>,
    },
    /// A file with such an example.
    #[error("`{}`", path.display())]
    InFile { path: PathBuf, source: Box<Self> },
    /// The spec.
    #[error(transparent)]
    Spec(#[from] dpg_spec::Error),
    /// A key of the spec contradicts a model or a file.
    #[error("`{field}`: {reason}")]
    Setting {
        field: &'static str,
        /// What is wrong, what was expected and what to do.
        reason: String,
    },
    /// Too few rows passed the gates.
    #[error(
        "{kept} of {drawn} drawn rows may be published, and a dataset has two at least ({reasons}); loosen `output.gates` or \
         `output.length`, raise `output.draws`, or see what the generator writes"
    )]
    Refused {
        kept: usize,
        drawn: usize,
        /// What was wrong with how many.
        reasons: String,
    },
    /// The run's state could not be written or read.
    #[error("cannot use the run's state `{}`", path.display())]
    State { path: PathBuf, source: std::io::Error },
    /// The run's state is not what this program writes.
    #[error("the run's state `{}` is damaged ({reason}); delete it to start the run anew", path.display())]
    Damaged {
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The caller asked to stop; the state is on disk.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    pub(crate) fn state(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::State { path, source }
    }

    /// Names a file of a run's state that is not what was expected, and says why.
    pub(crate) fn damaged<E: ToString>(path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_path_buf();
        move |reason| Self::Damaged { path, reason: reason.to_string() }
    }

    /// Says which example failed, counted from 1.
    pub(crate) fn in_row(row: usize) -> impl FnOnce(Self) -> Self {
        move |error| Self::InRow { row, source: Box::new(error) }
    }

    /// Says which step's update failed.
    pub(crate) fn in_step(step: usize) -> impl Fn(dpg_generator::Error) -> Self {
        move |error| match error {
            dpg_generator::Error::Policy(source) => Self::Policy { step, source },
            other => Self::Generator(other),
        }
    }

    pub(crate) fn setting(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Setting { field, reason: reason.into() }
    }

    /// Names the file of the example that failed, if one did.
    #[must_use]
    pub fn in_file(self, path: &Path) -> Self {
        match self {
            Self::InRow { .. } => Self::InFile { path: path.into(), source: Box::new(self) },
            other => other,
        }
    }

    /// Whether it may go better later, as the disk's, a teacher's and a program's errors may; `None` if the cause knows.
    pub fn is_transient(&self) -> Option<bool> {
        match self {
            Self::State { .. } | Self::Damaged { .. } | Self::Metagrad(dpg_metagrad::Error::Spill { .. }) => {
                Some(true)
            }
            Self::Metagrad(dpg_metagrad::Error::Program { source, .. }) => source.is_transient(),
            Self::Generator(error) => error.is_transient().then_some(true),
            _ => None,
        }
    }

    /// True if the caller asked for the stop.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Cancelled
            | Self::Model(dpg_models::Error::Cancelled)
            | Self::Metagrad(dpg_metagrad::Error::Cancelled) => true,
            Self::Generator(error) => error.is_cancelled(),
            _ => false,
        }
    }
}
