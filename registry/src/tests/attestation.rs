//! Records of verifications: signed, in the log, and of no use for another version.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use object_store::ObjectStoreExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Place;
use crate::log::Op;
use crate::{Attestation, Dataset, Error, OWN_KEY, sign_report};

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
    let newest = &passed.attestations[1];
    assert_eq!((newest.signer.as_deref(), &newest.doubt), (Some(OWN_KEY), &None));
    let report = registry.report(&passed, newest).await.unwrap();
    assert_eq!(report, json!({ "phi": -1.0 }));

    let refused = |error: Error| matches!(error, Error::BadRecord { .. });
    assert!(refused(registry.report(&second, newest).await.unwrap_err()), "of another version");

    let path = registry.path(&["sixseven", "attestations", &format!("{}.dsse.json", newest.sha256)]);
    let bytes = registry.store.get(&path).await.unwrap().bytes().await.unwrap();
    let earlier = Attestation { sha256: passed.attestations[0].sha256.clone(), ..newest.clone() };
    let place = registry.path(&["sixseven", "attestations", &format!("{}.dsse.json", earlier.sha256)]);
    registry.store.put(&place, bytes.into()).await.unwrap();
    assert!(refused(registry.report(&passed, &earlier).await.unwrap_err()), "put in its place");
}

#[tokio::test]
async fn a_record_from_elsewhere_counts_if_its_key_is_trusted() {
    let place = Place::memory();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("key.pem");
    let key = place.with_key(&file).public_key().unwrap();
    let one_line: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    for key in [key, one_line] {
        let registry = place.registry.clone().trusting([(&"nightly".to_owned(), &key)]).unwrap();
        let job = format!("{}", key.len());
        let first = registry.publish(&place.snapshot(&job, 1)).await.unwrap();
        let name = first.to_string();
        let record =
            sign_report(&file, &name, &first.manifest_sha256, true, &json!({ "phi": -1.0 })).unwrap();
        let refused = place.registry.record(&first, record.clone()).await.unwrap_err().to_string();
        assert!(refused.contains("signed by unknown key"), "{refused}");
        let recorded = registry.record(&first, record.clone()).await.unwrap();
        let one = &recorded.attestations[0];
        assert!(one.is_proof() && one.signer.as_deref() == Some("nightly"), "{one:?}");
        // sent twice, recorded once
        assert_eq!(registry.record(&first, record.clone()).await.unwrap(), recorded);
        // whoever does not trust the key does not believe it
        let seen = place.registry.resolve("sixseven", &format!("v{}", first.number)).await.unwrap();
        let one = &seen.attestations[0];
        assert!(!one.is_proof() && one.doubt.as_ref().unwrap().contains("unknown key"), "{one:?}");
        // and it is of no use for another version
        let second = registry.publish(&place.snapshot(&format!("{job}b"), 1)).await.unwrap();
        let error = registry.record(&second, record).await.unwrap_err().to_string();
        assert!(error.contains("another version"), "{error}");
    }
}

/// What somebody may try who can write to the store or send records.
#[tokio::test]
async fn forged_records_are_not_believed() {
    let place = Place::memory();
    let registry = &place.registry;
    let version = registry.publish(&place.snapshot("a", 1)).await.unwrap();
    let good = sign_report(&registry.key_file, "sixseven@v1", &version.manifest_sha256, true, &json!({}));
    let good: Value = serde_json::from_str(&good.unwrap()).unwrap();
    let payload = STANDARD.decode(good["payload"].as_str().unwrap()).unwrap();
    let statement: Value = serde_json::from_slice(&payload).unwrap();
    // signed by the right key
    let sealed = |change: &dyn Fn(&mut Value)| {
        let mut statement = statement.clone();
        change(&mut statement);
        crate::dsse::seal(&registry.key_file, &statement).unwrap()
    };
    // in the envelope
    let wrapped = |change: &dyn Fn(&mut Value)| {
        let mut envelope = good.clone();
        change(&mut envelope);
        envelope.to_string()
    };
    let subject = statement["subject"][0].clone();
    let forged = [
        (wrapped(&|e| e["signatures"] = json!([])), "nobody signed it"),
        (wrapped(&|e| e["payloadType"] = json!("text/odd")), "its payload is `text/odd`"),
        (wrapped(&|e| e["signatures"][0]["sig"] = json!(STANDARD.encode([7; 64]))), "unknown key"),
        (wrapped(&|e| e["signatures"][0]["sig"] = json!("")), "nobody signed it"),
        (wrapped(&|e| e["payload"] = json!(STANDARD.encode(statement.to_string() + " "))), "unknown key"),
        (wrapped(&|e| e["signatures"] = json!(vec![e["signatures"][0].clone(); 17])), "more than 16"),
        (sealed(&|s| s["_type"] = json!("https://in-toto.io/Statement/v0.1")), "in-toto"),
        (sealed(&|s| s["predicateType"] = json!("https://slsa.dev/provenance/v1")), "predicate"),
        (sealed(&|s| s["subject"] = json!([])), "about 0 files"),
        (sealed(&|s| s["subject"] = json!([subject, subject])), "about 2 files"),
        (sealed(&|s| s["subject"][0]["name"] = json!("README.md")), "another version"),
        (sealed(&|s| s["subject"][0]["digest"]["sha256"] = json!("0".repeat(64))), "another version"),
        (sealed(&|s| s["subject"][0]["digest"] = json!({"sha1": "0"})), "not a statement"),
        (sealed(&|s| s["predicate"]["result"] = json!("passed")), "neither"),
        ("x".repeat(crate::dsse::MAX_BYTES + 1), "are not read"),
        ("{".into(), "malformed"),
    ];
    for (record, reason) in forged {
        let error = registry.record(&version, record.clone()).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}, not {reason}");
        // past the check, as a writer of the store puts it there
        let sha256 = hex::encode(Sha256::digest(&record));
        let path = registry.path(&["sixseven", "attestations", &format!("{sha256}.dsse.json")]);
        registry.store.put(&path, record.into_bytes().into()).await.unwrap();
        let propose = |_: &Dataset| Ok(Some(Op::Attest { version: 1, holds: true, sha256: sha256.clone() }));
        registry.append("sixseven", propose).await.unwrap();
        let seen = registry.resolve("sixseven", "v1").await.unwrap();
        let last = seen.attestations.last().unwrap();
        assert!(!last.is_proof() && last.doubt.as_ref().unwrap().contains(reason), "{last:?}, not {reason}");
    }
    // a record that failed, entered as one that passed; and one that is not there
    let failed = sign_report(&registry.key_file, "sixseven@v1", &version.manifest_sha256, false, &json!({}));
    registry.record(&version, failed.unwrap()).await.unwrap();
    let failed = registry.resolve("sixseven", "v1").await.unwrap().attestations.pop().unwrap();
    assert!(failed.signer.is_some() && !failed.is_proof());
    for (sha256, reason) in [(failed.sha256, "opposite"), ("0".repeat(64), "missing")] {
        let propose = |_: &Dataset| Ok(Some(Op::Attest { version: 1, holds: true, sha256: sha256.clone() }));
        registry.append("sixseven", propose).await.unwrap();
        let last = registry.resolve("sixseven", "v1").await.unwrap().attestations.pop().unwrap();
        assert!(!last.is_proof() && last.doubt.as_ref().unwrap().contains(reason), "{last:?}");
    }
}
