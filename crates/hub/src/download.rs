//! Requests to the Hugging Face Hub: what a file is, and the file, resumed and verified.

use std::error::Error as _;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use chrono::Utc;
use dpg_store::{PATIENCE, asked_wait, leads_inside};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, LOCATION, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::cache::is_commit;
use crate::{Error, Options};

/// How often a request is repeated that may succeed later.
const RETRIES: u32 = 5;
const REDIRECTS: usize = 5;
/// How a file begins that stands for one in Git LFS.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// What the Hub says of a file before it is downloaded.
pub(crate) struct Announced {
    /// The commit that the revision stands for.
    pub(crate) commit: Option<String>,
    /// SHA-256 of a large file, git's SHA-1 of a small one; elsewhere, anything.
    pub(crate) etag: String,
    /// Bytes.
    size: Option<u64>,
}

/// One repository on the Hub.
pub(crate) struct Hub<'a> {
    client: Client,
    endpoint: Url,
    repo: &'a str,
    revision: &'a str,
    options: &'a Options,
}

impl<'a> Hub<'a> {
    pub(crate) fn new(repo: &'a str, revision: &'a str, options: &'a Options) -> Result<Self, Error> {
        let endpoint = Url::parse(&options.hf_endpoint).ok().filter(|url| !url.cannot_be_a_base());
        let endpoint = endpoint.ok_or_else(|| Error::Uri {
            uri: options.hf_endpoint.clone(),
            expected: "a web address in `HF_ENDPOINT`, as in `https://huggingface.co`",
        })?;
        let client = Client::builder()
            .user_agent(concat!("dpg/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_mins(1))
            // followed by hand, with a look at where they lead
            .redirect(Policy::none())
            .build()
            .map_err(|source| Error::Transfer {
                repo: repo.into(),
                revision: revision.into(),
                file: String::new(),
                source,
            })?;
        Ok(Self { client, endpoint, repo, revision, options })
    }

    /// What a file is at a revision; `None` if there is no such file.
    pub(crate) async fn head(&self, revision: &str, file: &str) -> Result<Option<Announced>, Error> {
        let mut retries = Retries::new(self.options);
        loop {
            match self.head_once(revision, file).await {
                Err(error) if retries.wait_after(&error).await => {}
                result => return result,
            }
        }
    }

    /// Where a redirect leads. A server outside of this network may not lead into it.
    async fn redirected(&self, file: &str, url: &Url, headers: &HeaderMap) -> Result<Url, Error> {
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let next = location.and_then(|location| url.join(location).ok());
        let next = next.ok_or_else(|| self.malformed(file, "a redirect to nowhere"))?;
        self.check_reach(file, &next).await?;
        Ok(next)
    }

    /// Refuses an address in this network that a server outside of it names.
    pub(crate) async fn check_reach(&self, file: &str, next: &Url) -> Result<(), Error> {
        let is_astray = next.origin() != self.endpoint.origin()
            && leads_inside(next).await
            && !leads_inside(&self.endpoint).await;
        if is_astray {
            return Err(
                self.malformed(file, "an address in this machine's own network, which is not followed")
            );
        }
        Ok(())
    }

    /// A request without the token.
    pub(crate) fn unsigned(&self, method: Method, url: &Url) -> RequestBuilder {
        self.client.request(method, url.clone())
    }

    /// A request; the token goes to the endpoint alone.
    pub(crate) fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        let request = self.unsigned(method, url);
        if url.origin() == self.endpoint.origin() { self.signed(request) } else { request }
    }

    /// The redirect to a large file's storage carries its hash.
    async fn head_once(&self, revision: &str, file: &str) -> Result<Option<Announced>, Error> {
        let mut url = self.url(revision, file);
        let mut commit = None;
        for _ in 0..=REDIRECTS {
            let response =
                self.request(Method::HEAD, &url).send().await.map_err(|source| self.broken(file, source))?;
            let (status, headers) = (response.status(), response.headers());
            let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
            commit = commit.or_else(|| text("x-repo-commit").map(str::to_owned));
            let linked = text("x-linked-etag");
            if status.is_redirection() && linked.is_none() {
                url = self.redirected(file, &url, headers).await?;
                continue;
            }
            let entry = text("x-error-code").is_none_or(|code| code == "EntryNotFound");
            if status == StatusCode::NOT_FOUND && entry {
                return Ok(None);
            }
            if !status.is_success() && !status.is_redirection() {
                return Err(self.refused(file, status, Some(headers)));
            }
            if status.is_success() {
                self.check_page(file, headers)?;
            }
            let etag = linked.or(text(ETAG.as_str())).filter(|etag| !etag.is_empty()).map(cache_name);
            // what a commit holds never changes, so its file needs no other name than its place there
            let place = || is_commit(revision).then(|| hashed(&format!("{revision}/{file}")));
            let etag = etag.or_else(place).ok_or_else(|| {
                self.malformed(file, "the server sends no `ETag`; name a commit (`hf:org/name@COMMIT`)")
            })?;
            let length = (!status.is_redirection()).then(|| text(CONTENT_LENGTH.as_str())).flatten();
            let size = text("x-linked-size").or(length).and_then(|size| size.parse().ok());
            return Ok(Some(Announced { commit, etag, size }));
        }
        Err(self.malformed(file, "too many redirects"))
    }

    /// Downloads a file to `blob`, going on from `blob.incomplete` if an earlier attempt left that.
    pub(crate) async fn download(
        &self,
        revision: &str,
        file: &str,
        announced: &Announced,
        blob: &Path,
    ) -> Result<(), Error> {
        let partial = blob.with_added_extension("incomplete");
        let output = open_locked(&partial).await?;
        let size = blob.metadata().ok().map(|metadata| metadata.len());
        if size.is_some() && announced.size.is_none_or(|expected| size == Some(expected)) {
            let _ = fs::remove_file(&partial);
            return Ok(());
        }
        info!(repo = self.repo, file, bytes = announced.size, "downloading");
        let mut retries = Retries::new(self.options);
        loop {
            match self.transfer(revision, file, announced, &output, &partial).await {
                Ok(()) => return fs::rename(&partial, blob).map_err(Error::io(blob)),
                Err(error) if retries.wait_after(&error).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// One attempt. What came stays in `output` for the next one unless it is wrong.
    async fn transfer(
        &self,
        revision: &str,
        file: &str,
        announced: &Announced,
        mut output: &File,
        path: &Path,
    ) -> Result<(), Error> {
        let mut length = output.metadata().map_err(Error::io(path))?.len();
        if announced.size.is_none_or(|size| length > size) {
            output.set_len(0).map_err(Error::io(path))?;
            length = 0;
        }
        let resumed = length > 0;
        if announced.size != Some(length) {
            let broken = |source| self.broken(file, source);
            let (mut url, mut redirects) = (self.url(revision, file), 0);
            let mut response = loop {
                let mut request = self.request(Method::GET, &url);
                if resumed {
                    request = request.header(RANGE, format!("bytes={length}-"));
                }
                let response = request.send().await.map_err(broken)?;
                if !response.status().is_redirection() {
                    break response;
                }
                if redirects == REDIRECTS {
                    return Err(self.malformed(file, "too many redirects"));
                }
                redirects += 1;
                url = self.redirected(file, &url, response.headers()).await?;
            };
            let status = response.status();
            if resumed && [StatusCode::OK, StatusCode::RANGE_NOT_SATISFIABLE].contains(&status) {
                output.set_len(0).map_err(Error::io(path))?;
                length = 0;
            }
            if !status.is_success() {
                return Err(self.refused(file, status, Some(response.headers())));
            }
            self.check_page(file, response.headers())?;
            while let Some(chunk) = response.chunk().await.map_err(broken)? {
                output.write_all(&chunk).map_err(Error::io(path))?;
                length += chunk.len() as u64;
            }
        }
        let corrupt = |found: String, expected: String| {
            let (uri, file) = (format!("hf:{}@{}", self.repo, self.revision), file.into());
            Error::Corrupt { uri, file, found, expected, resumed }
        };
        let verified = match announced.size {
            Some(size) if size != length => Err(corrupt(format!("{length} bytes"), format!("{size}"))),
            _ => {
                let (etag, copy) = (announced.etag.clone(), output.try_clone().map_err(Error::io(path))?);
                let found = blocking(move || digest(&copy, length, &etag)).await.map_err(Error::io(path))?;
                match found {
                    Some(found) if !found.eq_ignore_ascii_case(&announced.etag) => {
                        Err(corrupt(found, announced.etag.clone()))
                    }
                    _ => Ok(()),
                }
            }
        };
        let verified = verified.and_then(|()| self.check_pointer(file, output, path));
        if verified.is_err() {
            output.set_len(0).map_err(Error::io(path))?;
        }
        verified
    }

    /// Refuses a page for people in place of a file of a model.
    fn check_page(&self, file: &str, headers: &HeaderMap) -> Result<(), Error> {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind.is_some_and(|kind| kind.starts_with("text/html")) {
            let reason = "the server sends a web page, as a proxy or a login does; check `HF_ENDPOINT`";
            return Err(self.malformed(file, reason));
        }
        Ok(())
    }

    /// Refuses a pointer to the content, which a mirror without Git LFS has in its place.
    fn check_pointer(&self, file: &str, mut output: &File, path: &Path) -> Result<(), Error> {
        let mut start = Vec::new();
        output.rewind().map_err(Error::io(path))?;
        output.take(LFS_POINTER.len() as u64).read_to_end(&mut start).map_err(Error::io(path))?;
        if start == LFS_POINTER {
            let reason =
                "the server sends a Git LFS pointer in place of the file; use one that serves LFS files";
            return Err(self.malformed(file, reason));
        }
        Ok(())
    }

    fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.options.hf_token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn url(&self, revision: &str, file: &str) -> Url {
        let mut segments: Vec<_> = self.repo.split('/').collect();
        segments.extend(["resolve", revision]);
        segments.extend(file.split('/'));
        self.at(&segments)
    }

    /// An address at the endpoint.
    pub(crate) fn at(&self, segments: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// The error for an answer that is not a success.
    pub(crate) fn refused(&self, file: &str, status: StatusCode, headers: Option<&HeaderMap>) -> Error {
        let (repo, revision) = (self.repo.to_owned(), self.revision.to_owned());
        let said = headers.and_then(|headers| headers.get("x-error-message")?.to_str().ok());
        let hint = match status.as_u16() {
            401 | 403 => format!(
                "check the name; if the model is private or gated, accept its terms at {}/{repo} and set \
                 `HF_TOKEN` to a token that may read it",
                self.options.hf_endpoint.trim_end_matches('/'),
            ),
            404 => format!("check that `{repo}` has a revision `{revision}` and a file `{file}`"),
            429 => "repeat it then, or set `HF_TOKEN`, with which more is allowed".into(),
            407 => "give the proxy's user and password in `HTTPS_PROXY`".into(),
            _ => "try again later".into(),
        };
        let hint = said.map_or(hint.clone(), |said| format!("{said}; {hint}"));
        let wait = headers.and_then(|headers| asked_wait(headers, Utc::now()));
        Error::Status { repo, revision, file: file.into(), status, wait, hint }
    }

    pub(crate) fn broken(&self, file: &str, source: reqwest::Error) -> Error {
        Error::Transfer { repo: self.repo.into(), revision: self.revision.into(), file: file.into(), source }
    }

    pub(crate) fn malformed(&self, file: &str, reason: &str) -> Error {
        let uri = format!("hf:{}@{}", self.repo, self.revision);
        Error::Malformed { uri, file: file.into(), reason: reason.into() }
    }
}

/// Opens a file to be read and appended to, as soon as no other process has it open in this way.
/// What that one was doing is done then.
pub(crate) async fn open_locked(path: &Path) -> Result<File, Error> {
    let file = OpenOptions::new().create(true).append(true).read(true).open(path).map_err(Error::io(path))?;
    blocking(move || file.lock().map(|()| file)).await.map_err(Error::io(path))
}

/// The waits between attempts.
pub(crate) struct Retries {
    left: u32,
    wait: Duration,
}

impl Retries {
    pub(crate) fn new(options: &Options) -> Self {
        Self { left: RETRIES, wait: options.retry_wait }
    }

    /// Waits if the request is to be repeated after this error; false if not.
    pub(crate) async fn wait_after(&mut self, error: &Error) -> bool {
        let asked = if let Error::Status { wait, .. } = error { *wait } else { None };
        let wait = asked.map_or(self.wait, |asked| asked.max(self.wait));
        if self.left == 0 || !error.is_transient() || wait > PATIENCE {
            return false;
        }
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        warn!("{error}{cause}; trying again in {:.1} s", wait.as_secs_f64());
        sleep(wait).await;
        self.left -= 1;
        self.wait *= 2;
        true
    }
}

/// The name in the cache of content with this ETag, as the Python library has it where that can be a
/// file's name.
fn cache_name(etag: &str) -> String {
    let etag = etag.trim().trim_start_matches("W/").trim_matches('"');
    let is_plain = |c: char| !c.is_control() && !['/', '\\'].contains(&c);
    let is_name =
        !etag.is_empty() && !etag.starts_with('.') && etag.len() <= 128 && etag.chars().all(is_plain);
    if is_name { etag.to_owned() } else { hashed(etag) }
}

/// A name that is not taken for a hash of content.
fn hashed(text: &str) -> String {
    format!("etag-{}", hex::encode(Sha256::digest(text)))
}

/// The hash of a file of the kind that the ETag is, once it is safely on disk. `None` if the ETag is
/// no hash that is known.
fn digest(file: &File, length: u64, etag: &str) -> std::io::Result<Option<String>> {
    file.sync_all()?;
    let is_hex = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    match etag.len() {
        64 if is_hex => hash(Sha256::new(), file).map(Some),
        40 if is_hex => {
            // the Hub's is git's, with a head; Artifactory's is the content's alone
            let plain = hash(Sha1::new(), file)?;
            if plain.eq_ignore_ascii_case(etag) {
                return Ok(Some(plain));
            }
            hash(Sha1::new_with_prefix(format!("blob {length}\0")), file).map(Some)
        }
        _ => Ok(None),
    }
}

fn hash<D: Digest>(mut digest: D, mut file: &File) -> std::io::Result<String> {
    file.rewind()?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(digest.finalize())),
            count => digest.update(&buffer[..count]),
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.expect("the work does not panic and is not aborted")
}
