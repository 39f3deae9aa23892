//! The commit log of a dataset: numbered entries, each created once and never changed. Folding
//! them in order gives the dataset's versions and tags.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{Attestation, Error, Registry, Result, Withdrawal};

/// Slots tried before an append gives up: as many as other writers may fill meanwhile.
const ATTEMPTS: usize = 256;
/// How often a slot may be refused as taken and be empty, and the wait after the first time.
const LOST: u32 = 8;
const LOST_WAIT: Duration = Duration::from_millis(50);
const CONCURRENT_READS: usize = 16;

/// A dataset as its log tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// Its versions, oldest first: version `n` stands at `n - 1`.
    pub versions: Vec<Version>,
    /// Its tags and the versions they point at.
    pub tags: BTreeMap<String, u64>,
    #[serde(skip)]
    next_entry: u64,
}

/// A published version of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// The dataset.
    pub dataset: String,
    /// Its number, from 1.
    pub number: u64,
    /// The job that made it.
    pub job: String,
    /// The job's fence when it published.
    pub fence: u64,
    /// SHA-256 in hex of its manifest, which holds those of all its files.
    pub manifest_sha256: String,
    /// Rows of the split `train`.
    pub rows: u64,
    /// Bytes of its Parquet files.
    pub size: u64,
    /// When it was published.
    pub published_at: DateTime<Utc>,
    /// Why it was withdrawn, if it was.
    pub withdrawn: Option<Withdrawal>,
    /// When it was given up to make room, if it was: its files are or will be removed.
    pub retired: Option<DateTime<Utc>>,
    /// What was found when it was tried out, oldest first.
    pub attestations: Vec<Attestation>,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@v{}", self.dataset, self.number)
    }
}

/// One entry of the log.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    seq: u64,
    at: DateTime<Utc>,
    /// Tells a writer whether an entry whose creation failed or was refused is its own.
    nonce: String,
    #[serde(flatten)]
    op: Op,
}

/// What an entry does.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Op {
    Publish {
        version: u64,
        job: String,
        fence: u64,
        manifest_sha256: String,
        rows: u64,
        size: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        withheld: Option<String>,
        /// Whether it is withheld because its verification failed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        failed: bool,
    },
    Tag {
        tag: String,
        version: u64,
    },
    Untag {
        tag: String,
    },
    Yank {
        version: u64,
        reason: String,
    },
    Retire {
        version: u64,
    },
    Attest {
        version: u64,
        holds: bool,
        sha256: String,
    },
}

impl Dataset {
    pub(crate) fn empty(name: &str) -> Self {
        Self { name: name.into(), versions: Vec::new(), tags: BTreeMap::new(), next_entry: 0 }
    }

    /// The newest version that is not withdrawn.
    pub fn latest(&self) -> Option<&Version> {
        self.versions.iter().rev().find(|version| version.withdrawn.is_none())
    }

    /// The version that a job was published as.
    pub fn of_job(&self, job: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.job == job)
    }

    /// The version that `latest`, `v3`, `3` or a tag names.
    pub fn resolve(&self, reference: &str) -> Result<&Version> {
        let number = match reference {
            "latest" => return self.latest().ok_or_else(|| self.no_version(reference)),
            reference => version_number(reference).or_else(|| self.tags.get(reference).copied()),
        };
        number.and_then(|number| self.numbered(number).ok()).ok_or_else(|| self.no_version(reference))
    }

    pub(crate) fn numbered(&self, number: u64) -> Result<&Version> {
        let index = number.checked_sub(1);
        index
            .and_then(|index| self.versions.get(index as usize))
            .ok_or_else(|| self.no_version(&format!("v{number}")))
    }

    pub(crate) fn no_version(&self, reference: &str) -> Error {
        let versions = self.versions.iter().filter(|version| version.withdrawn.is_none());
        let existing =
            versions.map(|version| format!("v{}", version.number)).chain(self.tags.keys().cloned());
        Error::NoVersion {
            name: self.name.clone(),
            reference: reference.into(),
            existing: existing.collect(),
        }
    }

    /// Folds in the next entry; says what contradicts the entries before it.
    fn apply(&mut self, entry: Entry) -> std::result::Result<(), String> {
        if entry.seq != self.next_entry {
            return Err(format!("it says it is entry {}", entry.seq));
        }
        let published = self.versions.len() as u64;
        match entry.op {
            Op::Publish { version, job, fence, manifest_sha256, rows, size, withheld, failed } => {
                if version != published + 1 {
                    return Err(format!("it publishes version {version} after version {published}"));
                }
                let (dataset, published_at) = (self.name.clone(), entry.at);
                self.versions.push(Version {
                    dataset,
                    number: version,
                    job,
                    fence,
                    manifest_sha256,
                    rows,
                    size,
                    published_at,
                    withdrawn: withheld.map(if failed { Withdrawal::Failed } else { Withdrawal::Outdone }),
                    retired: None,
                    attestations: Vec::new(),
                });
            }
            Op::Tag { version, .. }
            | Op::Yank { version, .. }
            | Op::Retire { version }
            | Op::Attest { version, .. }
                if !(1..=published).contains(&version) =>
            {
                return Err(format!("it is about version {version}, of {published}"));
            }
            Op::Tag { tag, version } => drop(self.tags.insert(tag, version)),
            Op::Untag { tag } => drop(self.tags.remove(&tag)),
            Op::Yank { version, reason } => {
                self.versions[version as usize - 1].withdrawn = Some(Withdrawal::Yanked(reason));
            }
            Op::Retire { version } => {
                let version = &mut self.versions[version as usize - 1];
                version.withdrawn.get_or_insert(Withdrawal::Retired);
                version.retired = Some(entry.at);
            }
            Op::Attest { version, holds, sha256 } => {
                let attestations = &mut self.versions[version as usize - 1].attestations;
                attestations.push(Attestation { at: entry.at, holds, sha256, signer: None, doubt: None });
            }
        }
        self.next_entry += 1;
        Ok(())
    }
}

impl Registry {
    /// Folds a dataset's log; empty if there is none.
    pub(crate) async fn read_log(&self, name: &str) -> Result<Dataset> {
        let folder = self.path(&[name, "log"]);
        let listed = self
            .store
            .list(Some(&folder))
            .try_filter_map(|object| async move { Ok(entry_number(&object.location)) })
            .try_collect::<Vec<_>>()
            .await;
        let entries = match listed {
            Ok(entries) => entries,
            Err(source) => {
                let failed = self.failed("list", &folder, source);
                // a folder's failed listing does not say whether access was denied; a failed read does
                match self.read_entry(name, 0).await {
                    Err(denied)
                        if failed.is_transient() && !denied.is_transient() && !denied.is_not_found() =>
                    {
                        return Err(denied);
                    }
                    _ => return Err(failed),
                }
            }
        };
        // A listing that races with writers may miss an entry before the last one it shows, and an
        // entry is only ever created after all before it: so the last one is all to take from it.
        let count = entries.into_iter().max().map_or(0, |last| last + 1);
        let mut reads =
            stream::iter(0..count).map(|seq| self.read_entry(name, seq)).buffered(CONCURRENT_READS);
        let mut dataset = Dataset::empty(name);
        while let Some(entry) = reads.next().await {
            let seq = dataset.next_entry;
            let damaged = |reason| Error::DamagedLog { path: self.entry_path(name, seq).to_string(), reason };
            match entry {
                Ok(entry) => dataset.apply(entry).map_err(damaged)?,
                Err(error) if error.is_not_found() => {
                    return Err(damaged("it is missing".into()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(dataset)
    }

    /// Appends what `propose` makes of the folded log, if anything, and returns the log with it.
    pub(crate) async fn append(
        &self,
        name: &str,
        propose: impl Fn(&Dataset) -> Result<Option<Op>>,
    ) -> Result<Dataset> {
        let nonce = Uuid::new_v4().to_string();
        let mut lost = 0;
        for _ in 0..ATTEMPTS {
            let mut dataset = self.read_log(name).await?;
            let Some(op) = propose(&dataset)? else { return Ok(dataset) };
            let entry = Entry { seq: dataset.next_entry, at: Utc::now(), nonce: nonce.clone(), op };
            let path = self.entry_path(name, entry.seq);
            let json = serde_json::to_vec_pretty(&entry).expect("an entry is plain data");
            if let Err(source) = self.store.put_opts(&path, json.into(), PutMode::Create.into()).await {
                // Refused, or the answer was lost: what stands in the slot tells.
                match self.read_entry(name, entry.seq).await {
                    Ok(found) if found.nonce == nonce => {}
                    Ok(_) => continue,
                    Err(error) if error.is_not_found() && is_taken(&source) && lost < LOST => {
                        // refused for another writer, whose entry did not come to stand there
                        lost += 1;
                        sleep(LOST_WAIT * lost).await;
                        continue;
                    }
                    Err(_) => return Err(self.failed("create", &path, source)),
                }
            }
            let damaged = |reason| Error::DamagedLog { path: path.to_string(), reason };
            dataset.apply(entry).map_err(damaged)?;
            return Ok(dataset);
        }
        Err(Error::Contended(name.into()))
    }

    async fn read_entry(&self, name: &str, seq: u64) -> Result<Entry> {
        let path = self.entry_path(name, seq);
        let failed = |source| self.failed("read", &path, source);
        let json = self.store.get(&path).await.map_err(failed)?.bytes().await.map_err(failed)?;
        serde_json::from_slice(&json)
            .map_err(|error| Error::DamagedLog { path: path.to_string(), reason: error.to_string() })
    }

    fn entry_path(&self, name: &str, seq: u64) -> Path {
        self.path(&[name, "log", &format!("{seq:012}.json")])
    }
}

fn is_taken(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::AlreadyExists { .. })
}

fn entry_number(path: &Path) -> Option<u64> {
    let digits = path.filename()?.strip_suffix(".json")?;
    (digits.len() == 12).then(|| digits.parse().ok())?
}

/// The number in `v3` or `3`.
fn version_number(reference: &str) -> Option<u64> {
    let digits = reference.strip_prefix('v').unwrap_or(reference);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Whether a tag cannot be mistaken for another way to name a version.
pub(crate) fn is_tag(tag: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    tag.len() <= 63
        && tag.starts_with(|first: char| first.is_ascii_alphabetic())
        && tag.bytes().all(allowed)
        && tag != "latest"
        && version_number(tag).is_none()
}
