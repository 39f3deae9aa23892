//! Why a version is not offered any more, or never was.

use std::fmt;

use serde::Serialize;

/// Why `latest` passes over a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "reason", rename_all = "snake_case")]
pub enum Withdrawal {
    /// Somebody took it back, for this reason.
    Yanked(String),
    /// It was tried out before it was published and is not better than its controls: what failed.
    Failed(String),
    /// The version before it is better: both figures.
    Outdone(String),
    /// It made room for newer ones.
    Retired,
}

impl fmt::Display for Withdrawal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yanked(reason) | Self::Failed(reason) | Self::Outdone(reason) => f.write_str(reason),
            Self::Retired => f.write_str("retired"),
        }
    }
}
