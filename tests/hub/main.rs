//! The daemon as a hub: `datasets.load_dataset` with `HF_ENDPOINT`, and the answers it rests on. And the
//! registry from the command line.

mod answers;
mod command_line;
mod pushing;
#[path = "../python.rs"]
mod python;
#[path = "../s3.rs"]
mod s3;
#[path = "../skip.rs"]
mod skip;
#[path = "../snapshot.rs"]
mod snapshot;
mod their_hub;
#[path = "../tree.rs"]
mod tree;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dpg_queue::{NewToken, Queue, Scope};
use dpg_registry::{Registry, open_store};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use snapshot::snapshot;

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
    let new = NewToken { name: name.into(), scopes: vec![scope], ..NewToken::default() };
    let (_, secret) = queue.create_token(&new).await.unwrap();
    queue.close().await;
    secret
}
