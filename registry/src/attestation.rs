//! What somebody found when they tried a version out: an in-toto statement about its manifest, signed,
//! named in the log, and kept beside the snapshots.
//!
//! ```text
//! {dataset}/attestations/{sha256}.dsse.json
//! ```

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use futures::{StreamExt, stream};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::dsse::{MAX_BYTES, peek, seal};
use crate::layout::MANIFEST;
use crate::log::Op;
use crate::{Dataset, Error, Registry, Result, Version};

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "urn:dpg:verification:v1";
const PASSED: &str = "PASSED";
const FAILED: &str = "FAILED";
const CONCURRENT_READS: usize = 16;

/// An entry of the log: a version was tried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attestation {
    /// When it was recorded.
    pub at: DateTime<Utc>,
    /// Whether the version does what it was made for, as the log says.
    pub holds: bool,
    /// SHA-256 in hex of the signed record.
    pub sha256: String,
    /// Whose key signed the record, if that key is trusted and the record says what the log says.
    pub signer: Option<String>,
    /// Why the record is not believed, if it is not.
    pub doubt: Option<String>,
}

impl Attestation {
    /// Whether a trusted key signed that the version does what it was made for.
    pub fn is_proof(&self) -> bool {
        self.holds && self.signer.is_some()
    }
}

/// What a record says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Deserialize)]
struct Subject {
    name: String,
    digest: Digests,
}

#[derive(Deserialize)]
struct Digests {
    sha256: String,
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
        "_type": STATEMENT_TYPE,
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

    /// Appends a [signed report](sign_report) on a version to the dataset's log, if a trusted key signed
    /// it.
    pub async fn record(&self, version: &Version, record: String) -> Result<Version> {
        let bad = |reason| Error::BadRecord { version: version.to_string(), reason };
        let (statement, signer) = self.believe(record.as_bytes()).map_err(bad)?;
        let holds = read(&statement, version).and_then(|statement| statement.holds()).map_err(bad)?;
        let sha256 = hex::encode(Sha256::digest(&record));
        let path = self.attestation_path(&version.dataset, &sha256);
        let put = self.store.put(&path, record.into_bytes().into()).await;
        put.map_err(|source| self.failed("write", &path, source))?;
        self.trust.remember(remembered(version, &sha256, holds), Ok(signer));
        let number = version.number;
        let propose = |dataset: &Dataset| {
            let recorded = dataset.numbered(number)?.attestations.iter().any(|one| one.sha256 == sha256);
            Ok((!recorded).then(|| Op::Attest { version: number, holds, sha256: sha256.clone() }))
        };
        let dataset = self.append(&version.dataset, propose).await?;
        self.check_attestations(dataset).await.numbered(number).cloned()
    }

    /// Finds out which attestations of a dataset are to be believed.
    pub(crate) async fn check_attestations(&self, mut dataset: Dataset) -> Dataset {
        let versions = &dataset.versions;
        let places = |(number, version): (usize, &Version)| {
            (0..version.attestations.len()).map(move |place| (number, place)).collect::<Vec<_>>()
        };
        let places: Vec<_> = versions.iter().enumerate().flat_map(places).collect();
        let check = |(number, place): (usize, usize)| {
            self.verdict(&versions[number], &versions[number].attestations[place])
        };
        let verdicts: Vec<_> =
            stream::iter(places.clone()).map(check).buffered(CONCURRENT_READS).collect().await;
        for ((number, place), verdict) in places.into_iter().zip(verdicts) {
            let attestation = &mut dataset.versions[number].attestations[place];
            (attestation.signer, attestation.doubt) = match verdict {
                Ok(signer) => (Some(signer), None),
                Err(error) => (None, Some(error.reason())),
            };
        }
        dataset
    }

    /// Whose trusted key signed that this version was found to be what the log says.
    async fn verdict(&self, version: &Version, attestation: &Attestation) -> Result<String> {
        let known = remembered(version, &attestation.sha256, attestation.holds);
        let bad = |reason| Error::BadRecord { version: version.to_string(), reason };
        if let Some(verdict) = self.trust.recall(&known) {
            return verdict.map_err(bad);
        }
        let record = self.read_record(version, attestation).await?;
        let verdict = self.believe(&record).and_then(|(statement, signer)| {
            let holds = read(&statement, version)?.holds()?;
            if holds == attestation.holds {
                Ok(signer)
            } else {
                Err("the log says the opposite of it".into())
            }
        });
        self.trust.remember(known, verdict.clone());
        verdict.map_err(bad)
    }

    /// The report of an attestation, once the record is found to be the one in the log and about the
    /// version. Whether to believe it is what [`Attestation::signer`] says.
    pub async fn report(&self, version: &Version, attestation: &Attestation) -> Result<Value> {
        let record = self.read_record(version, attestation).await?;
        let statement = peek(&record).and_then(|statement| read(&statement, version));
        let statement =
            statement.map_err(|reason| Error::BadRecord { version: version.to_string(), reason })?;
        Ok(statement.predicate.report)
    }

    async fn read_record(&self, version: &Version, attestation: &Attestation) -> Result<Bytes> {
        let path = self.attestation_path(&version.dataset, &attestation.sha256);
        let failed = |source| self.failed("read", &path, source);
        let bad = |reason| Error::BadRecord { version: version.to_string(), reason };
        let found = self.store.get(&path).await.map_err(failed)?;
        if found.meta.size > MAX_BYTES as u64 {
            return Err(bad(format!(
                "it has {} bytes, and more than {MAX_BYTES} are not read",
                found.meta.size
            )));
        }
        let record = found.bytes().await.map_err(failed)?;
        if hex::encode(Sha256::digest(&record)) != attestation.sha256 {
            return Err(bad(format!("`{path}` is not the record that the log names")));
        }
        Ok(record)
    }

    fn attestation_path(&self, dataset: &str, sha256: &str) -> Path {
        self.path(&[dataset, "attestations", &format!("{sha256}.dsse.json")])
    }
}

impl Statement {
    fn holds(&self) -> std::result::Result<bool, String> {
        match self.predicate.result.as_str() {
            PASSED => Ok(true),
            FAILED => Ok(false),
            _ => Err(format!("its result is neither `{PASSED}` nor `{FAILED}`")),
        }
    }
}

/// What a verdict on a record depends on, besides the keys.
fn remembered(version: &Version, sha256: &str, holds: bool) -> String {
    format!("{} {sha256} {holds}", version.manifest_sha256)
}

/// A statement about this version and nothing else; or what is wrong with it.
fn read(statement: &[u8], version: &Version) -> std::result::Result<Statement, String> {
    let statement: Statement = serde_json::from_slice(statement)
        .map_err(|_| "it is not a statement of a verification".to_owned())?;
    let [Subject { name, digest }] = statement.subject.as_slice() else {
        return Err(format!("it is about {} files, not about one manifest", statement.subject.len()));
    };
    if name != MANIFEST || digest.sha256 != version.manifest_sha256 {
        return Err("it is about another version".into());
    }
    if statement.kind != STATEMENT_TYPE {
        return Err(format!("it is not an in-toto statement (`{STATEMENT_TYPE}`)"));
    }
    if statement.predicate_type != PREDICATE_TYPE {
        return Err(format!("its predicate is not `{PREDICATE_TYPE}`"));
    }
    Ok(statement)
}
