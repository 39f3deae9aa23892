//! The daemon as a hub: `datasets.load_dataset` with `HF_ENDPOINT`, and the answers it rests on. And the
//! registry from the command line.
//!
//! `DPG_TEST_PYTHON` names a Python that has `datasets`; without one the HTTP answers alone are
//! checked.

mod s3;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use dpg_dataset::{Card, Example, Figure, Row, Split, write_split};
use dpg_queue::{NewToken, Queue, Scope};
use dpg_registry::{Registry, Snapshot, open_store};
use dpg_spec::Format;
use reqwest::header::{ETAG, HeaderMap, IF_NONE_MATCH, IF_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

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
            pictures: vec![],
        },
        spec: format!("name = \"six\"\nseed = {version}\n"),
        folder,
        shards,
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

fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).unwrap_or_else(|| panic!("no `{name}` in {headers:?}")).to_str().unwrap().to_owned()
}

fn names(entries: &Value, key: &str) -> Vec<String> {
    entries.as_array().unwrap().iter().map(|entry| entry[key].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_a_hub() {
    let hub = Hub::start().await;
    let versions = hub.registry.dataset("six").await.unwrap().versions;
    let commits: Vec<_> = versions.iter().map(|version| version.manifest_sha256[..40].to_owned()).collect();

    // every way to name a version
    let revisions = [("v1", 0), ("gold", 1), ("v2", 1), ("latest", 2), ("main", 2), (&commits[0], 0)];
    for (revision, version) in revisions {
        for name in ["dpg/six", "six"] {
            let info = hub.json(&format!("/api/datasets/{name}/revision/{revision}")).await;
            assert_eq!(
                (&info["sha"], &info["id"]),
                (&json!(commits[version]), &json!("dpg/six")),
                "{revision}"
            );
        }
    }
    let info = hub.json("/api/datasets/dpg/six").await;
    assert_eq!(info["sha"], json!(commits[2]));
    let siblings = names(&info["siblings"], "rfilename");
    for file in ["README.md", "manifest.json", "data/train-00000-of-00001.parquet"] {
        assert!(siblings.iter().any(|sibling| sibling == file), "{siblings:?}");
    }
    assert_eq!(names(&hub.json("/api/datasets?search=si").await, "id"), ["dpg/six"]);
    let refs = hub.json("/api/datasets/dpg/six/refs").await;
    assert_eq!(names(&refs["tags"], "name"), ["v1", "v2", "v3", "gold"]);
    assert_eq!(refs["branches"][0]["targetCommit"], json!(commits[2]));

    // folders stand beside files, and below them when asked
    let tree = |path: &str| format!("/api/datasets/dpg/six/tree/v2{path}");
    let root = hub.json(&tree("?recursive=False&expand=True")).await;
    let paths = names(&root, "path");
    assert_eq!(paths[..2], ["data", "rewards"]);
    assert!(paths.contains(&"README.md".into()) && !paths.iter().any(|path| path.contains('/')), "{paths:?}");
    assert_eq!((&root[0]["type"], &root[0]["lastCommit"]["id"]), (&json!("directory"), &json!(commits[1])));
    let all = names(&hub.json(&tree("?recursive=true")).await, "path");
    assert_eq!(all.len(), siblings.len() + 2, "{all:?}");
    let data = hub.json(&tree("/data")).await;
    assert_eq!(
        names(&data, "path"),
        ["data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"]
    );
    assert_eq!(hub.get(&tree("/nothing")).await.status(), StatusCode::NOT_FOUND);

    let url = format!("{}/api/datasets/dpg/six/paths-info/v2", hub.url);
    let form = "paths=data&paths=README.md&paths=nothing&expand=False";
    let post = hub.client.post(&url).bearer_auth(&hub.reader);
    let form = post.header("content-type", "application/x-www-form-urlencoded").body(form);
    let json = hub.client.post(&url).bearer_auth(&hub.reader);
    let json = json.json(&json!({ "paths": ["data", "README.md", "nothing"] }));
    for request in [form, json] {
        let entries: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(names(&entries, "path"), ["data", "README.md"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_whole_and_in_ranges() {
    let hub = Hub::start().await;
    let version = hub.registry.resolve("six", "v2").await.unwrap();
    for file in hub.registry.files(&version).await.unwrap() {
        let path = format!("/datasets/dpg/six/resolve/v2/{}", file.path);
        let whole = hub.get(&path).await;
        assert_eq!(whole.status(), StatusCode::OK);
        let etag = header(whole.headers(), "etag");
        assert_eq!(etag, format!("\"{}\"", file.sha256));
        assert_eq!(header(whole.headers(), "x-repo-commit"), version.manifest_sha256[..40]);
        let bytes = whole.bytes().await.unwrap();
        assert_eq!(
            (bytes.len() as u64, hex::encode(Sha256::digest(&bytes))),
            (file.size, file.sha256.clone())
        );

        let head = hub.ask(Method::HEAD, &path, &[]).await;
        for name in ["content-length", "x-linked-size"] {
            assert_eq!(header(head.headers(), name), file.size.to_string());
        }
        assert!(head.bytes().await.unwrap().is_empty());

        let end = bytes.len() - 1;
        let ranges = [
            ("bytes=4-11".to_owned(), &bytes[4..12]),
            (format!("bytes=0-{end}"), &bytes[..]),
            (format!("bytes={end}-"), &bytes[end..]),
            ("bytes=-8".into(), &bytes[end - 7..]),
        ];
        for (range, expected) in ranges {
            let part = hub.ask(Method::GET, &path, &[(RANGE.as_str(), &range)]).await;
            assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT, "{range}");
            let start = bytes.len() - expected.len();
            let start = if range == "bytes=4-11" { 4 } else { start };
            let place = format!("bytes {start}-{}/{}", start + expected.len() - 1, bytes.len());
            assert_eq!(header(part.headers(), "content-range"), place);
            assert_eq!(part.bytes().await.unwrap(), expected, "{range}");
        }
        let beyond = format!("bytes={}-", bytes.len());
        let beyond = hub.ask(Method::GET, &path, &[(RANGE.as_str(), &beyond)]).await;
        assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
        let changed = [(RANGE.as_str(), "bytes=4-11"), (IF_RANGE.as_str(), "\"other\"")];
        assert_eq!(hub.ask(Method::GET, &path, &changed).await.bytes().await.unwrap(), bytes);
        let known = hub.ask(Method::GET, &path, &[(IF_NONE_MATCH.as_str(), &etag)]).await;
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(known.headers()[ETAG], etag);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_allowed_is_said_as_a_hub_says_it() {
    let hub = Hub::start().await;
    let missing = [
        ("/api/datasets/dpg/seven", "RepoNotFound"),
        ("/datasets/dpg/seven/resolve/main/README.md", "RepoNotFound"),
        ("/api/datasets/dpg/six/revision/v9", "RevisionNotFound"),
        ("/api/datasets/dpg/six/revision/refs%2Fconvert%2Fparquet", "RevisionNotFound"),
        ("/datasets/dpg/six/resolve/v9/README.md", "RevisionNotFound"),
        ("/datasets/dpg/six/resolve/v1/nothing.parquet", "EntryNotFound"),
        ("/datasets/dpg/six/resolve/v1/..%2F..%2Flog%2F000000000000.json", "EntryNotFound"),
    ];
    for (path, code) in missing {
        let answer = hub.get(path).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(header(answer.headers(), "x-error-code"), code, "{path}");
    }

    let data = hub.folder.path().join("data");
    let submitter = token(&data, "submitter", Scope::Submit).await;
    let path = "/datasets/dpg/six/resolve/v1/README.md";
    let status = async |secret: Option<&str>| {
        let mut request = hub.client.get(format!("{}{path}", hub.url));
        if let Some(secret) = secret {
            request = request.bearer_auth(secret);
        }
        request.send().await.unwrap().status()
    };
    assert_eq!(status(None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(Some("hf_other")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(Some(&format!("{}0", hub.reader))).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(Some(&submitter)).await, StatusCode::FORBIDDEN);
    assert_eq!(status(Some(&hub.reader)).await, StatusCode::OK);

    // withdrawn: still found by number, with a warning that Python shows
    hub.registry.yank("six", 3, "wrong prompts").await.unwrap();
    let latest = hub.json("/api/datasets/dpg/six/revision/main").await;
    let second = hub.registry.resolve("six", "v2").await.unwrap();
    assert_eq!(latest["sha"], json!(second.manifest_sha256[..40]));
    let withdrawn = hub.get("/api/datasets/dpg/six/revision/v3").await;
    assert!(header(withdrawn.headers(), "x-hf-warning").ends_with("was withdrawn: wrong prompts"));

    // retired: not even whoever knows the commit finds it
    let commit = &hub.registry.resolve("six", "v1").await.unwrap().manifest_sha256[..40];
    let path = format!("/datasets/dpg/six/resolve/{commit}/README.md");
    assert_eq!(hub.get(&path).await.status(), StatusCode::OK);
    hub.registry.publish(&snapshot(hub.folder.path(), 4)).await.unwrap();
    assert_eq!(hub.registry.retire("six", 1).await.unwrap(), [1]);
    hub.registry.gc("six", chrono::TimeDelta::zero(), |_| false).await.unwrap();
    let retired = hub.get(&path).await;
    assert_eq!(retired.status(), StatusCode::NOT_FOUND);
    assert_eq!(header(retired.headers(), "x-error-code"), "RevisionNotFound");
}

const SCRIPT: &str = r#"
import os, sys
import datasets
from huggingface_hub import HfApi, snapshot_download
datasets.disable_progress_bars()

def texts(**arguments):
    return [row["text"] for row in datasets.load_dataset("dpg/six", **arguments)]

for revision, version in [("v1", 1), ("gold", 2), ("main", 3), (None, 3), ("latest", 3)]:
    found = texts(revision=revision, split="train")
    assert len(found) == 299 + version, (revision, len(found))
    assert found[7] == f"version {version}, example 7: ¿qué?", found[7]
both = datasets.load_dataset("dpg/six", revision="v2")
assert {name: len(split) for name, split in both.items()} == {"train": 301, "validation": 30}, both
assert both["train"].column_names == ["text", "example_id", "reward"], both
record = datasets.load_dataset("dpg/six", "rewards", revision="v2", split="train")
assert record["example_id"][:] == both["train"]["example_id"][:]
assert record["seed"][0] == 2**64 - 1

streamed = list(datasets.load_dataset("dpg/six", revision="v2", split="train", streaming=True))
assert streamed == list(both["train"]), streamed[:2]

api = HfApi()
assert [info.id for info in api.list_datasets()] == ["dpg/six"]
assert {tag.name for tag in api.list_repo_refs("dpg/six", repo_type="dataset").tags} == {"v1", "v2", "v3", "gold"}
folder = snapshot_download("dpg/six", repo_type="dataset", revision="v1")
assert os.path.exists(os.path.join(folder, "data", "train-00000-of-00001.parquet"))
if hasattr(api, "verify_repo_checksums"):
    checked = api.verify_repo_checksums("dpg/six", repo_type="dataset", revision=os.path.basename(folder), local_dir=folder)
    assert not checked.mismatches and not checked.missing_paths, checked
try:
    texts(revision="v9", split="train")
    sys.exit("v9 was found")
except datasets.exceptions.DatasetNotFoundError as error:
    assert "v9" in str(error), error
for token, reason in [("dpg_wrong", "the token is unknown"), (False, "set HF_TOKEN")]:
    try:
        texts(revision="v1", split="train", token=token, cache_dir="empty", download_mode="force_redownload")
        sys.exit(f"the token {token} was let in")
    except Exception as error:
        assert reason in str(error), (token, type(error), error)
print("loaded with datasets", datasets.__version__)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn datasets_loads_from_the_daemon() {
    let python = std::env::var("DPG_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_datasets = Command::new(&python).args(["-c", "import datasets"]).stderr(Stdio::null()).status();
    if !has_datasets.is_ok_and(|status| status.success()) {
        eprintln!("left out: `{python}` has no `datasets`; name one that has in DPG_TEST_PYTHON");
        return;
    }
    let hub = Hub::start().await;
    let output = Command::new(&python)
        .args(["-c", SCRIPT])
        .current_dir(hub.folder.path())
        .env("HF_ENDPOINT", &hub.url)
        .env("HF_TOKEN", &hub.reader)
        .env("HF_HOME", hub.folder.path().join("hf"))
        .env_remove("HF_HUB_OFFLINE")
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_DATASETS_OFFLINE")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
}

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

    text(&dpg(&["datasets", "tag", "six@v1", "silver"]));
    text(&dpg(&["datasets", "untag", "six", "gold"]));
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
    assert!(refusal(&checked(&[])).contains("with --key"));
    text(&checked(&["--key", key.to_str().unwrap()]));
    text(&self::dpg(elsewhere.path(), &["datasets", "public-key"]));
    assert!(refusal(&checked(&[])).contains("no signature by key"));

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
