//! Where a snapshot came from: an in-toto Statement v1 with a SLSA provenance v1 predicate, signed.

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::dsse::{open, peek, read_public_key, seal};
use crate::layout::{self, PROVENANCE, SPEC};
use crate::{Error, Manifest, ManifestFile, Registry, Result, Snapshot, Version};

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
        let checked = opened.and_then(|(payload, signer)| Ok((check(&payload, &manifest)?, signer)));
        let bad = |reason| Error::BadSignature { version: version.to_string(), reason };
        checked.map(|((), signer)| signer).map_err(bad)
    }
}

/// Refuses a statement that is not about this manifest's dataset and job and exactly its files.
pub(crate) fn check(statement: &[u8], manifest: &Manifest) -> std::result::Result<(), String> {
    let told = read(statement)?;
    if (told.dataset, told.invocation)
        != (manifest.dataset.clone(), layout::snapshot(&manifest.job, manifest.fence))
    {
        return Err("it is about another dataset or job".into());
    }
    let listed = manifest.files.iter().filter(|file| file.path != PROVENANCE);
    if told.files == listed.map(|file| (file.path.clone(), file.sha256.clone())).collect() {
        Ok(())
    } else {
        Err("its subjects are not the version's files".into())
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
                    "invocationId": layout::snapshot(&snapshot.job, snapshot.fence),
                    "startedOn": time(&snapshot.started_at),
                    "finishedOn": time(&snapshot.finished_at),
                },
            },
        },
    })
}

/// What a provenance statement is about.
struct Told {
    dataset: String,
    invocation: String,
    /// The files, with their hashes.
    files: BTreeMap<String, String>,
}

/// Reads a provenance statement; or says what is wrong with it.
fn read(statement: &[u8]) -> std::result::Result<Told, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Statement {
        #[serde(rename = "_type")]
        kind: String,
        predicate_type: String,
        subject: Vec<Subject>,
        predicate: Value,
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
    let text = |place: &str| statement.predicate.pointer(place).and_then(Value::as_str).map(str::to_owned);
    let dataset = text("/buildDefinition/externalParameters/dataset").ok_or("it names no dataset")?;
    let invocation = text("/runDetails/metadata/invocationId").ok_or("it names no job")?;
    Ok(Told { dataset, invocation, files })
}
