//! A dataset's files on their way into the store: the shards as they were written, and around them
//! the card, the Croissant description, the spec, the provenance, and last the manifest.

use std::io::Read;
use std::path::PathBuf;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use dpg_dataset::{Card, Config, Shard, Split, croissant};
use object_store::path::Path;
use object_store::{ObjectStoreExt, WriteMultipart};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::layout::{self, MANIFEST, PROVENANCE, SPEC};
use crate::{Dependency, Error, Registry, Result, Version, Withdrawal};

/// Files up to this size are put in one piece, larger ones in parts of it. S3 wants at least 5 MiB.
pub(crate) const PART_BYTES: usize = 8 << 20;
const CONCURRENT_PARTS: usize = 4;

/// What is to be published: a dataset's shards in a local folder, and what is said about them.
///
/// `job` and `fence` together name one writer: nobody else may publish under them meanwhile.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The job that made it: letters, digits, `.`, `_` and `-`.
    pub job: String,
    /// The fence of the job's lease.
    pub fence: u64,
    /// The dataset's name, and what its card says.
    pub card: Card,
    /// The target spec as TOML.
    pub spec: String,
    /// The folder that the shards' paths are relative to.
    pub folder: PathBuf,
    /// The shards.
    pub shards: Vec<Shard>,
    /// Other files in the folder, as [`ManifestFile::read`] describes them.
    pub files: Vec<ManifestFile>,
    /// Pictures of the fine-tuned target, PNG bytes by the names that the card gives.
    pub pictures: Vec<(String, Bytes)>,
    /// When the job started.
    pub started_at: DateTime<Utc>,
    /// When it had made the shards.
    pub finished_at: DateTime<Utc>,
    /// What it was made from, besides the spec: models, a parent version, the engine's commit.
    pub dependencies: Vec<Dependency>,
    /// Why it is not to become `latest`, if it is not: it is published as if withdrawn at once.
    pub withheld: Option<Withdrawal>,
}

/// The files of a version, sorted by path, without the manifest itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// 1.
    pub format: u32,
    /// The dataset.
    pub dataset: String,
    /// The job that made it.
    pub job: String,
    /// The job's fence.
    pub fence: u64,
    /// What was measured on fresh generations.
    #[serde(default)]
    pub validation: Vec<Measured>,
    /// The files.
    pub files: Vec<ManifestFile>,
}

/// A figure with data of the generator before and after it was trained; absent if not finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// What it is.
    pub name: String,
    /// Its value before.
    pub before: Option<f64>,
    /// Its value after.
    pub after: Option<f64>,
}

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Its path in the dataset's folder, with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

impl ManifestFile {
    /// Describes a file by its path in a local folder, with `/`.
    pub fn read(folder: &std::path::Path, path: &str) -> Result<Self> {
        let local = folder.join(path);
        let unreadable = |source| Error::of_file("read", &local, source);
        let mut file = std::fs::File::open(&local).map_err(unreadable)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        let mut size = 0;
        loop {
            match file.read(&mut buffer).map_err(unreadable)? {
                0 => break,
                read => {
                    hash.update(&buffer[..read]);
                    size += read as u64;
                }
            }
        }
        Ok(Self { path: path.into(), size, sha256: hex::encode(hash.finalize()) })
    }
}

impl Snapshot {
    /// Rows of the split `train`.
    pub(crate) fn train_rows(&self) -> u64 {
        let train = |shard: &&Shard| shard.config == Config::Default && shard.split == Split::Train;
        self.shards.iter().filter(train).map(|shard| shard.rows).sum()
    }

    /// Bytes of the Parquet files.
    pub(crate) fn size(&self) -> u64 {
        self.shards.iter().map(|shard| shard.size).sum()
    }

    pub(crate) fn check(&self) -> Result<()> {
        let name = &self.card.name;
        check_names(name, &self.job)?;
        if self.train_rows() == 0 {
            return Err(Error::Empty(name.clone()));
        }
        Ok(())
    }
}

impl Manifest {
    /// Parses the manifest of `version` once its hash is found right.
    pub(crate) fn check(json: &[u8], version: &str, sha256: &str) -> Result<Self> {
        let damaged = |damage| Error::Damaged { version: version.into(), damages: vec![damage] };
        let found = hex::encode(Sha256::digest(json));
        if found != sha256 {
            return Err(damaged(format!("`{MANIFEST}` has SHA-256 `{found}`, expected `{sha256}`")));
        }
        Self::parse(json).map_err(|reason| damaged(format!("`{MANIFEST}`: {reason}")))
    }

    /// Parses a manifest; says what is wrong with one.
    pub(crate) fn parse(json: &[u8]) -> std::result::Result<Self, String> {
        let manifest: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if manifest.format != 1 {
            return Err(format!("its format is `{}`, newer than this program", manifest.format));
        }
        // The paths are about to be joined to a local folder.
        let inside = |path: &str| {
            path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains(['\\', ':'])
        };
        match manifest.files.iter().find(|file| !inside(&file.path)) {
            Some(file) => Err(format!("it names `{}`, a path that may lead outside", file.path)),
            None => Ok(manifest),
        }
    }
}

impl Registry {
    /// Writes all files of a snapshot and returns the SHA-256 of its manifest.
    pub(crate) async fn upload(&self, snapshot: &Snapshot) -> Result<String> {
        let Snapshot { card, shards, job, fence, .. } = snapshot;
        let root = self.snapshot_path(&card.name, job, *fence);
        let mut files = Vec::new();
        let shard_files = shards.iter().map(|shard| ManifestFile {
            path: shard.path.clone(),
            size: shard.size,
            sha256: shard.sha256.clone(),
        });
        for file in shard_files.chain(snapshot.files.iter().cloned()) {
            self.put_file(&within(&root, &file.path), &snapshot.folder.join(&file.path), &file.sha256)
                .await?;
            files.push(file);
        }
        let described = [
            ("README.md", card.readme(job, shards)),
            ("croissant.json", format!("{:#}\n", croissant(card, shards))),
            (SPEC, snapshot.spec.clone()),
        ];
        for (path, text) in described {
            files.push(self.put_small(&root, path, text.into()).await?);
        }
        for (name, png) in &snapshot.pictures {
            files.push(self.put_small(&root, &format!("pictures/{name}.png"), png.clone()).await?);
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        let provenance = self.sign(snapshot, &files)?;
        files.push(self.put_small(&root, PROVENANCE, provenance.into()).await?);
        files.sort_by(|one, other| one.path.cmp(&other.path));

        let finite = |value: f64| value.is_finite().then_some(value);
        let measured = card.validation.iter().map(|figure| Measured {
            name: figure.name.clone(),
            before: finite(figure.before),
            after: finite(figure.after),
        });
        let manifest = Manifest {
            format: 1,
            dataset: card.name.clone(),
            job: job.clone(),
            fence: *fence,
            validation: measured.collect(),
            files,
        };
        let json = serde_json::to_string_pretty(&manifest).expect("a manifest is plain data") + "\n";
        Ok(self.put_small(&root, MANIFEST, json.into()).await?.sha256)
    }

    pub(crate) async fn put_small(&self, root: &Path, name: &str, bytes: Bytes) -> Result<ManifestFile> {
        let path = within(root, name);
        let file = ManifestFile {
            path: name.into(),
            size: bytes.len() as u64,
            sha256: hex::encode(Sha256::digest(&bytes)),
        };
        self.store.put(&path, bytes.into()).await.map_err(|source| self.failed("write", &path, source))?;
        Ok(file)
    }

    /// Copies a local file into the store in parts, and lets it appear there only if its hash is
    /// the expected one.
    pub(crate) async fn put_file(&self, to: &Path, from: &std::path::Path, sha256: &str) -> Result<()> {
        let unreadable = |source| Error::Local { action: "read", path: from.into(), source };
        let failed = |source| self.failed("write", to, source);
        let mut file = File::open(from).await.map_err(unreadable)?;
        let mut hash = Sha256::new();
        let check = |hash: Sha256| {
            let found = hex::encode(hash.finalize());
            let expected = sha256.to_string();
            if found == expected {
                Ok(())
            } else {
                Err(Error::Changed { path: from.into(), found, expected })
            }
        };

        let first = read_part(&mut file).await.map_err(unreadable)?;
        hash.update(&first);
        if first.len() < PART_BYTES {
            check(hash)?;
            return self.store.put(to, first.into()).await.map(drop).map_err(failed);
        }
        let upload = self.store.put_multipart(to).await.map_err(failed)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let copied = async {
            let mut part = first;
            while !part.is_empty() {
                upload.wait_for_capacity(CONCURRENT_PARTS).await.map_err(failed)?;
                upload.put(part);
                part = read_part(&mut file).await.map_err(unreadable)?;
                hash.update(&part);
            }
            check(hash)
        };
        match copied.await {
            Ok(()) => upload.finish().await.map(drop).map_err(failed),
            Err(error) => {
                // The parts of an upload that fails to be aborted cost space, and no more.
                let _ = upload.abort().await;
                Err(error)
            }
        }
    }

    /// The files of a version, after their list was checked against the log.
    pub async fn manifest(&self, version: &Version) -> Result<Manifest> {
        self.read_manifest(version).await.map(|(manifest, _)| manifest)
    }

    pub(crate) async fn read_manifest(&self, version: &Version) -> Result<(Manifest, Bytes)> {
        let json = match self.read_file(version, MANIFEST).await {
            Err(error) if error.is_not_found() => {
                version.check_standing()?;
                return Err(error);
            }
            json => json?,
        };
        Ok((Manifest::check(&json, &version.to_string(), &version.manifest_sha256)?, json))
    }

    pub(crate) fn version_path(&self, version: &Version) -> Path {
        self.snapshot_path(&version.dataset, &version.job, version.fence)
    }

    pub(crate) fn snapshot_path(&self, dataset: &str, job: &str, fence: u64) -> Path {
        self.path(&[dataset, "snapshots", &layout::snapshot(job, fence)])
    }
}

/// The path of a file of a snapshot.
pub(crate) fn within(root: &Path, file: &str) -> Path {
    file.split('/').fold(root.clone(), Path::join)
}

async fn read_part(file: &mut File) -> std::io::Result<Bytes> {
    let mut part = Vec::with_capacity(PART_BYTES);
    file.take(PART_BYTES as u64).read_to_end(&mut part).await?;
    Ok(part.into())
}

/// Refuses names that cannot stand in a path.
pub(crate) fn check_names(dataset: &str, job: &str) -> Result<()> {
    if !is_dataset_name(dataset) {
        let expected = "`a-z`, `0-9` and `-`, at most 63 of them, the first no `-`";
        return Err(Error::BadName { what: "dataset name", name: dataset.into(), expected });
    }
    if !is_job(job) {
        let expected = "letters, digits, `.`, `_` and `-`, at most 128 of them, the first no `.`";
        return Err(Error::BadName { what: "job", name: job.into(), expected });
    }
    Ok(())
}

/// `[a-z0-9][a-z0-9-]{0,62}`, as the target spec has it.
pub(crate) fn is_dataset_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('-')
}

fn is_job(job: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=128).contains(&job.len()) && job.bytes().all(allowed) && !job.starts_with('.')
}
