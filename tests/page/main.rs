//! The page at the daemon's address: how it is served, signing in, what the API offers for it, and, in a real
//! browser, every view with a small run.

mod api;
mod browser;
#[path = "../serving.rs"]
mod serving;
mod serving_it;
mod session;
#[path = "../skip.rs"]
mod skip;
#[path = "../snapshot.rs"]
mod snapshot;
mod views;

use std::fs;
use std::time::{Duration, Instant};

use dpg_dataset::{Example, Row, Split, write_split};
use dpg_registry::{Registry, Snapshot, open_store};
use dpg_spec::Format;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use serving::{Daemon, Place};
use tempfile::TempDir;

/// Guards against a hang; nothing here takes as long.
const PATIENCE: Duration = Duration::from_mins(2);

/// A running daemon and what its operator knows.
struct Site {
    daemon: Daemon,
    place: Place,
    folder: TempDir,
    url: String,
    token: String,
    http: reqwest::Client,
}

impl Site {
    /// A daemon whose jobs stay in the queue.
    async fn idle() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start(Place::idle(folder.path(), ""), folder).await
    }

    /// A daemon that works.
    async fn working() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start(Place::new(folder.path(), "limits = { requests_per_minute = 100000 }\n"), folder).await
    }

    async fn start(place: Place, folder: TempDir) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let daemon = place.start();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let mut site = Self { daemon, place, folder, url: String::new(), token: String::new(), http };
        site.answers().await;
        site
    }

    /// Waits until it answers.
    async fn answers(&mut self) {
        let (data, started) = (self.folder.path().join("data"), Instant::now());
        loop {
            if let Ok(url) = fs::read_to_string(data.join("daemon.url"))
                && self.http.get(format!("{url}/healthz")).send().await.is_ok()
            {
                self.url = url;
                let token = fs::read_to_string(data.join("admin.token")).unwrap();
                self.token = token.trim().into();
                return;
            }
            assert!(!self.daemon.has_ended(), "the daemon ended: {}", self.daemon.log());
            assert!(started.elapsed() < PATIENCE, "the daemon does not answer: {}", self.daemon.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// A request as admin.
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.token)
    }

    async fn get(&self, path: &str) -> Value {
        good(self.request(Method::GET, path)).await
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> Value {
        good(self.request(method, path).json(&body)).await
    }

    /// The store as a publisher has it.
    fn registry(&self) -> Registry {
        let (store, prefix) =
            open_store(&self.folder.path().join("data/registry").to_string_lossy()).unwrap();
        Registry::new(store, prefix, self.folder.path().join("data/signing-key.pem"))
    }

    /// Publishes a version of a dataset with these texts and rewards.
    async fn publish(&self, name: &str, version: u64, rows: impl IntoIterator<Item = (String, f64)>) {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = of_rows(folder.path(), name, version, rows);
        self.registry().publish(&snapshot).await.unwrap();
    }
}

/// The JSON of a request that succeeds.
async fn good(request: RequestBuilder) -> Value {
    let response = request.send().await.unwrap();
    let status = response.status();
    let body = response.text().await.unwrap();
    assert!(status.is_success(), "{status}: {body}");
    serde_json::from_str(&body).unwrap_or(json!(body))
}

/// What a publisher of such rows has in its hands.
fn of_rows(
    folder: &std::path::Path,
    name: &str,
    version: u64,
    rows: impl IntoIterator<Item = (String, f64)>,
) -> Snapshot {
    of_examples(
        folder,
        name,
        version,
        Format::Text,
        rows.into_iter().map(|(text, reward)| (Example::Text(text), reward)),
    )
}

/// As [`of_rows`], in any format.
fn of_examples(
    folder: &std::path::Path,
    name: &str,
    version: u64,
    format: Format,
    rows: impl IntoIterator<Item = (Example, f64)>,
) -> Snapshot {
    let row = |(index, (example, reward)): (usize, (Example, f64))| Row {
        n_tokens: Some(2 + index as u64 % 5),
        example,
        reward,
        group_id: index as u64 / 4,
        step: 12,
        advantage: reward,
        logprob: Some(-1.0),
        arm: None,
        prompt: format!("prompt {}", index / 4),
        seed: index as u64,
    };
    let mut snapshot = snapshot::snapshot(folder, version);
    snapshot.card.name = name.into();
    snapshot.job = format!("{name}-{version}");
    snapshot.folder = folder.join("rows");
    let rows = rows.into_iter().enumerate().map(row);
    snapshot.card.format = format;
    snapshot.shards = write_split(&snapshot.folder, Split::Train, format, rows).unwrap();
    snapshot
}
