//! The daemon's answers as a hub, and `datasets.load_dataset` over them.

use std::process::Command;

use dpg_queue::Scope;
use reqwest::header::{ETAG, HeaderMap, IF_NONE_MATCH, IF_RANGE, RANGE};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Hub, python, snapshot, token};

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
async fn every_route_that_clients_use_is_there() {
    let hub = Hub::start().await;
    let versions = hub.registry.dataset("six").await.unwrap().versions;
    let commits: Vec<_> = versions.iter().map(|version| version.manifest_sha256[..40].to_owned()).collect();

    let me = hub.json("/api/whoami-v2").await;
    assert_eq!((&me["name"], &me["type"]), (&json!("reader"), &json!("user")));
    assert_eq!(me["auth"]["accessToken"]["role"], json!("read"));
    let history = hub.json("/api/datasets/dpg/six/commits/gold").await;
    assert_eq!(names(&history, "id"), [commits[1].as_str(), &commits[0]]);
    assert_eq!(history[0]["authors"][0]["user"], json!("dpg"));
    let tree = hub.json("/api/datasets/dpg/six/tree/v2/data?recursive=true").await;
    let bytes: u64 = tree.as_array().unwrap().iter().map(|file| file["size"].as_u64().unwrap()).sum();
    let size = hub.json("/api/datasets/dpg/six/treesize/v2/data").await;
    assert_eq!(size, json!({ "path": "/data", "size": bytes }));
    assert_eq!(hub.json("/api/datasets?author=dpg&limit=1").await.as_array().unwrap().len(), 1);
    assert_eq!(hub.json("/api/datasets?author=somebody").await, json!([]));

    // an endpoint with a slash at its end, and other accidents
    let readme = hub.get("/datasets/dpg/six/resolve/v2/README.md").await.text().await.unwrap();
    for path in [
        "//datasets/dpg/six/resolve/v2/README.md",
        "/datasets//dpg/six/resolve/v2//README.md",
        "//datasets/six/resolve/v2/README.md?download=true",
        "/datasets/dpg/six/raw/v2/README.md",
    ] {
        let answer = hub.get(path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(header(answer.headers(), "x-repo-commit"), commits[1]);
        assert!(!answer.headers().keys().any(|name| name.as_str().contains("xet")));
        assert_eq!(answer.text().await.unwrap(), readme, "{path}");
    }
    assert_eq!(hub.json("//api//datasets/dpg/six").await["sha"], json!(commits[2]));

    // HEAD is GET without a body
    for path in [
        "/api/whoami-v2",
        "/api/datasets",
        "/api/datasets/dpg/six",
        "/api/datasets/dpg/six/revision/v2",
        "/api/datasets/dpg/six/tree/v2",
        "/api/datasets/dpg/six/treesize/v2",
        "/api/datasets/dpg/six/commits/v2",
        "/api/datasets/dpg/six/refs",
        "/api/datasets/dpg/six/auth-check",
        "/datasets/dpg/six/resolve/v2/README.md",
        "/api/datasets/dpg/six/revision/v9",
        "/api/models/org/name",
    ] {
        let (get, head) = (hub.get(path).await, hub.ask(Method::HEAD, path, &[]).await);
        assert_eq!(get.status(), head.status(), "{path}");
        let of_content = |response: &reqwest::Response| {
            let headers = response.headers().iter();
            let mut kept: Vec<_> = headers
                .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect();
            kept.sort();
            kept
        };
        assert_eq!(of_content(&get), of_content(&head), "{path}");
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
    }

    // what is not here is said in the form that clients read
    for path in ["/api/models/org/name", "/api/spaces/org/name", "/org/name/resolve/main/config.json"] {
        let answer = hub.get(path).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(header(answer.headers(), "x-error-code"), "RepoNotFound");
        assert!(header(answer.headers(), "x-error-message").contains("datasets alone"));
    }
    let nothing: Value = hub.get("/api/nothing").await.json().await.unwrap();
    assert!(nothing["error"].as_str().unwrap().contains("not a path of this hub"), "{nothing}");
    for path in
        ["/api/repos/create", "/api/datasets/dpg/six/commit/main", "/api/datasets/dpg/six/preupload/main"]
    {
        let answer = hub.ask(Method::POST, path, &[]).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
        assert!(header(answer.headers(), "x-error-message").contains("nothing can be written"), "{path}");
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
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download, snapshot_download
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
assert api.whoami()["name"] == "reader"
history = api.list_repo_commits("dpg/six", repo_type="dataset", revision="v2")
assert [commit.title.split(",")[0] for commit in history] == ["six@v2", "six@v1"], history
assert api.repo_exists("dpg/six", repo_type="dataset") and not api.repo_exists("dpg/none", repo_type="dataset")
assert not api.repo_exists("dpg/six", repo_type="model")
assert api.revision_exists("dpg/six", "gold", repo_type="dataset")
assert not api.revision_exists("dpg/six", "v9", repo_type="dataset")
assert api.file_exists("dpg/six", "README.md", repo_type="dataset", revision="v1")
assert not api.file_exists("dpg/six", "nothing", repo_type="dataset", revision="v1")
paths = api.get_paths_info("dpg/six", ["data", "README.md", "nothing"], repo_type="dataset", revision="v1", expand=True)
assert sorted(path.path for path in paths) == ["README.md", "data"], paths
shard = "data/train-00000-of-00001.parquet"
path = hf_hub_download("dpg/six", shard, repo_type="dataset", revision="gold")

fs = HfFileSystem()
assert f"datasets/dpg/six@v1/{shard}" in fs.glob("datasets/dpg/six@v1/**/*.parquet")
entries = {entry["name"]: entry for entry in fs.ls("datasets/dpg/six@gold", detail=True)}
assert entries["datasets/dpg/six@gold/data"]["type"] == "directory", entries
with fs.open(f"datasets/dpg/six@gold/{shard}") as remote, open(path, "rb") as local:
    whole = local.read()
    assert remote.read(4) == b"PAR1" and remote.seek(-4, 2) and remote.read() == b"PAR1"
    assert fs.info(f"datasets/dpg/six@gold/{shard}")["size"] == len(whole)
    assert fs.cat_file(f"datasets/dpg/six@gold/{shard}") == whole

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
    let Some(python) = python::python("datasets") else { return };
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
