//! The artifact registry: immutable, versioned datasets on an object store.
//!
//! ```no_run
//! use dpg_registry::{Registry, open_store};
//!
//! # async fn copied() -> dpg_registry::Result<()> {
//! let (store, prefix) = open_store("s3://bucket/datasets")?;
//! let registry = Registry::new(store, prefix, "signing-key.pem");
//! let version = registry.resolve("spanish", "latest").await?;
//! let fetched = registry.fetch(&version, "spanish".as_ref()).await?;
//! println!("{version}, {} rows: {} files are new", version.rows, fetched.downloaded);
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//! {dataset}/snapshots/{job}-{fence}/data/train-00000-of-0000N.parquet, ...
//!                                   rewards/train-00000-of-0000N.parquet, ...
//!                                   README.md  croissant.json  spec.toml
//!                                   provenance.dsse.json  manifest.json
//! {dataset}/attestations/{sha256}.dsse.json
//! {dataset}/log/{seq:012}.json
//! ```
//!
//! A publisher writes a snapshot under a prefix that only its job and fence own, the manifest last,
//! and then commits it by creating the next slot of the log, which the store lets exactly one
//! writer do. The log is all that readers look at, so a publisher killed at any point leaves the
//! old state or the new, and may be run again: a job is published once. On a store that does not
//! keep racing creates apart nothing of this holds: [`probe_conditional_put`] finds out.
//!
//! In a local folder a write returns once the file and its folder are synced to disk, so a version
//! that [`Registry::publish`] returned outlives a power failure.
//!
//! The functions want a tokio runtime around them and bring none.

mod adopt;
mod attestation;
mod diff;
mod dsse;
mod error;
mod fetch;
mod gc;
mod layout;
mod log;
mod provenance;
mod read;
mod retire;
mod rows;
mod snapshot;
mod store;
mod trust;
mod withdrawal;

use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

pub use attestation::{Attestation, sign_report};
pub use diff::{Change, Comparison, Diff, MetricChange, RewardStatistics};
pub use error::{Error, Result};
pub use fetch::{Fetched, changed_since_fetch, fetch_from};
pub use gc::Garbage;
pub use layout::{GENERATOR, Local, MANIFEST};
pub use log::{Dataset, Version};
pub use provenance::Dependency;
pub use rows::{MOST_ROWS, Order, Rows, StoredRow, Wanted};
pub use snapshot::{Manifest, ManifestFile, Measured, Snapshot};
pub use store::{open_store, probe_conditional_put};
pub use trust::{OWN_KEY, check_public_key};
pub use withdrawal::Withdrawal;

use log::Op;

/// Datasets under a prefix of an object store.
#[derive(Clone, Debug)]
pub struct Registry {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    key_file: PathBuf,
    trust: trust::Trust,
}

impl Registry {
    /// A registry under `prefix` of `store`. Snapshots are signed with the Ed25519 key in
    /// `key_file` (PKCS #8 PEM), which the first publish creates if it is not there.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, key_file: impl Into<PathBuf>) -> Self {
        Self { store, prefix, key_file: key_file.into(), trust: trust::Trust::default() }
    }

    /// Publishes a snapshot as the next version of its dataset, or returns the version that its
    /// job was published as before.
    ///
    /// Until it returns, readers see the state before it or after it and nothing between. After an
    /// error or a crash it may be called again.
    pub async fn publish(&self, snapshot: &Snapshot) -> Result<Version> {
        snapshot.check()?;
        let (name, job) = (&snapshot.card.name, &snapshot.job);
        if let Some(version) = self.read_log(name).await?.of_job(job) {
            return self.resolve(name, &format!("v{}", version.number)).await;
        }
        let manifest_sha256 = self.upload(snapshot).await?;
        let publish = |version| Op::Publish {
            version,
            job: job.clone(),
            fence: snapshot.fence,
            manifest_sha256: manifest_sha256.clone(),
            rows: snapshot.train_rows(),
            size: snapshot.size(),
            withheld: snapshot.withheld.as_ref().map(ToString::to_string),
            failed: matches!(snapshot.withheld, Some(Withdrawal::Failed(_))),
        };
        self.commit(name, job, publish).await
    }

    /// Appends a job's version, whose files are in place, unless the job has one.
    async fn commit(&self, name: &str, job: &str, publish: impl Fn(u64) -> Op) -> Result<Version> {
        let propose = |dataset: &Dataset| {
            Ok(dataset.of_job(job).is_none().then(|| publish(dataset.versions.len() as u64 + 1)))
        };
        let dataset = self.append(name, propose).await?;
        Ok(dataset.of_job(job).expect("the log holds what was appended").clone())
    }

    /// Every dataset with at least one version, by name.
    pub async fn datasets(&self) -> Result<Vec<Dataset>> {
        let listed = self
            .store
            .list_with_delimiter(Some(&self.prefix))
            .await
            .map_err(|source| self.failed("list", &self.prefix, source))?;
        let mut datasets = Vec::new();
        for name in listed.common_prefixes.iter().filter_map(Path::filename) {
            if snapshot::is_dataset_name(name) {
                datasets.push(self.check_attestations(self.read_log(name).await?).await);
            }
        }
        datasets.retain(|dataset| !dataset.versions.is_empty());
        datasets.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(datasets)
    }

    /// A dataset's versions and tags; an error if it has none.
    pub async fn dataset(&self, name: &str) -> Result<Dataset> {
        let dataset =
            if snapshot::is_dataset_name(name) { self.read_log(name).await? } else { Dataset::empty(name) };
        if dataset.versions.is_empty() {
            let existing = self.datasets().await?.into_iter().map(|dataset| dataset.name).collect();
            return Err(Error::NoDataset { name: name.into(), existing });
        }
        Ok(self.check_attestations(dataset).await)
    }

    /// The version that `reference` names: `latest` (the newest that is not withdrawn), `v3`, `3`, or
    /// a tag. A withdrawn version is found by its number and its tags, and says so.
    pub async fn resolve(&self, name: &str, reference: &str) -> Result<Version> {
        self.dataset(name).await?.resolve(reference).cloned()
    }

    /// Points a tag at a version, away from where it may have pointed.
    pub async fn tag(&self, name: &str, tag: &str, version: u64) -> Result<()> {
        if !log::is_tag(tag) {
            return Err(Error::BadTag(tag.into()));
        }
        self.dataset(name).await?;
        let propose = |dataset: &Dataset| {
            dataset.numbered(version)?.check_standing()?;
            let moved = dataset.tags.get(tag) != Some(&version);
            Ok(moved.then(|| Op::Tag { tag: tag.into(), version }))
        };
        self.append(name, propose).await.map(drop)
    }

    /// Removes a tag; an error if there is no such tag.
    pub async fn untag(&self, name: &str, tag: &str) -> Result<()> {
        self.dataset(name).await?;
        let propose = |dataset: &Dataset| match dataset.tags.get(tag) {
            Some(_) => Ok(Some(Op::Untag { tag: tag.into() })),
            None => Err(dataset.no_version(tag)),
        };
        self.append(name, propose).await.map(drop)
    }

    /// Withdraws a version: `latest` passes over it from now on, and whoever asks for it by number
    /// is told the reason. Its files stay.
    pub async fn yank(&self, name: &str, version: u64, reason: &str) -> Result<()> {
        self.dataset(name).await?;
        let propose = |dataset: &Dataset| {
            let standing = dataset.numbered(version)?.withdrawn.is_none();
            Ok(standing.then(|| Op::Yank { version, reason: reason.into() }))
        };
        self.append(name, propose).await.map(drop)
    }

    /// The path of `parts` under the registry's prefix.
    fn path(&self, parts: &[&str]) -> Path {
        parts.iter().fold(self.prefix.clone(), |path, part| path.join(*part))
    }

    fn failed(&self, action: &'static str, path: &Path, source: object_store::Error) -> Error {
        Error::of_store(action, path, &self.store, source)
    }
}

#[cfg(test)]
mod tests;
