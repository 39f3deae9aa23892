//! Where a snapshot came from: an in-toto Statement v1 with a SLSA provenance v1 predicate, in a
//! DSSE envelope signed with a local Ed25519 key.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::SecondsFormat;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::snapshot::PROVENANCE;
use crate::{Error, ManifestFile, Registry, Result, Snapshot, Version};

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

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

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Serialize, Deserialize)]
struct EnvelopeSignature {
    keyid: String,
    sig: String,
}

impl Registry {
    /// The envelope about a snapshot's files. The same snapshot makes the same bytes.
    pub(crate) fn sign(&self, snapshot: &Snapshot, files: &[ManifestFile]) -> Result<String> {
        let key = load_or_create_key(&self.key_file)?;
        let statement = statement(snapshot, files).to_string();
        let signature = key.sign(&pre_authentication_encoding(statement.as_bytes()));
        let envelope = Envelope {
            payload_type: PAYLOAD_TYPE.into(),
            payload: STANDARD.encode(statement),
            signatures: vec![EnvelopeSignature {
                keyid: key_id(&key.verifying_key()),
                sig: STANDARD.encode(signature.to_bytes()),
            }],
        };
        Ok(serde_json::to_string_pretty(&envelope).expect("an envelope is plain data") + "\n")
    }

    /// The public half of the signing key, in PEM, for whoever verifies signatures. Makes the key
    /// if there is none.
    pub fn public_key(&self) -> Result<String> {
        let key = load_or_create_key(&self.key_file)?.verifying_key();
        Ok(key.to_public_key_pem(LineEnding::LF).expect("an Ed25519 key has a PEM form"))
    }

    /// Checks that a version's provenance is signed by this public key (PEM) and is about exactly
    /// the version's files, by hash. That the files have these hashes is for [`Registry::verify`].
    pub async fn verify_signature(&self, version: &Version, public_key: &str) -> Result<()> {
        let key = VerifyingKey::from_public_key_pem(public_key)
            .map_err(|error| Error::BadKey { place: "the public key".into(), reason: error.to_string() })?;
        let manifest = self.manifest(version).await?;
        let envelope = self.read_file(version, PROVENANCE).await?;
        let subjects = verified_subjects(&key, &envelope)
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

/// What DSSE signs, so that a payload cannot pass as one of another type.
fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// The files that a signed envelope is about, with their hashes; or what is wrong with it.
fn verified_subjects(
    key: &VerifyingKey,
    envelope: &[u8],
) -> std::result::Result<BTreeMap<String, String>, String> {
    #[derive(Deserialize)]
    struct Statement {
        subject: Vec<Subject>,
    }
    #[derive(Deserialize)]
    struct Subject {
        name: String,
        digest: BTreeMap<String, String>,
    }

    let malformed = |error: &dyn std::fmt::Display| format!("it is malformed ({error})");
    let envelope: Envelope = serde_json::from_slice(envelope).map_err(|error| malformed(&error))?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(format!("its payload is `{}`, not `{PAYLOAD_TYPE}`", envelope.payload_type));
    }
    let payload = STANDARD.decode(&envelope.payload).map_err(|error| malformed(&error))?;
    let signed = pre_authentication_encoding(&payload);
    let is_signature = |entry: &EnvelopeSignature| {
        let bytes = STANDARD.decode(&entry.sig).ok();
        let signature = bytes.and_then(|bytes| Signature::from_slice(&bytes).ok());
        signature.is_some_and(|signature| key.verify_strict(&signed, &signature).is_ok())
    };
    if !envelope.signatures.iter().any(is_signature) {
        let signers: Vec<_> = envelope.signatures.iter().map(|entry| entry.keyid.as_str()).collect();
        return Err(format!("no signature by key `{}`, but by `{}`", key_id(key), signers.join("`, `")));
    }
    let statement: Statement = serde_json::from_slice(&payload).map_err(|error| malformed(&error))?;
    let hash = |mut subject: Subject| Some((subject.name, subject.digest.remove("sha256")?));
    Ok(statement.subject.into_iter().filter_map(hash).collect())
}

fn key_id(key: &VerifyingKey) -> String {
    let der = key.to_public_key_der().expect("an Ed25519 key has a DER form");
    hex::encode(Sha256::digest(der))
}

/// The key in a file; a new one if there is no file. Of several processes that make it at once one
/// wins, and all use its key.
fn load_or_create_key(path: &Path) -> Result<SigningKey> {
    match fs::read_to_string(path) {
        Ok(pem) => SigningKey::from_pkcs8_pem(&pem)
            .map_err(|error| Error::BadKey { place: path.display().to_string(), reason: error.to_string() }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create_key(path).map_err(|source| Error::of_file("create", path, source))?;
            load_or_create_key(path)
        }
        Err(source) => Err(Error::of_file("read", path, source)),
    }
}

fn create_key(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let key = SigningKey::from_bytes(&rand::random());
    let pem = key.to_pkcs8_pem(LineEnding::LF).expect("an Ed25519 key has a PEM form");
    let draft = path.with_extension(format!("{}.partial", Uuid::new_v4()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let made = options.open(&draft).and_then(|mut file| {
        file.write_all(pem.as_bytes())?;
        file.sync_all()?;
        fs::hard_link(&draft, path)
    });
    let _ = fs::remove_file(&draft);
    match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}
