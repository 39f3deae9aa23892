//! What stands between `object_store` and the network.
//!
//! `object_store` repeats requests itself, deaf to `Retry-After`, and 501s as well; it takes 409 for
//! "there already", follows redirects with whatever is left of a request, and fails on a listing with
//! one odd key. So it never sees the answers that it would misread. What it still repeats itself is a
//! request that got no answer.

use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::Utc;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use reqwest::header::{CONTENT_LENGTH, ETAG, HeaderValue, IF_NONE_MATCH};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Proxy, StatusCode};
use tokio::time::sleep;
use tracing::warn;

use crate::cause::lowest;
use crate::refusal::is_page;
use crate::{Refusal, listing};

/// Repetitions of a request that was refused for the moment.
const RETRIES: u32 = 10;
/// Before the first repetition; it doubles with each.
const WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// After this long nothing is repeated: a signature is good for a quarter of an hour.
const IN_ALL: Duration = Duration::from_mins(3);
/// Where machines in a cloud ask for their role's keys.
const METADATA: &str = "169.254.";

/// Makes clients that wait as long as they are asked to, and understand what they are told. They follow
/// no redirect: the signature is good for one host, and a PUT would arrive as a GET.
#[derive(Debug)]
pub(crate) struct Connector {
    /// A proxy beside those of the environment.
    pub(crate) proxy: Option<String>,
    pub(crate) accept_invalid_certificates: bool,
}

impl HttpConnector for Connector {
    /// Of the options those count alone that are fields here.
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed =
            |error: reqwest::Error| object_store::Error::Generic { store: "S3", source: error.into() };
        let mut client = Client::builder()
            .user_agent(concat!("dpg/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(Duration::from_mins(1))
            .redirect(Policy::none())
            .tls_danger_accept_invalid_certs(self.accept_invalid_certificates);
        if let Some(proxy) = &self.proxy {
            client = client.proxy(Proxy::all(proxy).map_err(failed)?);
        }
        Ok(HttpClient::new(Service(HttpClient::new(client.build().map_err(failed)?))))
    }
}

#[derive(Debug)]
struct Service(HttpClient);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let asked = Asked::of(&request);
        let started = Instant::now();
        let mut retries = 0;
        loop {
            let answer = self.0.execute(request.clone()).await.map_err(|error| asked.unreachable(&error))?;
            let refusal = match asked.read(answer).await? {
                Ok(answer) => return Ok(answer),
                Err(refusal) => refusal,
            };
            let usual = LONGEST_WAIT.min(WAIT * 2_u32.pow(retries));
            match refusal.wait(usual) {
                Some(wait) if retries < RETRIES && started.elapsed() + wait < IN_ALL => {
                    if wait > usual {
                        warn!("{refusal}; waiting");
                    }
                    sleep(wait).await;
                    retries += 1;
                }
                // of this kind `object_store` repeats nothing
                _ => return Err(HttpError::new(HttpErrorKind::Unknown, refusal)),
            }
        }
    }
}

/// What a request wants.
struct Asked {
    host: String,
    /// Scheme, host and port.
    origin: String,
    method: Method,
    is_listing: bool,
    is_create: bool,
    is_part: bool,
}

impl Asked {
    fn of(request: &HttpRequest) -> Self {
        let uri = request.uri();
        let query = uri.query().unwrap_or_default();
        let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        Self {
            host: uri.host().unwrap_or_default().to_owned(),
            origin: format!(
                "{}://{}",
                uri.scheme_str().unwrap_or_default(),
                uri.authority().map(ToString::to_string).unwrap_or_default()
            ),
            method: request.method().clone(),
            is_listing: has("list-type"),
            is_create: request.headers().contains_key(IF_NONE_MATCH),
            is_part: has("uploadId"),
        }
    }

    fn reads(&self) -> bool {
        [Method::GET, Method::HEAD].contains(&self.method)
    }

    /// The answer as `object_store` may see it, or what it says against the request.
    async fn read(&self, answer: HttpResponse) -> Result<Result<HttpResponse, Refusal>, HttpError> {
        let status = answer.status();
        if !status.is_success() {
            return self.read_failure(answer).await;
        }
        let (mut head, body) = answer.into_parts();
        let is_page = is_page(&head.headers, "");
        if is_page && (self.is_listing || !self.reads() || !head.headers.contains_key(ETAG)) {
            return Ok(Err(Refusal::page(status)));
        }
        if self.is_listing {
            let body = body.bytes().await?;
            return Ok(match listing::readable(&String::from_utf8_lossy(&body)) {
                Ok(xml) => {
                    head.headers.remove(CONTENT_LENGTH);
                    Ok(HttpResponse::from_parts(head, xml.into()))
                }
                Err(unusable) => Err(Refusal::listing(status, &unusable)),
            });
        }
        if self.method == Method::PUT && !self.is_part {
            // not every server names what it has written, and nobody asks
            head.headers.entry(ETAG).or_insert(HeaderValue::from_static("\"\""));
        }
        Ok(Ok(HttpResponse::from_parts(head, body)))
    }

    async fn read_failure(&self, answer: HttpResponse) -> Result<Result<HttpResponse, Refusal>, HttpError> {
        use StatusCode as S;
        let status = answer.status();
        let (head, body) = answer.into_parts();
        let body: Bytes = body.bytes().await?;
        let text = String::from_utf8_lossy(&body);
        let refusal = Refusal::read(status, &head.headers, &text, Utc::now());
        let is_plain = match status {
            S::NOT_MODIFIED | S::PRECONDITION_FAILED => true,
            // an object that is not there, but not a bucket, and not a page that a proxy lacks
            S::NOT_FOUND => {
                let missing = !self.is_listing && (self.reads() || self.method == Method::DELETE);
                missing && refusal.code() != "NoSuchBucket" && !is_page(&head.headers, &text)
            }
            // some servers say that an object is there already
            S::CONFLICT => self.is_create && !refusal.is_transient(),
            _ => false,
        };
        Ok(if is_plain { Ok(HttpResponse::from_parts(head, body.into())) } else { Err(refusal) })
    }

    /// A failure to talk to the server, with its address.
    fn unreachable(&self, error: &HttpError) -> HttpError {
        if self.host.starts_with(METADATA) && error.kind() != HttpErrorKind::Unknown {
            let text =
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, and this machine has no role";
            return HttpError::new(HttpErrorKind::Unknown, Unreachable(text.into()));
        }
        let text = format!("cannot reach `{}`: {}", self.origin, lowest(error));
        HttpError::new(error.kind(), Unreachable(text))
    }
}

/// Why there is no answer.
#[derive(Debug)]
struct Unreachable(String);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreachable {}
