//! Large files into the storage of the Hub, by Git LFS's batch API: whole (`basic`) or, where the Hub asks for it, in
//! parts (`multipart`, which is the Hub's own).

use std::collections::BTreeMap;
use std::io::SeekFrom;
use std::path::Path;

use futures::stream;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use reqwest::{Body, Method, RequestBuilder, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::api::Api;
use super::{Local, Push, TOGETHER};
use crate::Error;

const LFS: &str = "application/vnd.git-lfs+json";
/// Bytes that are read at once.
const BUFFER: usize = 1 << 18;

#[derive(Deserialize)]
struct Batch {
    objects: Vec<Object>,
}

/// What is to be done with a file.
#[derive(Deserialize)]
struct Object {
    oid: String,
    /// Nothing, if the storage has it.
    actions: Option<Actions>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// Uploads what the storage does not have.
pub(super) async fn upload(
    api: &Api<'_>,
    push: &Push<'_>,
    files: &[&Local<'_>],
    sent: &mut (dyn FnMut(&str, u64) + Send),
) -> Result<(), Error> {
    let url = api.hub.at(&[&["datasets"], &push.repo.split('/').collect::<Vec<_>>()[..]].concat());
    let url = Url::parse(&format!("{url}.git/info/lfs/objects/batch")).unwrap_or(url);
    for files in files.chunks(TOGETHER) {
        let objects: Vec<_> =
            files.iter().map(|file| json!({ "oid": file.sha256, "size": file.size })).collect();
        let asked = json!({
            "operation": "upload",
            "transfers": ["basic", "multipart"],
            "objects": objects,
            "hash_algo": "sha256",
            "ref": { "name": push.branch },
        });
        let make = || {
            api.hub
                .request(Method::POST, &url)
                .header(ACCEPT, LFS)
                .header(CONTENT_TYPE, LFS)
                .body(asked.to_string())
        };
        let answer = api.send("lfs batch", make, &[]).await?;
        let bytes = answer.bytes().await.map_err(|source| api.hub.broken("lfs batch", source))?;
        let batch: Batch = serde_json::from_slice(&bytes)
            .map_err(|error| api.hub.malformed("lfs batch", &error.to_string()))?;
        for file in files {
            let object = batch.objects.iter().find(|object| object.oid == file.sha256);
            let object = object
                .ok_or_else(|| api.hub.malformed(file.path, "the storage does not say where it goes"))?;
            if let Some(Refusal { message }) = &object.error {
                return Err(api.hub.malformed(file.path, message));
            }
            let Some(actions) = &object.actions else { continue };
            if let Some(action) = &actions.upload {
                put(api, push.folder, file, action).await?;
                sent(file.path, file.size);
            }
            if let Some(action) = &actions.verify {
                let url = address(api, file, &action.href).await?;
                let body = json!({ "oid": file.sha256, "size": file.size });
                api.post(file.path, &url, &body, &[]).await?;
            }
        }
    }
    Ok(())
}

/// Puts a file where the storage wants it.
async fn put(api: &Api<'_>, folder: &Path, file: &Local<'_>, action: &Action) -> Result<(), Error> {
    let malformed = |reason: &str| api.hub.malformed(file.path, reason);
    let (path, url) = (folder.join(file.path), address(api, file, &action.href).await?);
    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let Some(chunk) = action.header.get("chunk_size") else {
        api.send(file.path, || body(&path, 0, file.size, signed(api, &url, action)), &[]).await?;
        return Ok(());
    };
    let chunk =
        number(chunk).filter(|chunk| *chunk > 0).ok_or_else(|| malformed("parts of no known size"))?;
    let part = |number: u64| {
        let named = |name: &String| name.parse() == Ok(number);
        action.header.iter().find(|(name, _)| named(name)).and_then(|(_, href)| href.as_str())
    };
    let mut parts = vec![];
    for number in 1..=file.size.div_ceil(chunk) {
        let href = part(number).ok_or_else(|| malformed("the storage has too few parts"))?;
        let (url, start) = (address(api, file, href).await?, (number - 1) * chunk);
        let length = chunk.min(file.size - start);
        let answer = api
            .send(file.path, || body(&path, start, length, api.hub.unsigned(Method::PUT, &url)), &[])
            .await?;
        let etag = answer.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
        let etag = etag.ok_or_else(|| malformed("the storage does not name the part that it got"))?;
        parts.push(json!({ "partNumber": number, "etag": etag }));
    }
    // this address is signed as those of the parts are
    let done = json!({ "oid": file.sha256, "parts": parts }).to_string();
    let make = || {
        api.hub.unsigned(Method::POST, &url).header(ACCEPT, LFS).header(CONTENT_TYPE, LFS).body(done.clone())
    };
    api.send(file.path, make, &[]).await.map(drop)
}

/// An address that the Hub names. One outside of this network may not lead into it.
async fn address(api: &Api<'_>, file: &Local<'_>, href: &str) -> Result<Url, Error> {
    let url = Url::parse(href).map_err(|_| api.hub.malformed(file.path, "the storage has no address"))?;
    api.hub.check_reach(file.path, &url).await?;
    Ok(url)
}

/// A request to the storage, with the headers that it asks for: the address itself is signed.
fn signed(api: &Api<'_>, url: &Url, action: &Action) -> RequestBuilder {
    let headers = action.header.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
    headers.fold(api.hub.unsigned(Method::PUT, url), |request, (name, value)| request.header(name, value))
}

/// A part of a file as a request's body.
fn body(path: &Path, start: u64, length: u64, request: RequestBuilder) -> RequestBuilder {
    let read = (path.to_path_buf(), None, length);
    let bytes = stream::try_unfold(read, move |(path, file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut file = if let Some(file) = file {
            file
        } else {
            let mut file = File::open(&path).await?;
            file.seek(SeekFrom::Start(start)).await?;
            file
        };
        let mut buffer = vec![0; BUFFER.min(left as usize)];
        file.read_exact(&mut buffer).await?;
        let left = left - buffer.len() as u64;
        Ok::<_, std::io::Error>(Some((buffer, (path, Some(file), left))))
    });
    request.header(CONTENT_LENGTH, length).body(Body::wrap_stream(bytes))
}
