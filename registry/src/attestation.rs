//! What somebody found when they tried a version out: an in-toto statement about its manifest, signed,
//! named in the log, and kept beside the snapshots.
//!
//! ```text
//! {dataset}/attestations/{sha256}.dsse.json
//! ```

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::dsse::{open, peek, read_public_key, seal};
use crate::log::Op;
use crate::provenance::subjects;
use crate::snapshot::MANIFEST;
use crate::{Dataset, Error, Registry, Result, Version};

const PREDICATE_TYPE: &str = "urn:dpg:verification:v1";
const PASSED: &str = "PASSED";
const FAILED: &str = "FAILED";

/// An entry of the log: a version was tried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attestation {
    /// When it was recorded.
    pub at: DateTime<Utc>,
    /// Whether the version does what it was made for.
    pub holds: bool,
    /// SHA-256 in hex of the signed record.
    pub sha256: String,
}

/// What a record says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Deserialize)]
struct Predicate {
    result: String,
    report: Value,
}

/// A record of a report on the version `version` with this manifest, signed by the key in a file, which
/// is made if there is none. `holds` is the verdict.
pub fn sign_report(
    key_file: &std::path::Path,
    version: &str,
    manifest_sha256: &str,
    holds: bool,
    report: &Value,
) -> Result<String> {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": MANIFEST, "digest": { "sha256": manifest_sha256 } }],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "dataset": version,
            "result": if holds { PASSED } else { FAILED },
            "verifiedOn": Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
            "verifier": { "id": "urn:dpg:engine", "version": { "dpg": env!("CARGO_PKG_VERSION") } },
            "report": report,
        },
    });
    seal(key_file, &statement)
}

impl Registry {
    /// Signs a report on a version and appends it to the dataset's log. `holds` is its verdict.
    pub async fn attest(&self, version: &Version, holds: bool, report: &Value) -> Result<Version> {
        let name = version.to_string();
        self.record(version, sign_report(&self.key_file, &name, &version.manifest_sha256, holds, report)?)
            .await
    }

    /// Appends a [signed report](sign_report) on a version, whoever signed it, to the dataset's log.
    pub async fn record(&self, version: &Version, record: String) -> Result<Version> {
        let bad = |reason| Error::BadRecord { version: version.to_string(), reason };
        let statement =
            peek(record.as_bytes()).and_then(|statement| read(&statement, version)).map_err(bad)?;
        let holds = match statement.predicate.result.as_str() {
            PASSED => true,
            FAILED => false,
            other => return Err(bad(format!("its result is `{other}`, not `{PASSED}` or `{FAILED}`"))),
        };
        let sha256 = hex::encode(Sha256::digest(&record));
        let path = self.attestation_path(&version.dataset, &sha256);
        let put = self.store.put(&path, record.into_bytes().into()).await;
        put.map_err(|source| self.failed("write", &path, source))?;
        let number = version.number;
        let propose = |dataset: &Dataset| {
            let recorded = dataset.numbered(number)?.attestations.iter().any(|one| one.sha256 == sha256);
            Ok((!recorded).then(|| Op::Attest { version: number, holds, sha256: sha256.clone() }))
        };
        self.append(&version.dataset, propose).await?.numbered(number).cloned()
    }

    /// The report of an attestation, once the record is found to be the one in the log and about the
    /// version. With a public key (PEM) it is also checked that its owner signed it.
    pub async fn report(
        &self,
        version: &Version,
        attestation: &Attestation,
        public_key: Option<&str>,
    ) -> Result<Value> {
        let path = self.attestation_path(&version.dataset, &attestation.sha256);
        let failed = |source| self.failed("read", &path, source);
        let record: Bytes = self.store.get(&path).await.map_err(failed)?.bytes().await.map_err(failed)?;
        let bad = |reason| Error::BadRecord { version: version.to_string(), reason };
        if hex::encode(Sha256::digest(&record)) != attestation.sha256 {
            return Err(bad(format!("`{path}` is not the record that the log names")));
        }
        let statement = match public_key {
            Some(pem) => open(&read_public_key(pem)?, &record),
            None => peek(&record),
        };
        let statement = statement.and_then(|statement| read(&statement, version)).map_err(bad)?;
        Ok(statement.predicate.report)
    }

    fn attestation_path(&self, dataset: &str, sha256: &str) -> Path {
        self.path(&[dataset, "attestations", &format!("{sha256}.dsse.json")])
    }
}

/// A statement about this version; or what is wrong with it.
fn read(statement: &[u8], version: &Version) -> std::result::Result<Statement, String> {
    if subjects(statement)?.get(MANIFEST) != Some(&version.manifest_sha256) {
        return Err("it is about another version".into());
    }
    let statement: Statement =
        serde_json::from_slice(statement).map_err(|error| format!("it is malformed ({error})"))?;
    if statement.predicate_type != PREDICATE_TYPE {
        return Err(format!("it is a `{}`, not a `{PREDICATE_TYPE}`", statement.predicate_type));
    }
    Ok(statement)
}
