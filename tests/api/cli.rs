//! The commands, with a daemon and without one.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::{Daemon, IDLE, SPEC, dpg, fail, folder, json_of, succeed};

#[test]
fn without_a_daemon_the_data_folder_answers() {
    let folder = folder();
    let path = folder.path();
    let submitted = json_of(&mut dpg(path, &["submit", "spec.toml", "--key", "k", "--priority", "-2"]));
    assert_eq!((&submitted["created"], &submitted["job"]["priority"]), (&true.into(), &(-2).into()));
    let again = succeed(&mut dpg(path, &["submit", "spec.toml", "--key", "k"]));
    assert!(again.contains("live job") && again.contains("no daemon is running"), "{again}");
    everything(path, submitted["job"]["id"].as_str().unwrap());
    let token = fs::metadata(path.join("data/admin.token")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&token.permissions()) & 0o777, 0o600);
}

#[tokio::test]
async fn a_daemon_is_found_by_its_data_folder() {
    let daemon = Daemon::start(IDLE).await;
    let submitted = json_of(&mut dpg(daemon.path(), &["submit", "spec.toml"]));
    everything(daemon.path(), submitted["job"]["id"].as_str().unwrap());
    assert!(daemon.log().contains("/v1/jobs/{job}/retry"), "the daemon was not asked");
}

/// What both must do with one queued job named `tiny`.
fn everything(path: &std::path::Path, id: &str) {
    let list = succeed(&mut dpg(path, &["list"]));
    assert!(list.contains(id) && list.contains("queued"), "{list}");
    let none = json_of(&mut dpg(path, &["list", "--state", "failed"]));
    assert_eq!(none, Value::Array(vec![]));
    for job in [id, "tiny"] {
        assert_eq!(json_of(&mut dpg(path, &["status", job]))["id"], id);
    }
    let status = succeed(&mut dpg(path, &["status", "tiny"]));
    assert!(status.contains("0 of 3") && status.contains("submitted"), "{status}");
    assert!(succeed(&mut dpg(path, &["cancel", "tiny"])).contains("is cancelled"));
    let followed = dpg(path, &["logs", "tiny", "-f"]).output().unwrap();
    assert_eq!(followed.status.code(), Some(1), "it was cancelled");
    let followed = crate::text(&followed.stdout);
    assert_eq!(followed.lines().count(), 2, "{followed}");
    assert_eq!(followed, succeed(&mut dpg(path, &["logs", id])));
    assert!(succeed(&mut dpg(path, &["retry", id])).contains("queued again"));
    assert!(fail(&mut dpg(path, &["status", "nothing"])).contains("there is no job `nothing`"));

    let add = ["schedule", "add", "nightly", "spec.toml", "--cron", "0 2 * * *", "--zone", "Europe/Berlin"];
    let policies = ["--jitter", "10m", "--overlap", "replace", "--catchup", "all"];
    let added = json_of(dpg(path, &add).args(policies));
    assert_eq!(added["upcoming"].as_array().unwrap().len(), 5);
    assert_eq!((&added["jitter_seconds"], &added["overlap"]), (&600.into(), &"replace".into()));
    let job = json_of(&mut dpg(path, &["schedule", "run", "nightly"]));
    assert_eq!(job["schedule"], added["id"]);
    assert!(succeed(&mut dpg(path, &["schedule", "pause", "nightly"])).contains("paused since"));
    assert!(succeed(&mut dpg(path, &["schedule", "list"])).contains("paused"));
    assert!(succeed(&mut dpg(path, &["schedule", "resume", "nightly"])).contains("active"));
    let shown = succeed(&mut dpg(path, &["schedule", "show", "nightly"]));
    assert!(shown.contains("Europe/Berlin") && shown.contains("T02:00:00+0"), "{shown}");
    succeed(&mut dpg(path, &["schedule", "remove", "nightly"]));
    assert!(fail(&mut dpg(path, &["schedule", "show", "nightly"])).contains("there is no schedule"));

    let secret = succeed(&mut dpg(path, &["token", "create", "ci", "--scope", "read", "--expires", "30d"]));
    assert!(secret.starts_with("dpg_") && secret.lines().count() == 1, "{secret}");
    assert!(succeed(&mut dpg(path, &["token", "list"])).contains("ci"));
    assert!(fail(&mut dpg(path, &["token", "create", "ci", "--scope", "read"])).contains("exists"));
    succeed(&mut dpg(path, &["token", "revoke", "ci"]));
    assert!(fail(&mut dpg(path, &["token", "revoke", "ci"])).contains("there is no token"));
}

#[tokio::test]
async fn a_daemon_is_found_by_its_address() {
    let daemon = Daemon::start(IDLE).await;
    let reader = daemon.token("reader", &["read"]).await;
    let elsewhere = folder();
    let remote = |arguments: &[&str], token: &str| {
        let mut command = dpg(elsewhere.path(), arguments);
        command.env("DPG_URL", &daemon.url).env("DPG_TOKEN", token);
        command
    };
    succeed(&mut remote(&["submit", "spec.toml"], &daemon.token));
    assert!(succeed(&mut remote(&["list"], &reader)).contains("tiny"));
    let refused = fail(&mut remote(&["cancel", "tiny"], &reader));
    assert!(refused.contains("scope `submit`") && refused.contains("hint: "), "{refused}");
    assert!(fail(&mut remote(&["list"], "")).contains("no token"));
    let away = fail(&mut dpg(elsewhere.path(), &["list", "--url", "http://127.0.0.1:1"]));
    assert!(away.contains("cannot reach the daemon at `http://127.0.0.1:1/`"), "{away}");
    assert!(fail(&mut dpg(elsewhere.path(), &["list", "--url", "nonsense"])).contains("daemon's address"));
    assert!(!elsewhere.path().join("data/queue.db").exists(), "the local folder was used");
}

#[tokio::test]
async fn waiting_ends_with_the_job_and_tells_how_it_ended() {
    let daemon = Daemon::start(IDLE).await;
    let waiting = dpg(daemon.path(), &["submit", "spec.toml", "--wait", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while daemon.get("/v1/jobs").await["jobs"].as_array().unwrap().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    daemon.post("/v1/jobs/tiny/cancel").await;
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let job: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(job["state"], "cancelled");
    assert!(crate::text(&output.stderr).contains("is cancelled"));
}

#[test]
fn specs_are_made_fit_for_travel() {
    let folder = folder();
    let path = folder.path();
    fs::write(path.join("prompts.jsonl"), "{\"text\": \"a\"}\n").unwrap();
    let relative = SPEC.replace("embedded:prompts/articles.jsonl", "prompts.jsonl");
    fs::write(path.join("relative.toml"), relative).unwrap();
    succeed(&mut dpg(path, &["submit", "relative.toml"]));
    let job = json_of(&mut dpg(path, &["status", "tiny"]));
    let absolute = path.canonicalize().unwrap().join("prompts.jsonl");
    let stored = job["resolved"]["generator"]["prompts"]["path"].as_str().unwrap();
    assert_eq!(std::path::Path::new(stored).canonicalize().unwrap(), absolute);

    fs::write(path.join("wrong.toml"), SPEC.replace("steps = 1", "stpes = 1")).unwrap();
    let refused = fail(&mut dpg(path, &["submit", "wrong.toml"]));
    assert!(refused.contains("policy.stpes") && refused.contains("did you mean `steps`"), "{refused}");
}

/// A job that runs: without a daemon, by the waiting process itself.
#[test]
fn waiting_without_a_daemon_does_the_work() {
    let folder = folder();
    let path = folder.path();
    let job = json_of(&mut dpg(path, &["submit", "spec.toml", "--wait"]));
    assert_eq!(job["state"], "succeeded");
    let logs = succeed(&mut dpg(path, &["logs", "tiny"]));
    assert!(logs.contains("step 1/1") && logs.contains("succeeded"), "{logs}");
    succeed(&mut dpg(path, &["fetch", "tiny", "fetched"]));
    assert!(path.join("fetched/data").exists());
}
