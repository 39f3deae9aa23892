//! What can go wrong with a generator.

#![allow(missing_docs, reason = "a variant's fields are what its message names")]

use std::io;
use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model or tokenizer.
    #[error(transparent)]
    Model(#[from] dpg_models::Error),
    /// The update.
    #[error(transparent)]
    Policy(#[from] dpg_policy::Error),
    /// A key of the spec contradicts a model or a prompt.
    #[error("`{field}`: {reason}")]
    Setting {
        field: &'static str,
        /// What is wrong, what was expected and what to do.
        reason: String,
    },
    /// What was saved is not what this generator saves.
    #[error("{reason}")]
    Saved {
        /// What is wrong.
        reason: String,
    },
    /// A teacher did not answer as it should.
    #[error("the teacher `{teacher}` {reason}")]
    Teacher {
        /// Its name.
        teacher: String,
        /// What it did instead.
        reason: String,
        /// Whether it may answer later.
        transient: bool,
    },
    /// What the run may spend is spent.
    #[error("{spent}; what was answered is kept: raise the budget, and the run goes on")]
    Budget {
        /// What was spent, of how much.
        spent: String,
    },
    /// The answers of a teacher cannot be kept.
    #[error("cannot use the answers kept in `{}`", path.display())]
    Answers {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A completion that this generator did not draw.
    #[error("the completion `{text}` was not asked for by this generator")]
    Foreign {
        /// What it says.
        text: String,
    },
    /// There is nothing to export.
    #[error("a teacher behind an API has no weights to export")]
    NoExport,
    /// The generator does not know the tokens of what it is asked or is to learn from.
    #[error("{what} has no token ids; it was not made by this generator")]
    NoTokens {
        /// Which one.
        what: String,
    },
}

impl Error {
    pub(crate) fn setting(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Setting { field, reason: reason.into() }
    }

    /// True if it may go better later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Teacher { transient: true, .. } | Self::Answers { .. })
    }

    /// True if the caller asked for the stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Model(dpg_models::Error::Cancelled))
    }
}
