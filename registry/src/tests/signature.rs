//! Provenance: what is signed, by which key, and what does not pass.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::DecodePublicKey;
use ed25519_dalek::{Signature, VerifyingKey};
use futures::future::join_all;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::Value;

use super::Place;
use crate::Error;

const ENVELOPE: &str = "sixseven/snapshots/a-1/provenance.dsse.json";

#[tokio::test]
async fn the_statement_is_signed_as_dsse_says() {
    let place = Place::memory();
    let snapshot = place.snapshot("a", 1);
    let version = place.registry.publish(&snapshot).await.unwrap();
    let bytes = place.registry.store.get(&Path::from(ENVELOPE)).await.unwrap().bytes().await.unwrap();
    let envelope: Value = serde_json::from_slice(&bytes).unwrap();
    let decode = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    let payload = decode(&envelope["payload"]);

    let mut signed = format!("DSSEv1 28 application/vnd.in-toto+json {} ", payload.len()).into_bytes();
    signed.extend(&payload);
    let key = VerifyingKey::from_public_key_pem(&place.registry.public_key().unwrap()).unwrap();
    let signature = Signature::from_slice(&decode(&envelope["signatures"][0]["sig"])).unwrap();
    key.verify_strict(&signed, &signature).unwrap();

    let statement: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let subjects = statement["subject"].as_array().unwrap();
    let manifest = place.registry.manifest(&version).await.unwrap();
    assert_eq!(subjects.len(), manifest.files.len() - 1);
    let dependencies = &statement["predicate"]["buildDefinition"]["resolvedDependencies"];
    assert_eq!((&dependencies[0]["name"], &dependencies[1]["name"]), (&"spec".into(), &"target".into()));
    assert_eq!(dependencies[1]["digest"]["sha256"], snapshot.dependencies[0].digest["sha256"].as_str());
    assert_eq!(statement["predicate"]["runDetails"]["metadata"]["invocationId"], "a-1");
}

#[tokio::test]
async fn signatures_by_others_and_of_other_files_do_not_pass() {
    let place = Place::memory();
    let registry = &place.registry;
    let version = registry.publish(&place.snapshot("a", 1)).await.unwrap();
    let key = registry.public_key().unwrap();
    registry.verify_signature(&version, Some(&key)).await.unwrap();
    assert_eq!(registry.verify_signature(&version, None).await.unwrap(), crate::OWN_KEY);
    let stranger = place.with_key(&place.folder.path().join("stranger.pem"));
    let error = stranger.verify_signature(&version, None).await.unwrap_err().to_string();
    assert!(error.contains("unknown key"), "{error}");

    let other = Place::memory().registry.public_key().unwrap();
    let error = registry.verify_signature(&version, Some(&other)).await.unwrap_err();
    assert!(matches!(error, Error::BadSignature { .. }), "{error}");
    assert!(matches!(registry.verify_signature(&version, Some("no key")).await, Err(Error::BadKey { .. })));

    // A signed envelope of another version, and one whose payload was changed.
    let second = registry.publish(&place.snapshot("b", 1)).await.unwrap();
    let path = Path::from(ENVELOPE);
    let read = async |path: &Path| registry.store.get(path).await.unwrap().bytes().await.unwrap();
    let mut changed: Value = serde_json::from_slice(&read(&path).await).unwrap();
    changed["payload"] = STANDARD.encode("{\"subject\":[]}").into();
    let envelopes =
        [read(&Path::from(ENVELOPE.replace("a-1", "b-1"))).await, changed.to_string().into(), "{".into()];
    for envelope in envelopes {
        registry.store.put(&path, envelope.into()).await.unwrap();
        let error = registry.verify_signature(&version, Some(&key)).await.unwrap_err();
        assert!(matches!(error, Error::BadSignature { .. }), "{error}");
    }
    registry.verify_signature(&second, Some(&key)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_key_is_made_once_and_kept_private() {
    let place = Place::memory();
    let tasks = (0..16).map(|_| {
        let registry = place.registry.clone();
        tokio::task::spawn_blocking(move || registry.public_key().unwrap())
    });
    let keys: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    assert!(keys.iter().all(|key| key == &keys[0]));
    let folder: Vec<_> =
        fs::read_dir(place.folder.path().join("keys")).unwrap().map(Result::unwrap).collect();
    assert_eq!(folder.len(), 1);
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&folder[0].metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
    fs::write(folder[0].path(), "not a key").unwrap();
    let error = place.registry.publish(&place.snapshot("a", 1)).await.unwrap_err();
    assert!(matches!(&error, Error::BadKey { place, .. } if place.ends_with("signing.pem")), "{error}");
}
