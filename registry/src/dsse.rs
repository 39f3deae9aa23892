//! DSSE envelopes around in-toto statements, signed with a local Ed25519 key.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{Error, Registry, Result};

/// Larger envelopes are not read, nor those with more signatures.
pub(crate) const MAX_BYTES: usize = 4 << 20;
const MAX_SIGNATURES: usize = 16;
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

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

/// A statement in its envelope, signed by the key in a file. The same statement makes the same bytes.
pub(crate) fn seal(key_file: &Path, statement: &Value) -> Result<String> {
    let key = load_or_create_key(key_file)?;
    let statement = statement.to_string();
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

impl Registry {
    /// The public half of the signing key, in PEM, for whoever verifies signatures. Makes the key
    /// if there is none.
    pub fn public_key(&self) -> Result<String> {
        let key = load_or_create_key(&self.key_file)?.verifying_key();
        Ok(key.to_public_key_pem(LineEnding::LF).expect("an Ed25519 key has a PEM form"))
    }
}

/// A public key: PEM, or its one line between the two of dashes.
pub(crate) fn read_public_key(text: &str) -> Result<VerifyingKey> {
    let pem = match text.trim() {
        pem if pem.starts_with("-----") => format!("{pem}\n"),
        line => format!("-----BEGIN PUBLIC KEY-----\n{line}\n-----END PUBLIC KEY-----\n"),
    };
    VerifyingKey::from_public_key_pem(&pem)
        .map_err(|error| Error::BadKey { place: "the public key".into(), reason: error.to_string() })
}

/// The statement in an envelope and which of these keys signed it; or what is wrong with the envelope.
pub(crate) fn open(keys: &[VerifyingKey], envelope: &[u8]) -> std::result::Result<(Vec<u8>, usize), String> {
    let envelope = parse(envelope)?;
    let payload = STANDARD.decode(&envelope.payload).map_err(|error| malformed(&error))?;
    let signed = pre_authentication_encoding(&payload);
    let signatures: Vec<_> = envelope.signatures.iter().filter_map(EnvelopeSignature::read).collect();
    let has_signed =
        |key: &VerifyingKey| signatures.iter().any(|one| key.verify_strict(&signed, one).is_ok());
    match keys.iter().position(has_signed) {
        Some(signer) => Ok((payload, signer)),
        None if signatures.is_empty() => Err("nobody signed it".into()),
        None => {
            let signers: Vec<_> = envelope.signatures.iter().map(|entry| shortened(&entry.keyid)).collect();
            Err(format!("signed by unknown key `{}`", signers.join("`, `")))
        }
    }
}

/// The statement in an envelope whoever signed it; or what is wrong with it.
pub(crate) fn peek(envelope: &[u8]) -> std::result::Result<Vec<u8>, String> {
    STANDARD.decode(&parse(envelope)?.payload).map_err(|error| malformed(&error))
}

fn parse(envelope: &[u8]) -> std::result::Result<Envelope, String> {
    if envelope.len() > MAX_BYTES {
        return Err(format!("it has {} bytes, and more than {MAX_BYTES} are not read", envelope.len()));
    }
    let envelope: Envelope = serde_json::from_slice(envelope).map_err(|error| malformed(&error))?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(format!("its payload is `{}`, not `{PAYLOAD_TYPE}`", shortened(&envelope.payload_type)));
    }
    if envelope.signatures.len() > MAX_SIGNATURES {
        return Err(format!("it has more than {MAX_SIGNATURES} signatures"));
    }
    Ok(envelope)
}

fn malformed(error: &dyn std::fmt::Display) -> String {
    format!("it is malformed ({})", shortened(&error.to_string()))
}

/// The beginning of a text that a stranger wrote, fit for an error.
fn shortened(text: &str) -> String {
    text.escape_debug().take(80).collect()
}

impl EnvelopeSignature {
    fn read(&self) -> Option<Signature> {
        Signature::from_slice(&STANDARD.decode(&self.sig).ok()?).ok()
    }
}

/// What DSSE signs, so that a payload cannot pass as one of another type.
fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
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
