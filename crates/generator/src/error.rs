//! What can go wrong with a generator.

#![allow(missing_docs, reason = "a variant's fields are what its message names")]

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

    /// True if the caller asked for the stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Model(dpg_models::Error::Cancelled))
    }
}
