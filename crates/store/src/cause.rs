//! What an error of `object_store` comes down to.

use std::error::Error as StdError;
use std::fmt;
use std::iter::successors;

use crate::Refusal;

/// An error of `object_store`, said once.
///
/// Each layer of `object_store` repeats the text of the one below, so this shows the lowest alone, and
/// has no source.
#[derive(Debug)]
pub struct Cause(object_store::Error);

impl Cause {
    /// A cause in these words.
    pub(crate) fn said(reason: String) -> Self {
        Self(object_store::Error::Generic { store: "S3", source: reason.into() })
    }

    /// The cause of a failed write through [`object_store::buffered::BufWriter`].
    pub fn of_write(error: std::io::Error) -> Self {
        match error.downcast() {
            Ok(store) => Self(store),
            Err(error) => Self(object_store::Error::Generic { store: "buffer", source: error.into() }),
        }
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self.0, object_store::Error::NotFound { .. })
    }

    /// Whether the same request may succeed later with nothing else changed.
    pub fn is_transient(&self) -> bool {
        use object_store::Error as Store;
        match self.refusal() {
            Some(refusal) => refusal.is_transient(),
            None => !matches!(
                self.0,
                Store::NotFound { .. }
                    | Store::PermissionDenied { .. }
                    | Store::Unauthenticated { .. }
                    | Store::NotImplemented { .. }
                    | Store::NotSupported { .. }
                    | Store::InvalidPath { .. }
                    | Store::UnknownConfigurationKey { .. }
            ),
        }
    }

    /// The answer of the server, if that is what it is.
    pub fn refusal(&self) -> Option<&Refusal> {
        layers(&self.0).find_map(|layer| layer.downcast_ref())
    }
}

impl From<object_store::Error> for Cause {
    fn from(error: object_store::Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&lowest(&self.0))
    }
}

impl StdError for Cause {}

fn layers<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    successors(Some(error), |&error| error.source())
}

/// The text of the lowest layer of an error.
pub(crate) fn lowest(error: &(dyn StdError + 'static)) -> String {
    layers(error).last().unwrap_or(error).to_string()
}
