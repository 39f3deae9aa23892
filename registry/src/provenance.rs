//! Where a snapshot came from: an in-toto Statement v1 with a SLSA provenance v1 predicate, signed.

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::dsse::{open, read_public_key, seal};
use crate::snapshot::PROVENANCE;
use crate::{Error, ManifestFile, Registry, Result, Snapshot, Version};

/// Something that a dataset was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// What it was for: `target`, `generator`, `parent`, `engine`.
    pub name: String,
    /// Where it came from.
    pub uri: String,
    /// Its digests in hex by algorithm: `sha256`, `gitCommit`.
    pub digest: BTreeMap<String, String>,
}

impl Registry {
    /// The envelope about a snapshot's files. The same snapshot makes the same bytes.
    pub(crate) fn sign(&self, snapshot: &Snapshot, files: &[ManifestFile]) -> Result<String> {
        seal(&self.key_file, &statement(snapshot, files))
    }

    /// Checks that a version's provenance is signed by this public key (PEM) and is about exactly
    /// the version's files, by hash. That the files have these hashes is for [`Registry::verify`].
    pub async fn verify_signature(&self, version: &Version, public_key: &str) -> Result<()> {
        let key = read_public_key(public_key)?;
        let manifest = self.manifest(version).await?;
        let envelope = self.read_file(version, PROVENANCE).await?;
        let subjects = open(&key, &envelope)
            .and_then(|payload| subjects(&payload))
            .map_err(|reason| Error::BadSignature { version: version.to_string(), reason })?;
        let files: BTreeMap<_, _> = manifest
            .files
            .into_iter()
            .filter(|file| file.path != PROVENANCE)
            .map(|file| (file.path, file.sha256))
            .collect();
        if subjects == files {
            return Ok(());
        }
        let reason = "its subjects are not the version's files".into();
        Err(Error::BadSignature { version: version.to_string(), reason })
    }
}

fn statement(snapshot: &Snapshot, files: &[ManifestFile]) -> Value {
    let subject: Vec<_> =
        files.iter().map(|file| json!({ "name": file.path, "digest": { "sha256": file.sha256 } })).collect();
    let spec = Dependency {
        name: "spec".into(),
        uri: "spec.toml".into(),
        digest: [("sha256".into(), hex::encode(Sha256::digest(&snapshot.spec)))].into(),
    };
    let dependencies: Vec<_> = [&spec].into_iter().chain(&snapshot.dependencies).collect();
    let time = |at: &chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subject,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:dpg:dataset:v1",
                "externalParameters": { "dataset": snapshot.card.name, "spec": "spec.toml" },
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": { "id": "urn:dpg:engine", "version": { "dpg": env!("CARGO_PKG_VERSION") } },
                "metadata": {
                    "invocationId": format!("{}-{}", snapshot.job, snapshot.fence),
                    "startedOn": time(&snapshot.started_at),
                    "finishedOn": time(&snapshot.finished_at),
                },
            },
        },
    })
}

/// The files that a statement is about, with their hashes; or what is wrong with it.
pub(crate) fn subjects(statement: &[u8]) -> std::result::Result<BTreeMap<String, String>, String> {
    #[derive(Deserialize)]
    struct Statement {
        subject: Vec<Subject>,
    }
    #[derive(Deserialize)]
    struct Subject {
        name: String,
        digest: BTreeMap<String, String>,
    }

    let statement: Statement =
        serde_json::from_slice(statement).map_err(|error| format!("it is malformed ({error})"))?;
    let hash = |mut subject: Subject| Some((subject.name, subject.digest.remove("sha256")?));
    Ok(statement.subject.into_iter().filter_map(hash).collect())
}
