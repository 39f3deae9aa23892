//! Records of verifications: signed, in the log, and of no use for another version.

use object_store::ObjectStoreExt;
use serde_json::json;

use super::Place;
use crate::{Attestation, Error, sign_report};

#[tokio::test]
async fn a_record_is_signed_and_stays_with_its_version() {
    let place = Place::memory();
    let registry = &place.registry;
    let first = registry.publish(&place.snapshot("a", 1)).await.unwrap();
    let second = registry.publish(&place.snapshot("b", 1)).await.unwrap();
    let failed = registry.attest(&first, false, &json!({ "phi": -2.0 })).await.unwrap();
    let passed = registry.attest(&first, true, &json!({ "phi": -1.0 })).await.unwrap();
    assert_eq!(failed.attestations, passed.attestations[..1]);
    assert_eq!(passed.attestations.iter().map(|one| one.holds).collect::<Vec<_>>(), [false, true]);

    // as whoever folds the log anew sees it
    let dataset = registry.dataset("sixseven").await.unwrap();
    assert_eq!(dataset.versions, [passed.clone(), second.clone()]);
    let key = registry.public_key().unwrap();
    let newest = &passed.attestations[1];
    let report = registry.report(&passed, newest, Some(&key)).await.unwrap();
    assert_eq!(report, json!({ "phi": -1.0 }));

    let refused = |error: Error| matches!(error, Error::BadRecord { .. });
    assert!(refused(registry.report(&second, newest, None).await.unwrap_err()), "of another version");
    let other = Place::memory().registry.public_key().unwrap();
    assert!(refused(registry.report(&passed, newest, Some(&other)).await.unwrap_err()), "of another key");

    let path = registry.path(&["sixseven", "attestations", &format!("{}.dsse.json", newest.sha256)]);
    let bytes = registry.store.get(&path).await.unwrap().bytes().await.unwrap();
    let earlier = Attestation { sha256: passed.attestations[0].sha256.clone(), ..newest.clone() };
    let place = registry.path(&["sixseven", "attestations", &format!("{}.dsse.json", earlier.sha256)]);
    registry.store.put(&place, bytes.into()).await.unwrap();
    assert!(refused(registry.report(&passed, &earlier, Some(&key)).await.unwrap_err()), "put in its place");
}

#[tokio::test]
async fn a_record_from_elsewhere_is_about_the_version_it_is_sent_for() {
    let place = Place::memory();
    let registry = &place.registry;
    let first = registry.publish(&place.snapshot("a", 1)).await.unwrap();
    let second = registry.publish(&place.snapshot("b", 1)).await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let key = elsewhere.path().join("key.pem");
    let record =
        sign_report(&key, "sixseven@v1", &first.manifest_sha256, true, &json!({ "phi": -1.0 })).unwrap();
    let recorded = registry.record(&first, record.clone()).await.unwrap();
    assert!(recorded.attestations[0].holds);
    // sent twice, recorded once
    assert_eq!(registry.record(&first, record.clone()).await.unwrap(), recorded);

    let own = registry.public_key().unwrap();
    let report = registry.report(&recorded, &recorded.attestations[0], Some(&own)).await;
    assert!(matches!(report, Err(Error::BadRecord { .. })), "of another key");
    for (version, record, reason) in
        [(&second, record.clone(), "another version"), (&first, record.replace("payload", "x"), "malformed")]
    {
        let error = registry.record(version, record).await.unwrap_err();
        assert!(matches!(error, Error::BadRecord { .. }) && error.to_string().contains(reason), "{error}");
    }
}
