//! The registry as a Hugging Face hub: with `HF_ENDPOINT` set to the daemon's address and `HF_TOKEN`
//! to one of its tokens, `datasets.load_dataset("dpg/NAME", revision="v3")` loads a version.
//!
//! A dataset is the repository `dpg/NAME`, or plain `NAME` for clients that allow it. Its commits are
//! its versions, named by the first 40 hex digits of their manifest's SHA-256; its revisions are
//! `v3`, tags, a commit, and `main` or `latest`. A version never changes, so what a commit holds is
//! remembered.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Extension, Form, FromRequest, Json, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use dpg_queue::Scope;
use dpg_registry::{Dataset, ManifestFile, Registry, Version};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::services::Services;

/// The one owner of all datasets.
const NAMESPACE: &str = "dpg";
/// Commits that are remembered.
const REMEMBERED: usize = 256;

/// The routes of a hub that a reader of datasets needs.
pub(crate) fn router<S>(services: Services) -> Router<S> {
    Router::new()
        .route("/api/datasets", get(list))
        .route("/api/datasets/{*path}", get(describe).post(paths_info))
        .route("/datasets/{*path}", get(file))
        .layer(Extension(Arc::<Remembered>::default()))
        .with_state(services)
}

/// A version and its files.
struct Commit {
    version: Version,
    files: Vec<ManifestFile>,
}

/// What commits hold, by dataset and id.
#[derive(Default)]
struct Remembered(Mutex<HashMap<(String, String), Arc<Commit>>>);

impl Remembered {
    fn get(&self, name: &str, id: &str) -> Option<Arc<Commit>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(name.to_owned(), id.to_owned())).cloned()
    }

    fn put(&self, commit: Arc<Commit>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert((commit.version.dataset.clone(), id(&commit.version)), commit);
    }

    /// The commit that a revision names.
    async fn find(&self, registry: &Registry, name: &str, revision: &str) -> Result<Arc<Commit>, Refusal> {
        if let Some(commit) = self.get(name, revision) {
            return Ok(commit);
        }
        let dataset = registry.dataset(name).await?;
        let version = match revision {
            "main" => dataset.resolve("latest")?,
            revision if revision.len() == 40 => {
                let named = dataset.versions.iter().find(|version| id(version) == revision);
                named.map_or_else(|| dataset.resolve(revision), Ok)?
            }
            revision => dataset.resolve(revision)?,
        };
        if let Some(commit) = self.get(name, &id(version)).filter(|known| known.version == *version) {
            return Ok(commit);
        }
        let files = registry.files(version).await?;
        let commit = Arc::new(Commit { version: version.clone(), files });
        self.put(Arc::clone(&commit));
        Ok(commit)
    }
}

/// A version's commit id.
fn id(version: &Version) -> String {
    version.manifest_sha256[..40].to_owned()
}

/// An answer that is no success, in the form that the clients of hubs know.
struct Refusal {
    status: StatusCode,
    /// `RepoNotFound`, `RevisionNotFound` or `EntryNotFound`.
    code: &'static str,
    message: String,
    /// The commit that lacks an entry: clients remember that it does.
    commit: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), commit: None }
    }

    fn no_entry(commit: &Commit, path: &str) -> Self {
        let message = format!("{} has no file `{path}`", commit.version);
        Self {
            commit: Some(id(&commit.version)),
            ..Self::new(StatusCode::NOT_FOUND, "EntryNotFound", message)
        }
    }

    fn no_route() -> Self {
        let message = "not a path of this hub, which serves datasets to readers and nothing else";
        Self::new(StatusCode::NOT_FOUND, "", message)
    }
}

impl From<dpg_registry::Error> for Refusal {
    fn from(error: dpg_registry::Error) -> Self {
        use dpg_registry::Error;
        let (status, code) = match &error {
            Error::NoDataset { .. } => (StatusCode::NOT_FOUND, "RepoNotFound"),
            Error::NoVersion { .. } | Error::Retired { .. } => (StatusCode::NOT_FOUND, "RevisionNotFound"),
            error if error.is_transient() => (StatusCode::SERVICE_UNAVAILABLE, ""),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, ""),
        };
        if status.is_server_error() {
            tracing::error!(%error, "the hub cannot answer");
        }
        Self::new(status, code, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.message }))).into_response();
        let headers = response.headers_mut();
        let line = self.message.replace(['\n', '\r'], " ");
        let fields = [("x-error-code", self.code), ("x-error-message", &line)];
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            // a message with letters outside ASCII stands in the body alone
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(commit) = self.commit.as_deref().and_then(|commit| HeaderValue::from_str(commit).ok()) {
            headers.insert("x-repo-commit", commit);
        }
        response
    }
}

/// Lets through whoever has a token that may read.
async fn authorize(services: &Services, headers: &HeaderMap) -> Result<(), Refusal> {
    let refused = |message: String| Refusal::new(StatusCode::UNAUTHORIZED, "", message);
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (_, secret) = given
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .ok_or_else(|| refused("datasets are private: set HF_TOKEN to a token of this daemon".into()))?;
    match services.queue.authenticate(secret.trim()).await {
        Ok(token) if token.allows(Scope::Read) => Ok(()),
        Ok(_) => {
            Err(Refusal::new(StatusCode::FORBIDDEN, "", "the token may not read; it lacks the scope `read`"))
        }
        Err(error @ dpg_queue::Error::TokenRefused { .. }) => Err(refused(error.to_string())),
        Err(error) => {
            tracing::error!(%error, "a token cannot be checked");
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "", "tokens cannot be checked now; repeat"))
        }
    }
}

/// The dataset's name and what follows it in a path.
fn repository(path: &str) -> (&str, Vec<&str>) {
    let inside = path.split_once('/').filter(|(namespace, _)| *namespace == NAMESPACE);
    let mut parts = inside.map_or(path, |(_, rest)| rest).trim_end_matches('/').split('/');
    (parts.next().unwrap_or_default(), parts.collect())
}

/// What a listing's query asks for.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Listing {
    recursive: String,
    expand: String,
    search: String,
}

fn yes(flag: &str) -> bool {
    ["true", "1"].contains(&flag.to_ascii_lowercase().as_str())
}

/// All datasets.
async fn list(
    State(services): State<Services>,
    Query(query): Query<Listing>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    authorize(&services, &headers).await?;
    let datasets = services.registry.datasets().await?;
    let wanted = datasets.iter().filter(|dataset| dataset.name.contains(&query.search));
    let infos: Vec<Value> = wanted.filter_map(|dataset| Some(info(dataset.latest()?))).collect();
    Ok(Json(infos).into_response())
}

fn info(version: &Version) -> Value {
    json!({
        "_id": id(version)[..24],
        "id": format!("{NAMESPACE}/{}", version.dataset),
        "author": NAMESPACE,
        "sha": id(version),
        "lastModified": version.published_at,
        "createdAt": version.published_at,
        "private": true,
        "gated": false,
        "disabled": false,
        "downloads": 0,
        "likes": 0,
        "tags": ["synthetic", "dpg"],
    })
}

/// What a repository is, its branches and tags, or a listing of its files.
async fn describe(
    State(services): State<Services>,
    Extension(remembered): Extension<Arc<Remembered>>,
    Path(path): Path<String>,
    Query(query): Query<Listing>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    authorize(&services, &headers).await?;
    let (name, rest) = repository(&path);
    let find = async |revision: &str| remembered.find(&services.registry, name, revision).await;
    match rest.as_slice() {
        [] => Ok(described(&*find("main").await?)),
        ["revision", revision] => Ok(described(&*find(revision).await?)),
        ["tree", revision, folder @ ..] => {
            let commit = find(revision).await?;
            let entries = tree(&commit, &folder.join("/"), &query)?;
            Ok(of_commit(&commit, Json(entries).into_response()))
        }
        ["refs"] => Ok(Json(refs(&services.registry.dataset(name).await?)).into_response()),
        ["revision", ..] => {
            let message = format!("there is no revision `{}`", rest[1..].join("/"));
            Err(Refusal::new(StatusCode::NOT_FOUND, "RevisionNotFound", message))
        }
        _ => Err(Refusal::no_route()),
    }
}

fn described(commit: &Commit) -> Response {
    let mut info = info(&commit.version);
    let siblings = commit.files.iter().map(|file| {
        json!({
            "rfilename": file.path,
            "size": file.size,
            "blobId": file.sha256[..40],
            "lfs": { "size": file.size, "sha256": file.sha256, "pointerSize": 0 },
        })
    });
    info["siblings"] = siblings.collect();
    info["usedStorage"] = json!(commit.files.iter().map(|file| file.size).sum::<u64>());
    of_commit(commit, Json(info).into_response())
}

fn refs(dataset: &Dataset) -> Value {
    let refer = |name: &str, kind: &str, version: &Version| json!({ "name": name, "ref": format!("refs/{kind}/{name}"), "targetCommit": id(version) });
    let standing = dataset.versions.iter().filter(|version| version.retired.is_none());
    let numbers = standing.map(|version| refer(&format!("v{}", version.number), "tags", version));
    let tags = dataset.tags.keys();
    let tags = tags.filter_map(|tag| Some(refer(tag, "tags", dataset.resolve(tag).ok()?)));
    json!({
        "branches": dataset.latest().map(|version| refer("main", "heads", version)).into_iter().collect::<Value>(),
        "converts": [],
        "tags": numbers.chain(tags).collect::<Value>(),
        "pullRequests": [],
    })
}

/// The files and folders in a folder, or below it.
fn tree(commit: &Commit, folder: &str, query: &Listing) -> Result<Vec<Value>, Refusal> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let (recursive, expand) = (yes(&query.recursive), yes(&query.expand));
    let mut folders = BTreeSet::new();
    let mut files = Vec::new();
    for file in &commit.files {
        let Some(inner) = file.path.strip_prefix(&prefix) else { continue };
        let ends = inner.match_indices('/').map(|(end, _)| end);
        folders.extend(
            ends.take(if recursive { usize::MAX } else { 1 }).map(|end| &file.path[..prefix.len() + end]),
        );
        if recursive || !inner.contains('/') {
            files.push(file);
        }
    }
    if folders.is_empty() && files.is_empty() {
        return Err(Refusal::no_entry(commit, folder));
    }
    let folders = folders.into_iter().map(|path| folder_entry(commit, path, expand));
    Ok(folders.chain(files.into_iter().map(|file| file_entry(commit, file, expand))).collect())
}

fn file_entry(commit: &Commit, file: &ManifestFile, expand: bool) -> Value {
    let mut entry = json!({
        "type": "file",
        "path": file.path,
        "size": file.size,
        "oid": file.sha256[..40],
        "lfs": { "oid": file.sha256, "size": file.size, "pointerSize": 0 },
    });
    expanded(&mut entry, commit, expand);
    entry
}

fn folder_entry(commit: &Commit, path: &str, expand: bool) -> Value {
    let oid = hex::encode(Sha256::digest(format!("{} {path}", commit.version.manifest_sha256)));
    let mut entry = json!({ "type": "directory", "path": path, "size": 0, "oid": oid[..40] });
    expanded(&mut entry, commit, expand);
    entry
}

fn expanded(entry: &mut Value, commit: &Commit, expand: bool) {
    if expand {
        let version = &commit.version;
        let title = format!("{version}, job {}", version.job);
        entry["lastCommit"] = json!({ "id": id(version), "title": title, "date": version.published_at });
    }
}

/// Which paths are asked about.
#[derive(Deserialize)]
struct Paths {
    paths: Vec<String>,
    #[serde(default)]
    expand: bool,
}

impl Paths {
    /// From a form, as Python sends it, or JSON.
    async fn read(request: Request) -> Result<Self, Response> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind.is_some_and(|kind| kind.starts_with("application/json")) {
            let Json(paths) = Json::from_request(request, &()).await.map_err(IntoResponse::into_response)?;
            return Ok(paths);
        }
        let form = Form::<Vec<(String, String)>>::from_request(request, &()).await;
        let Form(fields) = form.map_err(IntoResponse::into_response)?;
        let expand = fields.iter().any(|(name, value)| name == "expand" && yes(value));
        let paths = fields.into_iter().filter(|(name, _)| name == "paths").map(|(_, path)| path).collect();
        Ok(Self { paths, expand })
    }
}

/// The entries of some paths; those that are not there are left out.
async fn paths_info(
    State(services): State<Services>,
    Extension(remembered): Extension<Arc<Remembered>>,
    Path(path): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    authorize(&services, request.headers()).await?;
    let (name, rest) = repository(&path);
    let ["paths-info", revision] = rest.as_slice() else { return Err(Refusal::no_route()) };
    let asked = match Paths::read(request).await {
        Ok(asked) => asked,
        Err(answer) => return Ok(answer),
    };
    let commit = remembered.find(&services.registry, name, revision).await?;
    let entry = |path: &String| {
        let path = path.trim_matches('/');
        let file = commit.files.iter().find(|file| file.path == path);
        let is_folder = || commit.files.iter().any(|file| file.path.starts_with(&format!("{path}/")));
        match file {
            Some(file) => Some(file_entry(&commit, file, asked.expand)),
            None => is_folder().then(|| folder_entry(&commit, path, asked.expand)),
        }
    };
    let entries: Vec<Value> = asked.paths.iter().filter_map(entry).collect();
    Ok(of_commit(&commit, Json(entries).into_response()))
}

/// A file, or a range of it.
async fn file(
    State(services): State<Services>,
    Extension(remembered): Extension<Arc<Remembered>>,
    Path(path): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    authorize(&services, &headers).await?;
    let (name, rest) = repository(&path);
    let ["resolve", revision, path @ ..] = rest.as_slice() else { return Err(Refusal::no_route()) };
    let commit = remembered.find(&services.registry, name, revision).await?;
    let path = path.join("/");
    let file = commit.files.iter().find(|file| file.path == path);
    let file = file.ok_or_else(|| Refusal::no_entry(&commit, &path))?;

    let etag = format!("\"{}\"", file.sha256);
    let same =
        |name| headers.get(name).and_then(|value| value.to_str().ok()).map(|tags| tags.contains(&etag));
    let base = Response::builder()
        .header(header::ETAG, &etag)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(
            header::CACHE_CONTROL,
            if *revision == id(&commit.version) {
                "private, immutable, max-age=31536000"
            } else {
                "private, no-cache"
            },
        )
        .header("x-linked-etag", &etag)
        .header("x-linked-size", file.size);
    let (base, range) = if same(header::IF_NONE_MATCH) == Some(true) {
        (base.status(StatusCode::NOT_MODIFIED), None)
    } else {
        let base = base.header(header::CONTENT_TYPE, content_type(&path));
        let asked = headers.get(header::RANGE).filter(|_| same(header::IF_RANGE) != Some(false));
        match asked.and_then(|range| requested(range.to_str().ok()?, file.size)) {
            None => (base.header(header::CONTENT_LENGTH, file.size), Some(0..file.size)),
            Some(None) => {
                let none = format!("bytes */{}", file.size);
                (base.status(StatusCode::RANGE_NOT_SATISFIABLE).header(header::CONTENT_RANGE, none), None)
            }
            Some(Some(range)) => {
                let part = format!("bytes {}-{}/{}", range.start, range.end - 1, file.size);
                let base = base.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, part);
                (base.header(header::CONTENT_LENGTH, range.end - range.start), Some(range))
            }
        }
    };
    let body = match range {
        Some(range) if method != Method::HEAD => {
            Body::from_stream(services.registry.read_range(&commit.version, file, range).await?)
        }
        _ => Body::empty(),
    };
    let response = base.body(body).expect("the headers are made of ASCII");
    Ok(of_commit(&commit, response))
}

/// The bytes that a `Range` header asks for: nothing if it is to be ignored, `Some(None)` if there
/// are none such.
fn requested(range: &str, size: u64) -> Option<Option<Range<u64>>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.trim(), last.trim()) {
        ("", count) => size.saturating_sub(count.parse().ok()?)..size,
        (first, "") => first.parse().ok()?..size,
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(size)
        }
    };
    Some((!range.is_empty()).then_some(range))
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "md" => "text/markdown; charset=utf-8",
        "toml" => "text/plain; charset=utf-8",
        "json" => "application/json",
        "png" => "image/png",
        "parquet" => "application/vnd.apache.parquet",
        _ => "application/octet-stream",
    }
}

/// Says which commit an answer is about, and whether it was withdrawn: Python shows that warning.
fn of_commit(commit: &Commit, mut response: Response) -> Response {
    let headers = response.headers_mut();
    let version = &commit.version;
    let warning = version.yanked.as_ref().map(|why| format!("{version}; {version} was withdrawn: {why}"));
    let fields = [("x-repo-commit", Some(id(version))), ("x-hf-warning", warning)];
    for (name, value) in fields {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::{repository, requested};

    #[test]
    fn repositories_have_one_namespace_or_none() {
        assert_eq!(repository("dpg/six/tree/main/data/x"), ("six", vec!["tree", "main", "data", "x"]));
        assert_eq!(repository("six/tree/main"), ("six", vec!["tree", "main"]));
        assert_eq!(repository("dpg/dpg"), ("dpg", vec![]));
        assert_eq!(repository("other/six/tree/main"), ("other", vec!["six", "tree", "main"]));
    }

    #[test]
    fn ranges_are_cut_to_the_file_or_ignored() {
        assert_eq!(requested("bytes=2-5", 10), Some(Some(2..6)));
        assert_eq!(requested("bytes=2-", 10), Some(Some(2..10)));
        assert_eq!(requested("bytes=-3", 10), Some(Some(7..10)));
        assert_eq!(requested("bytes=-30", 10), Some(Some(0..10)));
        assert_eq!(requested("bytes=2-99999999999999999999", 10), None);
        assert_eq!(requested("bytes=2-18446744073709551615", 10), Some(Some(2..10)));
        for none in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(requested(none, 10), Some(None), "{none}");
        }
        for ignored in ["bytes=5-2", "bytes=1-2,4-5", "items=1-2", "bytes=a-", "bytes=-"] {
            assert_eq!(requested(ignored, 10), None, "{ignored}");
        }
    }
}
