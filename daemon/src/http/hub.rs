//! The registry as a Hugging Face hub: with `HF_ENDPOINT` set to the daemon's address and `HF_TOKEN`
//! to one of its tokens, `datasets.load_dataset("dpg/NAME", revision="v3")` loads a version.
//!
//! A dataset is the repository `dpg/NAME`, or plain `NAME` for clients that allow it. Its commits are
//! its versions, named by the first 40 hex digits of their manifest's SHA-256; its revisions are
//! `v3`, tags, a commit, and `main` or `latest`. A version never changes, so what a commit holds is
//! remembered.

mod commit;
mod listing;
mod range;
mod refusal;
mod remembered;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Form, FromRequest, Json, Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use dpg_queue::Scope;
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{
    api::Api,
    auth::{self, Caller},
    problem,
};
use commit::{NAMESPACE, id};
use listing::{
    Listing, commits, described, file_entry, folder_entry, info, of_commit, refs, size, tree, yes,
};
use refusal::Refusal;
use remembered::Remembered;

/// The routes of a hub that a reader of datasets needs, and the refusal of all others.
pub(crate) fn router(api: &Api) -> Router<Api> {
    let routes = Router::new()
        .route("/api/whoami-v2", get(whoami))
        .route("/api/datasets", get(list))
        .route("/api/datasets/{*path}", get(describe).post(paths_info))
        .route("/datasets/{*path}", get(file))
        .layer(Extension(Arc::<Remembered>::default()));
    let once_more = routes.clone().fallback(astray).with_state(api.clone());
    // an endpoint that is written with a slash at its end makes addresses with two
    routes.fallback(async move |mut request: Request| match straightened(request.uri()) {
        Some(uri) => {
            *request.uri_mut() = uri;
            once_more.oneshot(request).await.into_response()
        }
        None => astray(request).await,
    })
}

/// An address without empty parts in its path; `None` if it has none.
fn straightened(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains("//") {
        return None;
    }
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("/{}{query}", parts.join("/")).parse().ok()
}

/// What a request is told that no route takes.
async fn astray(request: Request) -> Response {
    let (path, reads) = (request.uri().path(), [Method::GET, Method::HEAD].contains(request.method()));
    let is_model = ["/api/models/", "/api/spaces/"].iter().any(|start| path.starts_with(start));
    if is_model || path.contains("/resolve/") {
        let message = "this hub has datasets alone; models and spaces are on others";
        Refusal::new(StatusCode::NOT_FOUND, "RepoNotFound", message).into_response()
    } else if path.starts_with("/api/") {
        if reads { Refusal::no_route() } else { Refusal::read_only() }.into_response()
    } else {
        problem::Refusal::of_status(StatusCode::NOT_FOUND).into_response()
    }
}

/// Who the caller's token is.
async fn whoami(State(api): State<Api>, headers: HeaderMap) -> Result<Response, Refusal> {
    let caller = authorize(&api, &headers).await?;
    let token = caller.token();
    let access = json!({ "displayName": token.name, "role": "read", "createdAt": token.created });
    Ok(Json(json!({
        "type": "user",
        "id": token.id,
        "name": token.name,
        "fullname": token.name,
        "canPay": false,
        "isPro": false,
        "orgs": [{ "type": "org", "name": NAMESPACE, "fullname": NAMESPACE }],
        "auth": { "type": "access_token", "accessToken": access },
    }))
    .into_response())
}

/// The caller, if its token may read.
async fn authorize(api: &Api, headers: &HeaderMap) -> Result<Caller, Refusal> {
    if !headers.contains_key(header::AUTHORIZATION) {
        return Err(Refusal::no_token());
    }
    Ok(auth::authorize(api, headers, Scope::Read).await?)
}

/// The dataset's name and what follows it in a path. Empty parts do not count.
fn repository(path: &str) -> (&str, Vec<&str>) {
    let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
    let first = parts.next().unwrap_or_default();
    let name = if first == NAMESPACE { parts.next().unwrap_or(first) } else { first };
    (name, parts.collect())
}

/// All datasets.
async fn list(
    State(api): State<Api>,
    Query(query): Query<Listing>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let caller = authorize(&api, &headers).await?;
    let datasets = api.services.registry.datasets().await?;
    let is_ours = query.author.is_empty() || query.author == NAMESPACE;
    let search = query.search.trim_start_matches("dpg/");
    let wanted = datasets
        .iter()
        .filter(|dataset| is_ours && caller.sees(&dataset.name) && dataset.name.contains(search));
    let infos = wanted.filter_map(|dataset| Some(info(dataset.latest()?)));
    let infos: Vec<Value> = infos.take(query.limit.unwrap_or(usize::MAX)).collect();
    Ok(Json(infos).into_response())
}

/// What a repository is, its branches and tags, or a listing of its files.
async fn describe(
    State(api): State<Api>,
    Extension(remembered): Extension<Arc<Remembered>>,
    Path(path): Path<String>,
    Query(query): Query<Listing>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let caller = authorize(&api, &headers).await?;
    let (name, rest) = repository(&path);
    caller.check(name)?;
    let find = async |revision: &str| remembered.find(&api.services.registry, name, revision).await;
    match rest.as_slice() {
        [] => Ok(described(&*find("main").await?)),
        ["revision", revision] => Ok(described(&*find(revision).await?)),
        ["tree", revision, folder @ ..] => {
            let commit = find(revision).await?;
            let entries = tree(&commit, &folder.join("/"), &query)?;
            Ok(of_commit(&commit, Json(entries).into_response()))
        }
        ["treesize", revision, folder @ ..] => {
            let commit = find(revision).await?;
            let size = size(&commit, &folder.join("/"))?;
            Ok(of_commit(&commit, Json(size).into_response()))
        }
        ["commits", revision] => {
            let commit = find(revision).await?;
            let commits = commits(&api.services.registry.dataset(name).await?, commit.version.number);
            Ok(of_commit(&commit, Json(commits).into_response()))
        }
        ["refs"] => Ok(Json(refs(&api.services.registry.dataset(name).await?)).into_response()),
        // whoever has come this far may read it
        ["auth-check"] => {
            find("main").await?;
            Ok(Json(json!({})).into_response())
        }
        ["revision", ..] => {
            let message = format!("there is no revision `{}`", rest[1..].join("/"));
            Err(Refusal::new(StatusCode::NOT_FOUND, "RevisionNotFound", message))
        }
        _ => Err(Refusal::no_route()),
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
    State(api): State<Api>,
    Extension(remembered): Extension<Arc<Remembered>>,
    Path(path): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let caller = authorize(&api, request.headers()).await?;
    let (name, rest) = repository(&path);
    caller.check(name)?;
    let ["paths-info", revision] = rest.as_slice() else { return Err(Refusal::read_only()) };
    let asked = match Paths::read(request).await {
        Ok(asked) => asked,
        Err(answer) => return Ok(answer),
    };
    let commit = remembered.find(&api.services.registry, name, revision).await?;
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
    State(api): State<Api>,
    Extension(remembered): Extension<Arc<Remembered>>,
    Path(path): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let caller = authorize(&api, &headers).await?;
    let (name, rest) = repository(&path);
    caller.check(name)?;
    let ["resolve" | "raw", revision, path @ ..] = rest.as_slice() else { return Err(Refusal::no_route()) };
    let commit = remembered.find(&api.services.registry, name, revision).await?;
    let path = path.join("/");
    let file = commit.files.iter().find(|file| file.path == path);
    let file = file.ok_or_else(|| Refusal::no_entry(&commit, &path))?;

    let (head, range) = range::head(file, &headers);
    let forever = *revision == id(&commit.version);
    let cache = if forever { "private, immutable, max-age=31536000" } else { "private, no-cache" };
    let body = match range {
        Some(range) if method != Method::HEAD => {
            match api.services.registry.read_range(&commit.version, file, range).await {
                Ok(bytes) => Body::from_stream(bytes),
                Err(error) => {
                    // what was remembered may have been retired since
                    remembered.forget(&commit);
                    remembered.find(&api.services.registry, name, revision).await?;
                    return Err(error.into());
                }
            }
        }
        _ => Body::empty(),
    };
    let response = head.header(header::CACHE_CONTROL, cache).body(body);
    Ok(of_commit(&commit, response.expect("the headers are made of ASCII")))
}

#[cfg(test)]
mod tests {
    use super::repository;

    #[test]
    fn repositories_have_one_namespace_or_none() {
        assert_eq!(repository("dpg/six/tree/main/data/x"), ("six", vec!["tree", "main", "data", "x"]));
        assert_eq!(repository("six/tree/main"), ("six", vec!["tree", "main"]));
        assert_eq!(repository("dpg/dpg"), ("dpg", vec![]));
        assert_eq!(repository("/dpg//six/tree//main/"), ("six", vec!["tree", "main"]));
        assert_eq!(repository("dpg"), ("dpg", vec![]));
        assert_eq!(repository("other/six/tree/main"), ("other", vec!["six", "tree", "main"]));
    }
}
