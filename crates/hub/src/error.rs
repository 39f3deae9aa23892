//! What can go wrong on the way from a location to a path.

#![allow(missing_docs, reason = "a variant's fields are what its message names")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use dpg_store::Cause;
use reqwest::StatusCode;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A location is not of the form its scheme asks for.
    #[error("`{uri}` is not a location; expected {expected}")]
    Uri {
        /// What was written.
        uri: String,
        expected: &'static str,
    },
    /// There is no embedded model or file of this name.
    #[error("nothing embedded is called `{name}`; there are: {}", known.join(", "))]
    UnknownEmbedded {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A local file or folder is absent.
    #[error("`{}` does not exist (a model on the Hugging Face Hub is written `hf:org/name@rev`)", path.display())]
    NoSuchPath { path: PathBuf },
    /// A file of the cache could not be read or written.
    #[error("cannot access `{}`", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        source: std::io::Error,
    },
    /// The cache lacks files and the network is not to be used.
    #[error(
        "`hf:{repo}@{revision}` is not complete in the cache `{}`, which has no {}; unset `HF_HUB_OFFLINE` \
         to download",
        cache.display(), missing.join(", ")
    )]
    Offline {
        repo: String,
        /// The revision asked for.
        revision: String,
        cache: PathBuf,
        /// Names of the absent files.
        missing: Vec<String>,
    },
    /// The Hub answered with an error.
    #[error("`{file}` of `hf:{repo}@{revision}`: the server answered {status}{}; {hint}", asked(*wait))]
    Status {
        repo: String,
        /// The revision asked for.
        revision: String,
        file: String,
        status: StatusCode,
        /// How long the server asks to be left alone.
        wait: Option<Duration>,
        /// What to do.
        hint: String,
    },
    /// The Hub could not be reached, or broke off.
    #[error(
        "`{file}` of `hf:{repo}@{revision}` did not get through; it goes on where it stopped if repeated"
    )]
    Transfer {
        repo: String,
        /// The revision asked for.
        revision: String,
        file: String,
        source: reqwest::Error,
    },
    /// A downloaded file is not the one that was announced.
    #[error(
        "`{file}` of `{uri}` is corrupt: {found}, expected {expected}; it was removed, download it again"
    )]
    Corrupt {
        uri: String,
        file: String,
        /// Its size or hash.
        found: String,
        /// The announced size or hash.
        expected: String,
        /// Part of it came from an earlier attempt.
        resumed: bool,
    },
    /// A server's answer or a downloaded file cannot be understood.
    #[error("`{file}` of `{uri}`: {reason}")]
    Malformed {
        uri: String,
        file: String,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// A location has no weights in safetensors form.
    #[error(
        "`{uri}` has neither `model.safetensors` nor `model.safetensors.index.json`; convert its weights to \
         safetensors"
    )]
    NoWeights { uri: String },
    /// There is neither an object nor a model folder at an S3 location.
    #[error("`{uri}` is neither an object nor a folder with model files")]
    EmptyPrefix { uri: String },
    /// Nobody may write to the Hub without a token.
    #[error("`hf:{repo}` is written to with a token; set `HF_TOKEN` to one that may write there")]
    NoToken { repo: String },
    /// A repository has other files than those that are pushed to it.
    #[error(
        "`hf:{repo}@{branch}` has files that are not those of this version: {}; push to another repository, or add \
         --overwrite to replace and remove them",
        some(files)
    )]
    Overwrites {
        repo: String,
        branch: String,
        /// Their paths.
        files: Vec<String>,
    },
    /// Somebody else committed meanwhile.
    #[error(
        "`hf:{repo}@{branch}` has got another commit meanwhile, and nothing was replaced; look at it and repeat"
    )]
    Moved { repo: String, branch: String },
    /// S3 refused or failed.
    #[error("cannot read `{uri}`")]
    S3 { uri: String, source: Cause },
}

impl Error {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                status.is_server_error()
                    || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(status)
            }
            Self::Transfer { source, .. } => !source.is_builder(),
            Self::Corrupt { resumed, .. } => *resumed,
            Self::S3 { source, .. } => source.is_transient(),
            _ => false,
        }
    }

    pub(crate) fn s3(uri: &str, source: Cause) -> Self {
        Self::S3 { uri: uri.into(), source }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

fn asked(wait: Option<Duration>) -> String {
    wait.map(|wait| format!(", and asks to wait {} s", wait.as_secs())).unwrap_or_default()
}

/// The first of some names.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(SHOWN);
    shown.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
}
