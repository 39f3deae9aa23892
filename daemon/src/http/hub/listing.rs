//! What a hub says of repositories, revisions, folders and files.

use std::collections::BTreeSet;

use axum::Json;
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use dpg_registry::{Dataset, ManifestFile, Version};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::commit::{Commit, NAMESPACE, id};
use super::refusal::Refusal;

/// What a listing's query asks for.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Listing {
    pub(super) recursive: String,
    pub(super) expand: String,
    pub(super) search: String,
    pub(super) author: String,
    pub(super) limit: Option<usize>,
}

pub(super) fn yes(flag: &str) -> bool {
    ["true", "1"].contains(&flag.to_ascii_lowercase().as_str())
}

pub(super) fn info(version: &Version) -> Value {
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

pub(super) fn described(commit: &Commit) -> Response {
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

pub(super) fn refs(dataset: &Dataset) -> Value {
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

/// The commits from a version back to the first that stands.
pub(super) fn commits(dataset: &Dataset, newest: u64) -> Vec<Value> {
    let standing = dataset.versions.iter().filter(|version| version.retired.is_none());
    let past = standing.rev().filter(|version| version.number <= newest);
    past.map(|version| {
        json!({
            "id": id(version),
            "title": title(version),
            "message": version.withdrawn.as_ref().map(|why| format!("withdrawn: {why}")).unwrap_or_default(),
            "authors": [{ "user": NAMESPACE, "avatar": "" }],
            "date": version.published_at,
        })
    })
    .collect()
}

/// Bytes of the files in a folder and below it.
pub(super) fn size(commit: &Commit, folder: &str) -> Result<Value, Refusal> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let inside = || commit.files.iter().filter(|file| file.path.starts_with(&prefix));
    if inside().next().is_none() {
        return Err(Refusal::no_entry(commit, folder));
    }
    Ok(json!({ "path": format!("/{folder}"), "size": inside().map(|file| file.size).sum::<u64>() }))
}

fn title(version: &Version) -> String {
    format!("{version}, job {}", version.job)
}

/// The files and folders in a folder, or below it.
pub(super) fn tree(commit: &Commit, folder: &str, query: &Listing) -> Result<Vec<Value>, Refusal> {
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

pub(super) fn file_entry(commit: &Commit, file: &ManifestFile, expand: bool) -> Value {
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

pub(super) fn folder_entry(commit: &Commit, path: &str, expand: bool) -> Value {
    let oid = hex::encode(Sha256::digest(format!("{} {path}", commit.version.manifest_sha256)));
    let mut entry = json!({ "type": "directory", "path": path, "size": 0, "oid": oid[..40] });
    expanded(&mut entry, commit, expand);
    entry
}

fn expanded(entry: &mut Value, commit: &Commit, expand: bool) {
    if expand {
        let version = &commit.version;
        let (id, title) = (id(version), title(version));
        entry["lastCommit"] = json!({ "id": id, "title": title, "date": version.published_at });
    }
}

/// Says which commit an answer is about, and whether it was withdrawn: Python shows that warning.
pub(super) fn of_commit(commit: &Commit, mut response: Response) -> Response {
    let headers = response.headers_mut();
    let version = &commit.version;
    let warning = version.withdrawn.as_ref().map(|why| format!("{version}; {version} was withdrawn: {why}"));
    let fields = [("x-repo-commit", Some(id(version))), ("x-hf-warning", warning)];
    for (name, value) in fields {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(name, value);
        }
    }
    response
}
