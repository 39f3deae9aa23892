//! Where a snapshot came from: an in-toto Statement v1 with a SLSA provenance v1 predicate, signed.

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::dsse::{open, peek, read_public_key, seal};
use crate::layout::{PROVENANCE, SPEC};
use crate::{Error, ManifestFile, Registry, Result, Snapshot, Version};

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";

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

    /// A version's provenance as it is stored: the statement, believed or not. [`Registry::verify_signature`] says
    /// whether to.
    pub async fn provenance(&self, version: &Version) -> Result<Value> {
        let envelope = self.read_file(version, PROVENANCE).await?;
        let bad = |reason| Error::BadSignature { version: version.to_string(), reason };
        let statement = peek(&envelope).map_err(bad)?;
        serde_json::from_slice(&statement).map_err(|error| bad(error.to_string()))
    }

    /// Checks that a version's provenance is signed and is about exactly the version's files, by hash;
    /// gives the name of the trusted key, or `the key given` for a public key that was. That the files
    /// have these hashes is for [`Registry::verify`].
    pub async fn verify_signature(&self, version: &Version, public_key: Option<&str>) -> Result<String> {
        let key = public_key.map(read_public_key).transpose()?;
        let manifest = self.manifest(version).await?;
        let envelope = self.read_file(version, PROVENANCE).await?;
        let opened = match key {
            Some(key) => open(&[key], &envelope).map(|(payload, _)| (payload, "the key given".into())),
            None => self.believe(&envelope),
        };
        let bad = |reason| Error::BadSignature { version: version.to_string(), reason };
        let (payload, signer) = opened.map_err(bad)?;
        let subjects = subjects(&payload).map_err(bad)?;
        let files: BTreeMap<_, _> = manifest
            .files
            .into_iter()
            .filter(|file| file.path != PROVENANCE)
            .map(|file| (file.path, file.sha256))
            .collect();
        if subjects == files {
            Ok(signer)
        } else {
            Err(bad("its subjects are not the version's files".into()))
        }
    }
}

fn statement(snapshot: &Snapshot, files: &[ManifestFile]) -> Value {
    let subject: Vec<_> =
        files.iter().map(|file| json!({ "name": file.path, "digest": { "sha256": file.sha256 } })).collect();
    let spec = Dependency {
        name: "spec".into(),
        uri: SPEC.into(),
        digest: [("sha256".into(), hex::encode(Sha256::digest(&snapshot.spec)))].into(),
    };
    let dependencies: Vec<_> = [&spec].into_iter().chain(&snapshot.dependencies).collect();
    let time = |at: &chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    json!({
        "_type": STATEMENT_TYPE,
        "subject": subject,
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:dpg:dataset:v1",
                "externalParameters": { "dataset": snapshot.card.name, "spec": SPEC },
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

/// The files that a provenance statement is about, with their hashes; or what is wrong with it.
fn subjects(statement: &[u8]) -> std::result::Result<BTreeMap<String, String>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Statement {
        #[serde(rename = "_type")]
        kind: String,
        predicate_type: String,
        subject: Vec<Subject>,
    }
    #[derive(Deserialize)]
    struct Subject {
        name: String,
        digest: BTreeMap<String, String>,
    }

    let statement: Statement =
        serde_json::from_slice(statement).map_err(|_| "it is not a statement about files".to_owned())?;
    if statement.kind != STATEMENT_TYPE || statement.predicate_type != PREDICATE_TYPE {
        return Err(format!("it is not an in-toto statement of `{PREDICATE_TYPE}`"));
    }
    let mut files = BTreeMap::new();
    for Subject { name, mut digest } in statement.subject {
        let sha256 = digest.remove("sha256").ok_or("one of its subjects has no SHA-256")?;
        if files.insert(name, sha256).is_some() {
            return Err("it names a file twice".into());
        }
    }
    Ok(files)
}
