//! What can go wrong with a registry, said so that a user can mend it.

#![allow(missing_docs, reason = "a variant's fields are what its message names")]

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use dpg_spec::Hint;
use dpg_store::Cause;
use object_store::ObjectStore;
use object_store::path::Path;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with a registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object store refused or failed.
    #[error("cannot {action} `{path}` in {store}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// The object or prefix.
        path: String,
        store: String,
        /// Why not.
        source: Box<Cause>,
    },
    /// No space is left where a file was to be written.
    #[error("no space left for `{path}` in {place}")]
    DiskFull {
        path: String,
        /// The store or folder.
        place: String,
        /// What the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A local file or folder that cannot be used.
    #[error("cannot {action} `{path}`")]
    Local {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An address of a store that is not understood.
    #[error("`{uri}` is not a store: {reason}")]
    BadUri {
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A store that has no conditional puts.
    #[error(
        "{store} has no conditional puts: it refuses to create an object on condition that it is not there \
         (`If-None-Match: *`), and without that two publishers may overwrite each other"
    )]
    NoConditionalPut {
        store: String,
        /// What it said.
        source: Box<Cause>,
    },
    /// A store that lets more than one of several racing creates win.
    #[error(
        "{store} is unsafe to publish to: in round {round} of racing creates of one object {winners} of {racers} \
         won, expected 1"
    )]
    UnsafeStore {
        store: String,
        /// The round, from 1.
        round: usize,
        /// Creates that were told they had won.
        winners: usize,
        /// Creates of a round.
        racers: usize,
    },
    /// A store that let one create win and kept the bytes of another.
    #[error("{store} is unsafe to publish to: it kept other bytes than those of the create that won")]
    UnfaithfulStore { store: String },
    /// A name that cannot stand in a path.
    #[error("{what} `{name}` is not allowed")]
    BadName {
        /// What is named.
        what: &'static str,
        /// The name that was asked for.
        name: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A snapshot without training rows.
    #[error("the snapshot of dataset `{0}` has no rows in split `train`")]
    Empty(String),
    /// A tag that could be mistaken for a version.
    #[error("tag `{0}` is not allowed")]
    BadTag(String),
    /// A dataset that is not there.
    #[error("there is no dataset `{name}`")]
    NoDataset {
        name: String,
        /// The datasets that are there.
        existing: Vec<String>,
    },
    /// A version or tag that is not there.
    #[error("dataset `{name}` has no version `{reference}`")]
    NoVersion {
        name: String,
        /// What was asked for.
        reference: String,
        /// The versions and tags that are there.
        existing: Vec<String>,
    },
    /// A version with more rows than are listed.
    #[error("{version} has {rows} rows, and no more than {most} are listed")]
    TooManyRows {
        version: String,
        /// Its rows.
        rows: usize,
        /// Rows that may be listed.
        most: usize,
    },
    /// A version whose files were given up.
    #[error("{version} was retired at {at} to make room")]
    Retired {
        version: String,
        /// The time of its retirement.
        at: chrono::DateTime<chrono::Utc>,
    },
    /// A log entry that contradicts the log, or is missing.
    #[error("the log of the registry is damaged at `{path}`: {reason}")]
    DamagedLog {
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Files that are not what was published.
    #[error("{version} is damaged: {}", damages.join(", "))]
    Damaged {
        version: String,
        /// Each file and what is wrong with it.
        damages: Vec<String>,
    },
    /// A shard that changed between writing and publishing.
    #[error("`{path}` is no longer what was written (SHA-256 `{found}`, expected `{expected}`)")]
    Changed {
        path: PathBuf,
        /// Its hash now.
        found: String,
        /// Its hash when it was written.
        expected: String,
    },
    /// Files that come under the name of a job whose version has others.
    #[error("job `{job}` is {version} here, with other files")]
    OtherFiles { job: String, version: String },
    /// Other writers took every slot of the log that was tried.
    #[error("dataset `{0}` is written by too many publishers at once")]
    Contended(String),
    /// A folder that holds something else than a fetched dataset.
    #[error("`{folder}` holds `{file}`, which is not part of a fetched dataset")]
    ForeignFile { folder: PathBuf, file: PathBuf },
    /// A signing or verifying key that cannot be read.
    #[error("`{place}` does not hold an Ed25519 key in PEM ({reason})")]
    BadKey {
        /// The key file, or `the public key`.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A record of a verification that no trusted key signed, or that is not about this version.
    #[error("the record of a verification of {version} does not hold: {reason}")]
    BadRecord {
        version: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A provenance that no trusted key signed, or that is not about these files.
    #[error("the provenance of {version} does not hold: {reason}")]
    BadSignature {
        version: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::DiskFull { .. } => "nothing was published or replaced: free some space and repeat",
            Self::BadUri { .. } => "expected a folder, `s3://bucket/prefix` or `memory:`",
            Self::NoConditionalPut { .. } => "use a store that has them, or a local folder",
            Self::UnsafeStore { .. } => "use a store with conditional puts (`If-None-Match: *`)",
            Self::UnfaithfulStore { .. } => "use another store",
            Self::BadName { expected, .. } => return Some(format!("expected {expected}")),
            Self::Empty(_) => "write its shards first",
            Self::BadTag(_) => {
                "expected a letter, then up to 62 letters, digits, `.`, `_` or `-`, and neither `latest` nor `v` \
                 with a number"
            }
            Self::NoDataset { existing, .. } => {
                return Some(listed("there is", "nothing is published yet", existing));
            }
            Self::NoVersion { existing, .. } => {
                return Some(listed("it has", "all its versions are withdrawn", existing));
            }
            Self::TooManyRows { .. } => "fetch its files, and query them with DuckDB or Polars",
            Self::Retired { .. } => "use a newer version",
            Self::DamagedLog { .. } => "restore the object from a backup",
            Self::Damaged { .. } => "restore the files from a backup or fetch another version",
            Self::Changed { .. } => "run the job again",
            Self::OtherFiles { .. } => "fetch it to a folder instead, or retire the version that is here",
            Self::Contended(_) => "repeat",
            Self::ForeignFile { .. } => "choose an empty or new folder",
            Self::BadKey { .. } => "move it away to have a new one made",
            Self::BadRecord { .. } => {
                "`dpg verify` makes one, and the daemon's `[trust.keys]` lists whose are believed"
            }
            Self::BadSignature { .. } => "`[trust.keys]` of the settings lists whose signatures are believed",
            Self::Store { .. } | Self::Local { .. } => return None,
        };
        Some(hint.into())
    }
}

impl Error {
    /// Whether the same call may succeed later with nothing else changed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store { source, .. } => source.is_transient(),
            Self::DiskFull { .. } | Self::Contended(_) => true,
            _ => false,
        }
    }

    /// Why a record is not believed, in few words.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::BadRecord { reason, .. } => reason.clone(),
            error if error.is_not_found() => "its record is missing".into(),
            _ => "its record cannot be read".into(),
        }
    }

    /// Whether the store has no such object.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.is_not_found())
    }

    pub(crate) fn of_store(
        action: &'static str,
        path: &Path,
        store: &Arc<dyn ObjectStore>,
        source: object_store::Error,
    ) -> Self {
        let (path, store) = (path.to_string(), store.to_string());
        if is_disk_full(&source) {
            Self::DiskFull { path, place: store, source: Box::new(Cause::from(source)) }
        } else {
            Self::Store { action, path, store, source: Box::new(source.into()) }
        }
    }

    pub(crate) fn of_file(action: &'static str, path: &std::path::Path, source: io::Error) -> Self {
        if is_disk_full(&source) {
            let place = path.parent().unwrap_or(path).display().to_string();
            Self::DiskFull { path: path.display().to_string(), place, source: source.into() }
        } else {
            Self::Local { action, path: path.into(), source }
        }
    }
}

/// Whether a full disk, quota or file size limit is at the bottom of an error.
fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
            if matches!(io.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
                return true;
            }
        }
        next = error.source();
    }
    false
}

fn listed(some: &str, none: &str, names: &[String]) -> String {
    if names.is_empty() {
        return none.into();
    }
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("{some} {}", names.join(", "))
}
