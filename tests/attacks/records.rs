//! A false verification: sent to the daemon, and put into the store past it.

use std::fs;
use std::path::Path;

use dpg_registry::{Registry, open_store, sign_report};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::published::{publish, registry};
use crate::{IDLE, Target, dpg, good, said, sent};

const ADDRESS: &str = "/v1/datasets/six/versions/v1/attestations";

/// The public half of a new key in a file.
fn public_key(file: &Path) -> String {
    let (store, prefix) = open_store("memory:").unwrap();
    Registry::new(store, prefix, file).public_key().unwrap()
}

#[tokio::test]
async fn a_false_verification_is_neither_taken_nor_believed() {
    let folder = tempfile::tempdir().unwrap();
    let key = public_key(&folder.path().join("trusted.pem"));
    let settings = format!("{IDLE}[trust.keys]\nnightly = {key:?}\n");
    let target = Target::start_in(folder, &settings).await;
    fs::copy(target.folder.path().join("dpg.toml"), target.data().join("dpg.toml")).unwrap();
    let version = publish(&target.data(), "six", "a").await;
    let submitter = target.token("submitter", &["submit", "read"], json!({})).await;
    let send = async |record: &str| {
        let body = json!({ "record": record });
        sent(target.anonymous(Method::POST, ADDRESS).bearer_auth(&submitter).json(&body)).await
    };
    let sign = |key: &str| {
        let key = target.folder.path().join(key);
        sign_report(&key, "six@v1", &version.manifest_sha256, true, &json!({})).unwrap()
    };
    let good_record = sign("trusted.pem");
    let mut bare: Value = serde_json::from_str(&good_record).unwrap();
    bare["signatures"] = json!([]);
    let mut odd = bare.clone();
    odd["payloadType"] = json!("text/html");
    for (record, why) in [
        (odd.to_string(), "text/html"),
        (bare.to_string(), "nobody signed it"),
        (sign("stranger.pem"), "signed by unknown key"),
        ("{}".into(), "malformed"),
    ] {
        let (status, body) = send(&record).await;
        assert!(status == 422 && body.contains(why), "{status} {body}");
    }
    let path = "/v1/datasets/six/versions/v1";
    let shown = async || good(target.request(Method::GET, path)).await["attestations"].clone();
    assert_eq!(shown().await, json!([]));

    // past the daemon, by whoever can write to the store
    let forged = sign("stranger.pem");
    let sha256 = hex::encode(Sha256::digest(&forged));
    let dataset = target.data().join("registry/six");
    fs::create_dir_all(dataset.join("attestations")).unwrap();
    fs::write(dataset.join(format!("attestations/{sha256}.dsse.json")), &forged).unwrap();
    let entry = json!({ "seq": 1, "at": "2026-03-02T00:00:00Z", "nonce": "n", "op": "attest", "version": 1,
        "holds": true, "sha256": sha256 });
    fs::write(dataset.join("log/000000000001.json"), entry.to_string()).unwrap();
    let attestations = shown().await;
    assert_eq!(attestations[0]["signer"], Value::Null, "{attestations}");
    assert!(attestations[0]["doubt"].as_str().unwrap().contains("unknown key"), "{attestations}");
    let of_daemon = ["--url", &target.url];
    for arguments in [&["datasets", "show", "six@v1"][..], &["datasets", "six"]] {
        for place in [&[][..], &of_daemon] {
            let (_, text) = said(&mut dpg(target.folder.path(), &[arguments, place].concat()));
            assert!(text.contains("unverified: signed by unknown key"), "{text}");
            assert!(!text.contains("  verified") && !text.contains("passed"), "{text}");
        }
    }

    // one that a listed key signed counts, and its name is shown
    let (status, body) = send(&good_record).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(shown().await[1]["signer"], "nightly");
    for place in [&[][..], &of_daemon] {
        let arguments = [&["datasets", "show", "six@v1"][..], place].concat();
        let (_, text) = said(&mut dpg(target.folder.path(), &arguments));
        assert!(
            text.contains("signed by the trusted key `nightly`") && text.contains("  verified"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn provenance_names_its_signer() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    publish(&data, "six", "a").await;
    let (fine, text) = said(&mut dpg(folder.path(), &["datasets", "verify-signature", "six@v1"]));
    assert!(fine && text.contains("signed by own key"), "{text}");
    // the same files, and another machine's key
    fs::remove_file(data.join("signing-key.pem")).unwrap();
    registry(&data).public_key().unwrap();
    let (fine, text) = said(&mut dpg(folder.path(), &["datasets", "verify-signature", "six@v1"]));
    assert!(!fine && text.contains("signed by unknown key"), "{text}");
}
