//! Published datasets.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// Number of its versions.
    pub versions: u64,
    /// The newest version that is not withdrawn.
    pub latest: Option<DatasetVersion>,
    /// Its tags and the versions they point at.
    pub tags: BTreeMap<String, u64>,
}

/// All datasets, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatasetList {
    /// The datasets.
    pub datasets: Vec<Dataset>,
}

/// A dataset with all its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatasetDetail {
    /// Its name.
    pub name: String,
    /// Its versions, oldest first.
    pub versions: Vec<DatasetVersion>,
    /// Its tags and the versions they point at.
    pub tags: BTreeMap<String, u64>,
}

/// A version of a dataset; it never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatasetVersion {
    /// The dataset.
    pub dataset: String,
    /// Its number, from 1.
    pub number: u64,
    /// The job that made it.
    pub job: String,
    /// SHA-256 in hex of its manifest, which holds those of all its files.
    pub manifest_sha256: String,
    /// Rows of the split `train`.
    pub rows: u64,
    /// Bytes of its Parquet files.
    pub size: u64,
    /// When it was published.
    pub published_at: DateTime<Utc>,
    /// Why it was withdrawn, if it was.
    #[serde(default)]
    pub withdrawn: Option<Withdrawal>,
    /// When it was given up to make room, if it was: its files are or will be removed.
    #[serde(default)]
    pub retired: Option<DateTime<Utc>>,
    /// What was found when it was tried out on fresh targets, oldest first.
    #[serde(default)]
    pub attestations: Vec<Attestation>,
}

/// Why `latest` passes over a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

/// A version was tried out: fresh targets were fine-tuned on it and on controls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attestation {
    /// When it was recorded.
    pub at: DateTime<Utc>,
    /// Whether the version does what it was made for, as the record claims.
    pub holds: bool,
    /// SHA-256 in hex of the signed record.
    pub sha256: String,
    /// Whose key signed the record, if that key is trusted; only then the claim counts.
    #[serde(default)]
    pub signer: Option<String>,
    /// Why the record is not believed, if it is not.
    #[serde(default)]
    pub doubt: Option<String>,
}

impl fmt::Display for DatasetVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@v{}", self.dataset, self.number)
    }
}

/// A version with its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionDetail {
    /// The version.
    #[serde(flatten)]
    pub version: DatasetVersion,
    /// Its files, by path.
    pub files: Vec<VersionFile>,
}

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionFile {
    /// Its path, with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// Where a tag is to point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutTag {
    /// The version's number.
    pub version: u64,
}

/// Why a version is withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Yank {
    /// Shown to whoever asks for the version.
    pub reason: String,
}

/// What was found when a version was tried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAttestation {
    /// An in-toto statement in a signed DSSE envelope, as `dpg verify` makes it.
    pub record: String,
}
