//! A Hugging Face Hub in memory: what `huggingface_hub` needs of its HTTP API to make a dataset, write to it and read it.
//! `pushing.rs` holds it to that client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use tokio::net::TcpListener;

/// The token that may write.
pub(crate) const TOKEN: &str = "hf_write";
/// Entries of a page of a listing.
const PAGE: usize = 4;

type Files = BTreeMap<String, Vec<u8>>;

#[derive(Default)]
pub(crate) struct Repository {
    pub(crate) private: bool,
    /// Oldest first.
    pub(crate) commits: Vec<(String, Files)>,
    pub(crate) tags: BTreeMap<String, String>,
}

impl Repository {
    fn commit(&mut self, files: Files) -> String {
        let id = hex::encode(Sha1::digest(format!("{} {:?}", self.commits.len(), files.keys())));
        self.commits.push((id.clone(), files));
        id
    }

    fn find(&self, revision: &str) -> Option<&(String, Files)> {
        let id = self.tags.get(revision).map_or(revision, String::as_str);
        if id == "main" { self.commits.last() } else { self.commits.iter().find(|(commit, _)| commit == id) }
    }

    /// What the branch has.
    pub(crate) fn files(&self) -> &Files {
        &self.commits.last().unwrap().1
    }
}

#[derive(Default)]
pub(crate) struct Hub {
    pub(crate) repositories: BTreeMap<String, Repository>,
    /// The storage's address: another server's, which is not to see the token.
    storage_at: String,
    /// Large files by SHA-256, and parts of some.
    pub(crate) storage: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<(String, usize), Vec<u8>>,
    /// Larger files come in parts of so many bytes.
    pub(crate) chunk: Option<usize>,
    /// The next request of a path with these words is answered so.
    pub(crate) faults: Vec<(&'static str, StatusCode)>,
    /// Somebody else commits before the next commit.
    pub(crate) race: bool,
    pub(crate) log: Vec<String>,
}

/// A running one.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) endpoint: String,
    hub: Arc<Mutex<Hub>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let [(listener, endpoint), (storage, storage_at)] = [listener().await, listener().await];
        let server = Self { endpoint, hub: Arc::default() };
        server.hub().storage_at = storage_at;
        let router = Router::new().fallback(answer).with_state(server.clone());
        for listener in [listener, storage] {
            let router = router.clone();
            tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        }
        server
    }

    pub(crate) fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap()
    }
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    (listener, address)
}

struct Call {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Call {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn said(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    Response::builder().status(status).body(body.into()).unwrap()
}

fn json_of(value: &Value) -> Response<Body> {
    let mut response = said(StatusCode::OK, value.to_string());
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}

fn refused(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let mut response = said(status, json!({ "error": message }).to_string());
    response.headers_mut().insert("x-error-code", code.parse().unwrap());
    response.headers_mut().insert("x-error-message", message.parse().unwrap());
    response
}

async fn answer(State(server): State<Server>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
    let call = Call { method: head.method, uri: head.uri, headers: head.headers, body };
    server.hub().answer(&call, &server.endpoint)
}

fn is_large(path: &str) -> bool {
    [".parquet", ".png", ".safetensors"].iter().any(|ending| path.ends_with(ending))
}

fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// The name of a file's content in git: of a large one, that of its pointer.
fn blob(path: &str, content: &[u8]) -> String {
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
        sha256(content),
        content.len()
    );
    let content = if is_large(path) { pointer.as_bytes() } else { content };
    hex::encode(
        Sha1::new().chain_update(format!("blob {}\0", content.len())).chain_update(content).finalize(),
    )
}

impl Hub {
    fn answer(&mut self, call: &Call, endpoint: &str) -> Response<Body> {
        let path = call.uri.path().trim_matches('/').to_owned();
        self.log.push(format!("{} {path}", call.method));
        if let Some(place) = self.faults.iter().position(|(words, _)| path.contains(words)) {
            return refused(self.faults.remove(place).1, "Fault", "asked for by the test");
        }
        let segments: Vec<String> = path.split('/').map(|part| part.replace("%2F", "/")).collect();
        let segments: Vec<_> = segments.iter().map(String::as_str).collect();
        let token = call.headers.get("authorization").map(|value| value.to_str().unwrap());
        // a storage's addresses are signed, and it refuses two proofs
        if segments[0] == "storage" {
            return if token.is_some() {
                said(StatusCode::BAD_REQUEST, "only one auth mechanism is allowed")
            } else {
                self.stored(call, &segments[1..])
            };
        }
        let may_write = token == Some("Bearer hf_write");
        // the address that completes an upload is signed as well
        if call.method == Method::POST && !may_write && segments[0] != "complete" {
            return refused(StatusCode::UNAUTHORIZED, "", "Invalid credentials");
        }
        match (call.method.as_str(), &segments[..]) {
            ("POST", ["api", "validate-yaml"]) => json_of(&json!({ "errors": [], "warnings": [] })),
            ("POST", ["api", "repos", "create"]) => self.create(&call.json(), endpoint),
            ("GET", ["api", "datasets", org, name]) => {
                self.revision(&format!("{org}/{name}"), "main", may_write)
            }
            ("GET", ["api", "datasets", org, name, "revision", revision]) => {
                self.revision(&format!("{org}/{name}"), revision, may_write)
            }
            ("GET", ["api", "datasets", org, name, "tree", revision, ..]) => {
                self.tree(&format!("{org}/{name}"), revision, &call.uri, endpoint)
            }
            ("POST", ["api", "datasets", org, name, "preupload", _]) => {
                self.modes(&format!("{org}/{name}"), &call.json())
            }
            ("POST", ["api", "datasets", org, name, "commit", "main"]) => {
                self.commit(&format!("{org}/{name}"), call, endpoint)
            }
            ("POST", ["api", "datasets", org, name, "tag", revision]) => {
                self.tag(&format!("{org}/{name}"), revision, call.json()["tag"].as_str().unwrap())
            }
            ("POST", ["datasets", _, name, "info", "lfs", "objects", "batch"]) => {
                assert_eq!(name.rsplit_once('.').unwrap().1, "git");
                self.batch(&call.json(), endpoint)
            }
            ("POST", ["complete", oid]) => self.complete(oid, &call.json()),
            ("POST", ["verify"]) => {
                let asked = call.json();
                let found =
                    self.storage.get(asked["oid"].as_str().unwrap()).map(|content| json!(content.len()));
                let status = if found.as_ref() == Some(&asked["size"]) {
                    StatusCode::OK
                } else {
                    StatusCode::NOT_FOUND
                };
                said(status, "{}")
            }
            ("GET" | "HEAD", ["datasets", org, name, "resolve", revision, path @ ..]) => {
                self.resolve(&format!("{org}/{name}"), revision, &path.join("/"))
            }
            _ => refused(StatusCode::NOT_FOUND, "RepoNotFound", "there is nothing here"),
        }
    }

    fn create(&mut self, asked: &Value, endpoint: &str) -> Response<Body> {
        assert_eq!(asked["type"], "dataset");
        let name = format!("{}/{}", asked["organization"].as_str().unwrap(), asked["name"].as_str().unwrap());
        if self.repositories.contains_key(&name) {
            return refused(StatusCode::CONFLICT, "", "You already created this dataset repo");
        }
        let private = asked["visibility"] == "private";
        let mut repository = Repository { private, ..Repository::default() };
        repository.commit(Files::from([(".gitattributes".into(), b"*.parquet filter=lfs\n".to_vec())]));
        self.repositories.insert(name.clone(), repository);
        json_of(&json!({ "url": format!("{endpoint}/datasets/{name}"), "name": name }))
    }

    #[expect(clippy::result_large_err, reason = "it is the answer")]
    fn found(&self, name: &str, revision: &str) -> Result<&(String, Files), Response<Body>> {
        let missing = |code, what| refused(StatusCode::NOT_FOUND, code, what);
        let repository =
            self.repositories.get(name).ok_or_else(|| missing("RepoNotFound", "no such repository"))?;
        repository.find(revision).ok_or_else(|| missing("RevisionNotFound", "no such revision"))
    }

    fn revision(&self, name: &str, revision: &str, may_read: bool) -> Response<Body> {
        let (commit, files) = match self.found(name, revision) {
            Ok(found) => found,
            Err(refused) => return refused,
        };
        let private = self.repositories[name].private;
        if private && !may_read {
            return refused(StatusCode::UNAUTHORIZED, "RepoNotFound", "Invalid credentials");
        }
        let siblings: Vec<_> = files.keys().map(|path| json!({ "rfilename": path })).collect();
        json_of(&json!({ "id": name, "sha": commit, "private": private, "siblings": siblings, "tags": [] }))
    }

    fn tree(&self, name: &str, revision: &str, uri: &Uri, endpoint: &str) -> Response<Body> {
        let files = match self.found(name, revision) {
            Ok((_, files)) => files,
            Err(refused) => return refused,
        };
        let folders: BTreeSet<_> =
            files.keys().filter_map(|path| path.rsplit_once('/')).map(|(folder, _)| folder).collect();
        let folders = folders.iter().map(
            |folder| json!({ "type": "directory", "oid": blob(folder, b""), "size": 0, "path": folder }),
        );
        let entry = |(path, content): (&String, &Vec<u8>)| {
            let mut entry =
                json!({ "type": "file", "oid": blob(path, content), "size": content.len(), "path": path });
            if is_large(path) {
                entry["lfs"] = json!({ "oid": sha256(content), "size": content.len(), "pointerSize": 130 });
            }
            entry
        };
        let entries: Vec<_> = folders.chain(files.iter().map(entry)).collect();
        let query = uri.query().unwrap_or_default();
        let cursor = query.split('&').find_map(|pair| pair.strip_prefix("cursor=")).unwrap_or("0");
        let begin: usize = cursor.parse().unwrap();
        let end = (begin + PAGE).min(entries.len());
        let mut response = json_of(&json!(entries[begin..end]));
        if end < entries.len() {
            let next = format!("<{endpoint}{}?recursive=true&cursor={end}>; rel=\"next\"", uri.path());
            response.headers_mut().insert("link", next.parse().unwrap());
        }
        response
    }

    fn modes(&self, name: &str, asked: &Value) -> Response<Body> {
        let files = self.repositories[name].files();
        let mode = |file: &Value| {
            let path = file["path"].as_str().unwrap();
            assert!(STANDARD.decode(file["sample"].as_str().unwrap()).unwrap().len() <= 512);
            let oid = files.get(path).map(|content| blob(path, content));
            let mode = if is_large(path) { "lfs" } else { "regular" };
            json!({ "path": path, "uploadMode": mode, "shouldIgnore": false, "oid": oid })
        };
        json_of(&json!({ "files": asked["files"].as_array().unwrap().iter().map(mode).collect::<Vec<_>>() }))
    }

    fn batch(&self, asked: &Value, endpoint: &str) -> Response<Body> {
        assert_eq!((&asked["operation"], &asked["hash_algo"]), (&json!("upload"), &json!("sha256")));
        let object = |object: &Value| {
            let (oid, size) = (object["oid"].as_str().unwrap(), object["size"].as_u64().unwrap() as usize);
            let mut answer = json!({ "oid": oid, "size": size });
            if !self.storage.contains_key(oid) {
                let upload = match self.chunk.filter(|chunk| size > *chunk) {
                    None => json!({ "href": format!("{}/storage/{oid}", self.storage_at) }),
                    Some(chunk) => {
                        let mut header = json!({ "chunk_size": chunk.to_string() });
                        for part in 1..=size.div_ceil(chunk) {
                            header[format!("{part:05}")] =
                                format!("{}/storage/{oid}/{part}", self.storage_at).into();
                        }
                        json!({ "href": format!("{endpoint}/complete/{oid}"), "header": header })
                    }
                };
                answer["actions"] =
                    json!({ "upload": upload, "verify": { "href": format!("{endpoint}/verify") } });
            }
            answer
        };
        let objects: Vec<_> = asked["objects"].as_array().unwrap().iter().map(object).collect();
        json_of(
            &json!({ "transfer": if self.chunk.is_some() { "multipart" } else { "basic" }, "objects": objects }),
        )
    }

    fn stored(&mut self, call: &Call, segments: &[&str]) -> Response<Body> {
        if call.method == Method::PUT && !call.headers.contains_key("content-length") {
            return said(StatusCode::LENGTH_REQUIRED, "");
        }
        let etag = format!("\"{}\"", &sha256(&call.body)[..32]);
        match (call.method.as_str(), segments) {
            ("PUT", [oid]) if *oid == sha256(&call.body) => {
                self.storage.insert((*oid).into(), call.body.clone());
            }
            ("PUT", [oid, part]) => {
                self.parts.insert(((*oid).into(), part.parse().unwrap()), call.body.clone());
            }
            ("GET", [oid]) => return said(StatusCode::OK, self.content(oid)),
            ("HEAD", [oid]) => {
                let length = self.content(oid).len();
                return Response::builder().header("content-length", length).body(Body::empty()).unwrap();
            }
            _ => return said(StatusCode::BAD_REQUEST, "BadDigest"),
        }
        Response::builder().header("etag", etag).body(Body::empty()).unwrap()
    }

    /// A large file of a repository.
    fn content(&self, oid: &str) -> Vec<u8> {
        let commits = self.repositories.values().flat_map(|repository| &repository.commits);
        commits.flat_map(|(_, files)| files.values()).find(|content| sha256(content) == oid).unwrap().clone()
    }

    fn complete(&mut self, oid: &str, asked: &Value) -> Response<Body> {
        let mut content = vec![];
        for part in asked["parts"].as_array().unwrap() {
            let number = part["partNumber"].as_u64().unwrap() as usize;
            let bytes = &self.parts[&(oid.to_owned(), number)];
            assert_eq!(part["etag"], format!("\"{}\"", &sha256(bytes)[..32]));
            content.extend_from_slice(bytes);
        }
        if sha256(&content) != oid {
            return said(StatusCode::BAD_REQUEST, "BadDigest");
        }
        self.storage.insert(oid.into(), content);
        said(StatusCode::OK, "{}")
    }

    fn commit(&mut self, name: &str, call: &Call, endpoint: &str) -> Response<Body> {
        assert_eq!(call.headers["content-type"], "application/x-ndjson");
        let text = String::from_utf8(call.body.clone()).unwrap();
        let Some(repository) = self.repositories.get_mut(name) else {
            return refused(StatusCode::NOT_FOUND, "RepoNotFound", "no such repository");
        };
        let mut files = repository.files().clone();
        if std::mem::take(&mut self.race) {
            repository.commit(files.clone());
        }
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let (value, text) = (&line["value"], |key: &str| line["value"][key].as_str().unwrap().to_owned());
            match line["key"].as_str().unwrap() {
                "header" => {
                    let parent = &value["parentCommit"];
                    if parent.is_string() && *parent != repository.commits.last().unwrap().0 {
                        return refused(StatusCode::PRECONDITION_FAILED, "", "A commit has happened since");
                    }
                }
                "file" => _ = files.insert(text("path"), STANDARD.decode(text("content")).unwrap()),
                "lfsFile" => match self.storage.get(&text("oid")) {
                    Some(content) => _ = files.insert(text("path"), content.clone()),
                    None => {
                        return refused(
                            StatusCode::BAD_REQUEST,
                            "",
                            "LFS pointer pointed to a file that does not exist",
                        );
                    }
                },
                "deletedFile" => _ = files.remove(&text("path")),
                other => panic!("{other}"),
            }
        }
        let id = repository.commit(files);
        json_of(&json!({
            "success": true,
            "commitOid": id,
            "commitUrl": format!("{endpoint}/datasets/{name}/commit/{id}"),
            "hookOutput": "",
        }))
    }

    fn tag(&mut self, name: &str, revision: &str, tag: &str) -> Response<Body> {
        let commit = match self.found(name, revision) {
            Ok((commit, _)) => commit.clone(),
            Err(refused) => return refused,
        };
        let tags = &mut self.repositories.get_mut(name).unwrap().tags;
        if tags.contains_key(tag) {
            return refused(StatusCode::CONFLICT, "", "Tag reference exists already");
        }
        tags.insert(tag.into(), commit);
        said(StatusCode::OK, "{}")
    }

    fn resolve(&self, name: &str, revision: &str, path: &str) -> Response<Body> {
        let (commit, files) = match self.found(name, revision) {
            Ok(found) => found,
            Err(refused) => return refused,
        };
        let Some(content) = files.get(path) else {
            return refused(StatusCode::NOT_FOUND, "EntryNotFound", "Entry not found");
        };
        let builder = Response::builder().header("x-repo-commit", commit);
        if is_large(path) {
            let hash = sha256(content);
            return builder
                .status(StatusCode::FOUND)
                .header("x-linked-etag", format!("\"{hash}\""))
                .header("x-linked-size", content.len())
                .header("location", format!("{}/storage/{hash}", self.storage_at))
                .body(Body::empty())
                .unwrap();
        }
        builder
            .header("etag", format!("\"{}\"", blob(path, content)))
            .body(Body::from(content.clone()))
            .unwrap()
    }
}
