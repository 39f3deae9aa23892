//! The daemon's answers as a hub, and `datasets.load_dataset` over them.

use std::process::{Command, Stdio};

use dpg_queue::Scope;
use reqwest::header::{ETAG, HeaderMap, IF_NONE_MATCH, IF_RANGE, RANGE};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Hub, snapshot, token};

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
