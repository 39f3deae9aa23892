//! The registry from the command line, in a folder and in a bucket.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use dpg_queue::Scope;
use dpg_registry::Registry;
use reqwest::StatusCode;
use reqwest::header::RANGE;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{listening, published, s3, snapshot, token};

/// Runs `dpg` on a data folder, or without one where the arguments name another.
fn dpg(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg"));
    command.current_dir(folder).env_remove("DPG_STORE").env_remove("DPG_DATABASE");
    command.env("DPG_DATA_DIR", folder.join("data")).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refusal(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn versions_are_listed_tagged_withdrawn_and_compared_from_the_command_line() {
    let (folder, _) = published().await;
    let dpg = |arguments: &[&str]| dpg(folder.path(), arguments);
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&text(&dpg(&[&["--json"], arguments].concat()))).unwrap()
    };
    for list in [&["datasets"][..], &["datasets", "list"]] {
        assert_eq!(text(&dpg(list)).trim(), "six                      3 version(s), latest v3, 302 rows");
    }
    for versions in [&["datasets", "six"][..], &["datasets", "list", "six"]] {
        let lines = text(&dpg(versions));
        assert_eq!(lines.lines().count(), 3);
        assert!(lines.contains("  gold\n") && lines.trim_end().ends_with("  latest"), "{lines}");
    }

    let shown = text(&dpg(&["datasets", "show", "six@gold"]));
    assert!(shown.starts_with("six@v2  gold\n") && shown.contains("never tried out"), "{shown}");
    text(&dpg(&["datasets", "tag", "six@v1", "silver"]));
    assert_eq!(text(&dpg(&["datasets", "untag", "six", "gold"])).trim(), "removed tag `six@gold`");
    assert_eq!(json(&["datasets", "six"])["tags"], json!({ "silver": 1 }));
    assert!(refusal(&dpg(&["datasets", "untag", "six", "gold"])).contains("no version `gold`"));
    assert!(refusal(&dpg(&["datasets", "yank", "six", "--reason", "x"])).contains("expected `six@vN`"));
    text(&dpg(&["datasets", "yank", "six@v3", "--reason", "wrong prompts"]));
    assert!(text(&dpg(&["datasets", "six"])).trim_end().ends_with("withdrawn: wrong prompts"));

    let diff = json(&["datasets", "diff", "six@silver", "v2"]);
    assert_eq!((&diff["from"], &diff["to"]), (&json!("six@v1"), &json!("six@v2")));
    assert_eq!((&diff["rows_added"], &diff["rows_removed"]), (&json!(301), &json!(300)));
    assert_eq!(diff["metrics"], json!([{ "name": "Phi", "from": 1.0, "to": 2.0 }]));
    assert_eq!(diff["spec"], json!([{ "key": "seed", "from": "1", "to": "2" }]));
    let shown = text(&dpg(&["datasets", "diff", "six@v1", "six@v2"]));
    assert!(shown.contains("301 added, 300 removed, 0 kept") && shown.contains("seed: 1 -> 2"), "{shown}");

    let fetched = folder.path().join("fetched");
    let fetched = fetched.to_str().unwrap();
    let withdrawn = dpg(&["fetch", "six@v3", fetched]);
    assert!(text(&withdrawn).contains("302 rows"));
    assert!(String::from_utf8_lossy(&withdrawn.stderr).contains("withdrawn: wrong prompts"));

    // the same from another data folder, by the store's address
    let store = folder.path().join("data/registry");
    let (elsewhere, store) = (tempfile::tempdir().unwrap(), store.to_str().unwrap());
    let arguments = ["datasets", "list", "--store", store];
    assert!(text(&self::dpg(elsewhere.path(), &arguments)).starts_with("six "));
    let arguments = ["fetch", "six@v1", fetched, "--store", store];
    assert!(text(&self::dpg(elsewhere.path(), &arguments)).contains("300 rows"));
}

#[tokio::test]
async fn versions_are_checked_and_cleaned_from_the_command_line() {
    let (folder, registry) = published().await;
    let dpg = |arguments: &[&str]| dpg(folder.path(), arguments);
    text(&dpg(&["datasets", "verify", "six@gold"]));
    text(&dpg(&["datasets", "verify-signature", "six@gold"]));
    let key = folder.path().join("key.pem");
    fs::write(&key, text(&dpg(&["datasets", "public-key"]))).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let store = folder.path().join("data/registry");
    let checked = |extra: &[&str]| {
        let arguments = ["datasets", "verify-signature", "six", "--store", store.to_str().unwrap()];
        self::dpg(elsewhere.path(), &[&arguments, extra].concat())
    };
    assert!(refusal(&checked(&[])).contains("signed by unknown key"));
    text(&checked(&["--key", key.to_str().unwrap()]));
    text(&self::dpg(elsewhere.path(), &["datasets", "public-key"]));
    assert!(refusal(&checked(&[])).contains("signed by unknown key"));

    // v3 is the latest and v2 tagged: v1 is all that may go, once a newer one is kept beside it
    registry.publish(&snapshot(folder.path(), 4)).await.unwrap();
    let gc = ["datasets", "gc", "--keep", "1", "--hours", "0"];
    let planned = text(&dpg(&[&gc[..], &["--dry-run"]].concat()));
    assert_eq!(planned.trim(), "would retire six@v1");
    text(&dpg(&["datasets", "verify", "six@v1"]));
    let done = text(&dpg(&gc));
    assert!(done.starts_with("retired six@v1\nremoved six, job-1-1, retired v1: "), "{done}");
    assert!(refusal(&dpg(&["datasets", "verify", "six@v1"])).contains("was retired"));
    assert_eq!(text(&dpg(&gc)).trim(), "nothing to remove");
    text(&dpg(&["datasets", "verify", "six@v2"]));

    let shard = "six/snapshots/job-2-1/data/train-00000-of-00001.parquet";
    fs::write(store.join(shard), "damaged").unwrap();
    assert!(refusal(&dpg(&["datasets", "verify", "six@v2"])).contains("six@v2 is damaged: `data/train-0"));
}

/// Publisher, reader and command line meet in a bucket and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_serves_as_well_as_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let server = s3::Server::start(&folder.path().join("s3"), 0).await;
    let key = folder.path().join("elsewhere.pem");
    let registry = Registry::new(server.bucket(), "team/a".into(), key);
    let version = registry.publish(&snapshot(folder.path(), 1)).await.unwrap();

    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpg"));
        command.current_dir(folder.path()).envs(server.environment()).env_remove("DPG_DATABASE");
        command.env("DPG_STORE", "s3://bucket/team/a").args(["--data-dir", "data"]).args(arguments);
        command
    };
    let dpg = async |arguments: &[&str]| {
        let mut command = command(arguments);
        // the server answers on this runtime
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    };
    assert_eq!(
        text(&dpg(&["datasets"]).await).trim(),
        "six                      1 version(s), latest v1, 300 rows"
    );
    text(&dpg(&["datasets", "tag", "six", "gold"]).await);
    assert!(text(&dpg(&["fetch", "six@gold", "fetched"]).await).contains("300 rows"));
    text(&dpg(&["datasets", "verify", "six@gold"]).await);
    assert_eq!(text(&dpg(&["datasets", "gc", "--dry-run"]).await).trim(), "nothing to remove");
    let checks: Value = serde_json::from_str(&text(&dpg(&["doctor", "--json"]).await)).unwrap();
    let store = checks["checks"].as_array().unwrap().iter().find(|check| check["check"] == "store").unwrap();
    assert_eq!(store["detail"], "`s3://bucket/team/a` keeps racing creates apart");

    let (mut daemon, url) = {
        let mut command = command(&["serve", "--listen", "127.0.0.1:0"]);
        tokio::task::spawn_blocking(move || listening(&mut command)).await.unwrap()
    };
    let reader = token(&folder.path().join("data"), "reader", Scope::Read).await;
    let client = reqwest::Client::new();
    let file = registry.files(&version).await.unwrap().swap_remove(0);
    let address = format!("{url}/datasets/dpg/six/resolve/gold/{}", file.path);
    let request = client.get(&address).bearer_auth(&reader).header(RANGE, "bytes=-5");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
    let whole = client.get(&address).bearer_auth(&reader).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(hex::encode(Sha256::digest(&whole)), file.sha256);
    assert_eq!(answer.bytes().await.unwrap(), whole[whole.len() - 5..]);
    let _ = daemon.kill();
    let _ = daemon.wait();
}
