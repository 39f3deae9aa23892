//! The daemon's API and the commands over it, with the real program: jobs, schedules, tokens and
//! datasets by HTTP and by command line, and what happens to those who do it wrong.

mod abuse;
mod cli;
mod datasets;
mod jobs;
mod operations;
#[path = "../tree.rs"]
mod tree;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A spec that a run of a few seconds satisfies.
const SPEC: &str = r#"
name = "tiny"
[target]
model = "embedded:target"
[target.sft]
optimizer = { kind = "sgd", learning_rate = 0.1 }
sequence_length = 32
batch_size = 8
[metric]
kind = "weight_norm"
[generator]
model = "embedded:target"
prompts = { path = "embedded:prompts/articles.jsonl" }
template = "Rephrase the article.\n{text}\n"
max_new_tokens = 8
[policy]
steps = 1
prompts_per_step = 2
group_size = 2
[output]
examples = 8
"#;

/// Settings of a daemon that leaves jobs in the queue.
const IDLE: &str = "[worker]\nslots = 0\n";

/// `dpg` in a folder, with its data in `data`.
fn dpg(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg"));
    command.current_dir(folder).args(arguments).args(["--data-dir", "data"]);
    for variable in
        ["DPG_URL", "DPG_TOKEN", "DPG_CONFIG", "DPG_DATABASE", "DPG_STORE", "DPG_LISTEN", "DPG_DEVICE"]
    {
        command.env_remove(variable);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The standard output of a command that succeeds.
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// What a command prints with `--json`.
fn json_of(command: &mut Command) -> Value {
    serde_json::from_str(&succeed(command.arg("--json"))).unwrap()
}

/// The standard error of a command that fails.
fn fail(command: &mut Command) -> String {
    let Output { status, stderr, stdout } = command.output().unwrap();
    assert!(!status.success(), "{command:?} succeeded: {}", text(&stdout));
    text(&stderr)
}

/// A folder with `spec.toml`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("spec.toml"), SPEC).unwrap();
    folder
}

/// A running daemon; it ends with this.
struct Daemon {
    folder: TempDir,
    process: Child,
    url: String,
    token: String,
    http: reqwest::Client,
}

impl Daemon {
    async fn start(settings: &str) -> Self {
        Self::start_in(folder(), settings).await
    }

    async fn start_in(folder: TempDir, settings: &str) -> Self {
        Self::start_at("127.0.0.1:0", folder, settings).await
    }

    /// A daemon that answers, with everything it may log in the file `log`.
    async fn start_at(address: &str, folder: TempDir, settings: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let data = folder.path().join("data");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("dpg.toml"), settings).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut process = dpg(folder.path(), &["serve", "--listen", address])
            .env("RUST_LOG", "debug")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let authority = include_bytes!("tls/localhost.pem");
        let http = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(authority).unwrap()])
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        for _ in 0..600 {
            if let Ok(url) = fs::read_to_string(data.join("daemon.url"))
                && http.get(format!("{url}/healthz")).send().await.is_ok()
            {
                let token = fs::read_to_string(data.join("admin.token")).unwrap().trim().to_owned();
                return Self { folder, process, url, token, http };
            }
            if let Some(status) = process.try_wait().unwrap() {
                panic!("the daemon ended with {status}: {}", log_of(folder.path()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the daemon does not answer: {}", log_of(folder.path()));
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn log(&self) -> String {
        log_of(self.path())
    }

    /// A request as admin.
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.token)
    }

    fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    async fn get(&self, path: &str) -> Value {
        good(self.request(Method::GET, path)).await
    }

    async fn post(&self, path: &str) -> Value {
        good(self.request(Method::POST, path)).await
    }

    /// Submits a spec and gives the answer.
    async fn submit(&self, spec: &str) -> Value {
        good(self.request(Method::POST, "/v1/jobs").json(&json!({ "spec": spec }))).await
    }

    /// The secret of a new token.
    async fn token(&self, name: &str, scopes: &[&str]) -> String {
        let body = json!({ "name": name, "scopes": scopes });
        let created = good(self.request(Method::POST, "/v1/tokens").json(&body)).await;
        created["secret"].as_str().unwrap().to_owned()
    }
}

impl Daemon {
    /// Goes down as when it is told to, and gives its folder.
    fn terminate(mut self) -> TempDir {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn log_of(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// The JSON of a request that succeeds.
async fn good(request: RequestBuilder) -> Value {
    let response = request.send().await.unwrap();
    let status = response.status();
    let body = response.text().await.unwrap();
    assert!(status.is_success(), "{status}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// Asserts that an answer is a problem document of this status and kind, and gives it.
async fn problem(response: Response, status: u16, kind: &str) -> Value {
    let (found, url) = (response.status().as_u16(), response.url().clone());
    let content_type = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let body = response.text().await.unwrap();
    assert_eq!(found, status, "{url}: {body}");
    assert_eq!(content_type.as_deref(), Some("application/problem+json"), "{url}: {body}");
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["type"], format!("urn:dpg:problem:{kind}"), "{body}");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["instance"], format!("urn:uuid:{id}"));
    for member in ["title", "detail", "hint"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {body}");
    }
    problem
}
