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

use crate::dsse::{open, peek, read_public_key};
use crate::log::Op;
use crate::provenance::subjects;
use crate::snapshot::MANIFEST;
use crate::{Dataset, Error, Registry, Result, Version};

const PREDICATE_TYPE: &str = "urn:dpg:verification:v1";

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

impl Registry {
    /// Signs a report on a version and appends it to the dataset's log. `holds` is its verdict.
    pub async fn attest(&self, version: &Version, holds: bool, report: &Value) -> Result<Version> {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{ "name": MANIFEST, "digest": { "sha256": version.manifest_sha256 } }],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "dataset": version.to_string(),
                "result": if holds { "PASSED" } else { "FAILED" },
                "verifiedOn": Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
                "verifier": { "id": "urn:dpg:engine", "version": { "dpg": env!("CARGO_PKG_VERSION") } },
                "report": report,
            },
        });
        let record = self.seal(&statement)?;
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
        #[derive(Deserialize)]
        struct Statement {
            predicate: Predicate,
        }
        #[derive(Deserialize)]
        struct Predicate {
            report: Value,
        }

        let path = self.attestation_path(&version.dataset, &attestation.sha256);
        let failed = |source| self.failed("read", &path, source);
        let record: Bytes = self.store.get(&path).await.map_err(failed)?.bytes().await.map_err(failed)?;
        let bad = |reason| Error::BadSignature { version: version.to_string(), reason };
        if hex::encode(Sha256::digest(&record)) != attestation.sha256 {
            return Err(bad(format!("`{path}` is not the record that the log names")));
        }
        let statement = match public_key {
            Some(pem) => open(&read_public_key(pem)?, &record),
            None => peek(&record),
        };
        let statement = statement.map_err(bad)?;
        if subjects(&statement).map_err(bad)?.get(MANIFEST) != Some(&version.manifest_sha256) {
            return Err(bad(format!("`{path}` is about another version")));
        }
        let statement: Statement =
            serde_json::from_slice(&statement).map_err(|error| bad(format!("`{path}`: {error}")))?;
        Ok(statement.predicate.report)
    }

    fn attestation_path(&self, dataset: &str, sha256: &str) -> Path {
        self.path(&[dataset, "attestations", &format!("{sha256}.dsse.json")])
    }
}
