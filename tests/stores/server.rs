//! A bucket in memory behind HTTP, which behaves on request as servers and proxies do that are not
//! Amazon's. Signatures are not looked at.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use axum::body::{Body, to_bytes};
use axum::extract::{Query, Request, State as Shared};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, extract::FromRequestParts};
use bytes::Bytes;
use futures::stream;
use object_store::aws::AmazonS3Builder;
use tokio::net::TcpListener;

const MODIFIED: &str = "2026-03-01T12:00:00.000Z";

/// What becomes of `If-None-Match: *`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Condition {
    #[default]
    Kept,
    /// It is overlooked.
    Ignored,
    /// It is refused with this status and code.
    Refused(u16, &'static str),
}

/// An answer in place of the right one.
#[derive(Clone)]
pub(crate) struct Planned {
    /// To requests with this method, or any.
    pub(crate) method: Option<Method>,
    /// Whose address contains this.
    pub(crate) part: &'static str,
    pub(crate) times: usize,
    pub(crate) answer: Answer,
}

#[derive(Clone)]
pub(crate) enum Answer {
    Status(u16, Vec<(&'static str, &'static str)>, String),
    /// The right one, up to the middle of its body.
    Torn,
    /// None, ever.
    Never,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) objects: BTreeMap<String, Bytes>,
    uploads: Vec<BTreeMap<u32, Bytes>>,
    pub(crate) planned: Vec<Planned>,
    pub(crate) condition: Condition,
    /// Keys on a page of a listing; 0 for 1000.
    pub(crate) page: usize,
    /// Listings say that there is more, and not how to get it.
    pub(crate) cut_off: bool,
    /// Keys below the prefix that every listing shows as well, as they stand in XML.
    pub(crate) odd_keys: Vec<&'static str>,
    pub(crate) without_etags: bool,
    /// What stands in front of the bucket in an address.
    pub(crate) base: &'static str,
    /// When a request came, its method, host and address.
    pub(crate) log: Vec<(Instant, String)>,
}

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        // as the program does at its start
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        server
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn plan(&self, method: Option<Method>, part: &'static str, times: usize, answer: Answer) {
        self.state().planned.push(Planned { method, part, times, answer });
    }

    /// An S3 error.
    pub(crate) fn refuse(&self, method: Method, part: &'static str, times: usize, status: u16, code: &str) {
        self.plan(Some(method), part, times, Answer::Status(status, vec![], error(code)));
    }

    /// How a program reaches it, but for the endpoint.
    pub(crate) fn settings(&self) -> AmazonS3Builder {
        AmazonS3Builder::new()
            .with_endpoint(format!("http://{}", self.address))
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id("access")
            .with_secret_access_key("secret")
    }

    /// The requests since this was last asked.
    pub(crate) fn log(&self) -> Vec<(Instant, String)> {
        std::mem::take(&mut self.state().log)
    }
}

pub(crate) fn error(code: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Said of {code}.</Message></Error>")
}

async fn answer(Shared(server): Shared<Server>, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let Query(query) = Query::<BTreeMap<String, String>>::from_request_parts(&mut head, &()).await.unwrap();
    let host = head.headers.get(header::HOST).map_or("", |host| host.to_str().unwrap()).to_owned();
    let path = head.uri.path().to_owned();
    let planned = {
        let mut state = server.state();
        state.log.push((Instant::now(), format!("{} {host} {path}", head.method)));
        let wanted = |planned: &&mut Planned| {
            let is_method = planned.method.as_ref().is_none_or(|method| *method == head.method);
            planned.times > 0 && is_method && head.uri.to_string().contains(planned.part)
        };
        state.planned.iter_mut().find(wanted).map(|planned| {
            planned.times -= 1;
            planned.answer.clone()
        })
    };
    match planned {
        Some(Answer::Never) => std::future::pending().await,
        Some(Answer::Status(status, headers, text)) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), text).into_response();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        Some(Answer::Torn) => {
            torn(respond(&server, &head.method, &host, &path, &query, &head.headers, body)).await
        }
        None => respond(&server, &head.method, &host, &path, &query, &head.headers, body),
    }
}

async fn torn(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let whole = to_bytes(body, usize::MAX).await.unwrap();
    head.headers.insert(header::CONTENT_LENGTH, whole.len().into());
    let half = whole.slice(..whole.len() / 2);
    let pieces = [Ok(half), Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))];
    Response::from_parts(head, Body::from_stream(stream::iter(pieces)))
}

fn respond(
    server: &Server,
    method: &Method,
    host: &str,
    path: &str,
    query: &BTreeMap<String, String>,
    headers: &HeaderMap,
    body: Bytes,
) -> Response {
    let mut state = server.state();
    let Some(place) = path.strip_prefix(state.base) else { return refusal(404, "NoSuchKey") };
    let place = place.trim_start_matches('/');
    let key = if host.starts_with("bucket.") {
        place
    } else {
        match place.split_once('/').unwrap_or((place, "")) {
            ("bucket", key) => key,
            _ => return refusal(404, "NoSuchBucket"),
        }
    };
    let key = key.replace("%20", " ");
    let upload = query.get("uploadId").map(|id| id.parse::<usize>().unwrap());
    match (method.as_str(), upload) {
        ("POST", None) if query.contains_key("uploads") => {
            state.uploads.push(BTreeMap::new());
            let id = state.uploads.len() - 1;
            let root = "InitiateMultipartUploadResult";
            format!("<{root}><UploadId>{id}</UploadId></{root}>").into_response()
        }
        ("PUT", Some(upload)) => {
            state.uploads[upload].insert(query["partNumber"].parse().unwrap(), body);
            ([(header::ETAG, "\"part\"")], "").into_response()
        }
        ("POST", Some(upload)) => {
            let whole: Vec<u8> = state.uploads[upload].values().flatten().copied().collect();
            state.objects.insert(key, whole.into());
            let root = "CompleteMultipartUploadResult";
            format!("<{root}><ETag>whole</ETag></{root}>").into_response()
        }
        ("PUT", None) => {
            if headers.contains_key(header::IF_NONE_MATCH) {
                match state.condition {
                    Condition::Refused(status, code) => return refusal(status, code),
                    Condition::Kept if state.objects.contains_key(&key) => {
                        return refusal(412, "PreconditionFailed");
                    }
                    _ => {}
                }
            }
            state.objects.insert(key, body);
            tagged(&state, StatusCode::OK, Bytes::new())
        }
        ("DELETE", _) => {
            state.objects.remove(&key);
            StatusCode::NO_CONTENT.into_response()
        }
        // the one for many objects, among others
        ("POST", None) => refusal(501, "NotImplemented"),
        _ if query.contains_key("list-type") => list(&state, query),
        _ => match state.objects.get(&key).cloned() {
            None => refusal(404, "NoSuchKey"),
            Some(object) => part(&state, object, headers),
        },
    }
}

fn refusal(status: u16, code: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), error(code)).into_response()
}

fn tagged(state: &State, status: StatusCode, body: Bytes) -> Response {
    let mut response = (status, body).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    if !state.without_etags {
        response.headers_mut().insert(header::ETAG, "\"tag\"".parse().unwrap());
    }
    response
}

fn part(state: &State, object: Bytes, headers: &HeaderMap) -> Response {
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().unwrap().strip_prefix("bytes="));
    let Some((from, to)) = range.and_then(|range| range.split_once('-')) else {
        return tagged(state, StatusCode::OK, object);
    };
    let from: usize = from.parse().unwrap();
    let to = to.parse().map_or(object.len(), |last: usize| object.len().min(last + 1));
    let mut response = tagged(state, StatusCode::PARTIAL_CONTENT, object.slice(from..to));
    let range = format!("bytes {from}-{}/{}", to - 1, object.len());
    response.headers_mut().insert(header::CONTENT_RANGE, range.parse().unwrap());
    response
}

fn list(state: &State, query: &BTreeMap<String, String>) -> Response {
    let text = |name: &str| query.get(name).map_or("", String::as_str);
    let (prefix, after) = (text("prefix"), text("continuation-token"));
    let delimiter = Some(text("delimiter")).filter(|delimiter| !delimiter.is_empty());
    // a key, or a folder once for all its keys
    let mut entries = BTreeMap::new();
    for (key, object) in &state.objects {
        let Some(rest) = key.strip_prefix(prefix) else { continue };
        match delimiter.and_then(|delimiter| rest.find(delimiter)) {
            Some(end) => entries.insert(format!("{prefix}{}", &rest[..=end]), None),
            None => entries.insert(key.clone(), Some(object.len())),
        };
    }
    let page = if state.page == 0 { 1000 } else { state.page };
    let mut left: Vec<_> = entries.into_iter().filter(|(name, _)| name.as_str() > after).collect();
    let more = if left.len() > page { left.split_off(page) } else { vec![] };
    let mut rows: String = left
        .iter()
        .map(|(name, size)| match size {
            Some(size) => row(name, *size),
            None => format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"),
        })
        .collect();
    for odd in &state.odd_keys {
        let name = format!("{prefix}{odd}");
        match delimiter.filter(|_| odd.ends_with("//")) {
            Some(_) => rows += &format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"),
            None => rows += &row(&name, 0),
        }
    }
    let end = if state.cut_off {
        "<IsTruncated>true</IsTruncated><NextMarker>x</NextMarker>".into()
    } else if more.is_empty() {
        "<IsTruncated>false</IsTruncated>".into()
    } else {
        let last = &left[left.len() - 1].0;
        format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{last}</NextContinuationToken>")
    };
    let xml = format!("<?xml version=\"1.0\"?><ListBucketResult>{rows}{end}</ListBucketResult>");
    ([(header::CONTENT_TYPE, "application/xml")], xml).into_response()
}

fn row(key: &str, size: usize) -> String {
    format!("<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>{MODIFIED}</LastModified></Contents>")
}
