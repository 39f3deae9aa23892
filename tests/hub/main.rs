//! The daemon as a hub: `datasets.load_dataset` with `HF_ENDPOINT`, and the answers it rests on. And the
//! registry from the command line.
//!
//! `DPG_TEST_PYTHON` names a Python that has `datasets`; without one the HTTP answers alone are
//! checked.

mod answers;
mod command_line;
#[path = "../s3.rs"]
mod s3;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dpg_dataset::{Card, Example, Figure, Row, Split, write_split};
use dpg_queue::{NewToken, Queue, Scope};
use dpg_registry::{Registry, Snapshot, open_store};
use dpg_spec::Format;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

/// A daemon over a data folder with three versions of the dataset `six`, of 300, 301 and 302 rows.
struct Hub {
    folder: tempfile::TempDir,
    registry: Registry,
    daemon: Child,
    url: String,
    reader: String,
    client: reqwest::Client,
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Hub {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (folder, registry) = published().await;
        let data = folder.path().join("data");
        let (daemon, url) = serve(&data);
        let reader = token(&data, "reader", Scope::Read).await;
        Self { folder, registry, daemon, url, reader, client: reqwest::Client::new() }
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request =
            self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.reader);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path, &[]).await
    }

    async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.unwrap()
    }
}

/// A data folder with three versions of `six`, the second tagged `gold`.
async fn published() -> (tempfile::TempDir, Registry) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (store, prefix) = open_store(data.join("registry").to_str().unwrap()).unwrap();
    let registry = Registry::new(store, prefix, data.join("signing-key.pem"));
    for version in 1..=3 {
        registry.publish(&snapshot(folder.path(), version)).await.unwrap();
    }
    registry.tag("six", "gold", 2).await.unwrap();
    (folder, registry)
}

fn snapshot(folder: &Path, version: u64) -> Snapshot {
    let folder = folder.join(format!("shards-{version}"));
    let row = |index: u64| Row {
        example: Example::Text(format!("version {version}, example {index}: ¿qué?")),
        reward: 1e-7 * (index as f64).sin(),
        group_id: index / 4,
        step: 12,
        advantage: (index as f64).cos(),
        logprob: -0.5 * index as f64,
        n_tokens: 1 + index % 9,
        prompt: format!("prompt {}", index / 4),
        seed: u64::MAX - index,
    };
    let mut shards = write_split(&folder, Split::Train, Format::Text, (0..299 + version).map(row)).unwrap();
    shards.extend(write_split(&folder, Split::Validation, Format::Text, (900..930).map(row)).unwrap());
    let at = "2026-03-01T00:00:00Z".parse().unwrap();
    Snapshot {
        job: format!("job-{version}"),
        fence: 1,
        card: Card {
            name: "six".into(),
            description: "The head learns 6".into(),
            date: "2026-03-01".into(),
            license: "other".into(),
            languages: vec!["en".into()],
            format: Format::Text,
            target: "embedded:target".into(),
            generator: "embedded:generator".into(),
            metric: "a pattern".into(),
            recipe: "AdamW".into(),
            validation: vec![Figure { name: "Phi".into(), before: -1.0, after: version as f64 }],
            verification: None,
            counts: String::new(),
            warnings: vec![],
            has_generator: false,
            pictures: vec![],
        },
        spec: format!("name = \"six\"\nseed = {version}\n"),
        folder,
        shards,
        files: vec![],
        pictures: vec![],
        started_at: at,
        finished_at: at,
        dependencies: vec![],
        withheld: None,
    }
}

/// Starts the daemon and waits until it says where it listens.
fn serve(data: &Path) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg"));
    listening(command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data))
}

fn listening(command: &mut Command) -> (Child, String) {
    let mut daemon = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(daemon.stderr.take().unwrap()).lines();
    let url = lines.by_ref().find_map(|line| {
        let line = line.unwrap();
        line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned)
    });
    // what it says later must go somewhere
    std::thread::spawn(move || lines.for_each(drop));
    (daemon, url.expect("the daemon ended"))
}

async fn token(data: &Path, name: &str, scope: Scope) -> String {
    let queue = Queue::sqlite(&data.join("queue.db")).await.unwrap();
    let new = NewToken { name: name.into(), scopes: vec![scope], expires: None };
    let (_, secret) = queue.create_token(&new).await.unwrap();
    queue.close().await;
    secret
}
