//! Attacks on a running daemon: what a stranger, the holder of a token, a writer of the store or a
//! local user could try. Each test fails if the attack succeeds.

mod browsers;
mod lookalike;
mod models;
mod numbers;
mod permissions;
mod published;
mod ranges;
mod records;
mod scopes;
#[path = "../serving.rs"]
mod serving;
mod shown;
mod specs;
mod strangers;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

use serving::{Daemon, Place};

/// Settings of a daemon that leaves jobs in the queue.
pub(crate) const IDLE: &str = "limits = { requests_per_minute = 100000 }\n";
/// Guards against a hang; nothing here takes as long.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A daemon under attack, and what its operator knows.
pub(crate) struct Target {
    pub(crate) daemon: Daemon,
    pub(crate) folder: TempDir,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) http: reqwest::Client,
}

impl Target {
    /// A daemon with these settings that answers. Jobs stay in its queue.
    pub(crate) async fn start(settings: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), settings).await
    }

    pub(crate) async fn start_in(folder: TempDir, settings: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let place = Place::idle(folder.path(), settings);
        let mut daemon = place.start();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let (data, started) = (folder.path().join("data"), Instant::now());
        loop {
            if let Ok(url) = fs::read_to_string(data.join("daemon.url"))
                && http.get(format!("{url}/healthz")).send().await.is_ok()
            {
                let token = fs::read_to_string(data.join("admin.token")).unwrap().trim().to_owned();
                return Self { daemon, folder, url, token, http };
            }
            assert!(!daemon.has_ended(), "the daemon ended: {}", daemon.log());
            assert!(started.elapsed() < PATIENCE, "the daemon does not answer: {}", daemon.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        self.url.trim_start_matches("http://").to_owned()
    }

    pub(crate) fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// A request as admin.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.token)
    }

    /// The secret of a new token with these properties on top of a name.
    pub(crate) async fn token(&self, name: &str, scopes: &[&str], more: Value) -> String {
        let mut body = json!({ "name": name, "scopes": scopes });
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let created = good(self.request(Method::POST, "/v1/tokens").json(&body)).await;
        created["secret"].as_str().unwrap().to_owned()
    }
}

/// The JSON of a request that succeeds.
pub(crate) async fn good(request: RequestBuilder) -> Value {
    let (status, body) = sent(request).await;
    assert!(status < 300, "{status}: {body}");
    serde_json::from_str(&body).unwrap_or(Value::Null)
}

/// Status and body of an answer.
pub(crate) async fn sent(request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// `dpg` in a folder, with its data in `data`; whatever the environment says is left out.
pub(crate) fn dpg(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg"));
    command.current_dir(folder).args(arguments).args(["--data-dir", "data"]);
    for variable in ["DPG_URL", "DPG_TOKEN", "DPG_CONFIG", "DPG_DATABASE", "DPG_STORE", "DPG_LISTEN"] {
        command.env_remove(variable);
    }
    command
}

/// What a command said on either stream, and whether it succeeded.
pub(crate) fn said(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = [stdout, stderr].concat();
    (status.success(), String::from_utf8_lossy(&text).into_owned())
}
