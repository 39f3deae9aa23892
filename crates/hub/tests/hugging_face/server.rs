//! A server that speaks the Hub's HTTP as far as model downloads need it, faults on request.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};

use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong with one request for a file's content.
pub(crate) enum Fault {
    /// This status instead of an answer.
    Status(u16),
    /// The connection breaks after so many bytes.
    Truncate(usize),
    /// As many bytes, but other ones.
    Garbage,
}

/// How a mirror names content that it serves itself.
#[derive(Clone, Copy)]
pub(crate) enum Etag {
    /// As git does, weakly and in capitals.
    Weak,
    /// Artifactory: SHA-1 of the content.
    Sha1,
    /// Nexus: the same in a form of its own.
    Braces,
    /// Something that is not a file's name.
    Slashes,
    /// Not at all.
    Absent,
}

#[derive(Default)]
pub(crate) struct State {
    /// What stands in front of the Hub's paths.
    pub(crate) base: &'static str,
    /// Answers to the next requests for anything: a status and a header.
    pub(crate) busy: VecDeque<(u16, &'static str, &'static str)>,
    /// It is a mirror: it does not say which commit this is, and sends large files itself.
    pub(crate) mirror: Option<Etag>,
    /// It answers everything with a page to sign in.
    pub(crate) is_login: bool,
    /// Files of `org/name` at `main`, which is [`COMMIT`].
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Faults of a file, one for each request for its content.
    pub(crate) faults: BTreeMap<String, VecDeque<Fault>>,
    /// The token that is asked for.
    pub(crate) token: Option<String>,
    /// `METHOD FILE RANGE` of each request; storage requests begin with `STORAGE`.
    pub(crate) log: Vec<String>,
}

/// The Hub and, on another port, the storage that it redirects to for `.safetensors` files.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) endpoint: String,
    storage: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let hub = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let storage = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let server = Self { endpoint: address(&hub), storage: address(&storage), state: Arc::default() };
        for (listener, is_storage) in [(hub, false), (storage, true)] {
            let server = server.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(server.clone().serve(stream, is_storage));
                }
            });
        }
        server
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn fault(&self, file: &str, fault: Fault) {
        self.state().faults.entry(file.into()).or_default().push_back(fault);
    }

    /// The requests since this was last asked.
    pub(crate) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }

    async fn serve(self, mut stream: TcpStream, is_storage: bool) -> Option<()> {
        let mut lines = BufReader::new(&mut stream).lines();
        let request = lines.next_line().await.ok()??;
        let mut headers = BTreeMap::new();
        while let Some(line) = lines.next_line().await.ok()?.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let answer = self.answer(method, path, &headers, is_storage);
        stream.write_all(&answer).await.ok()?;
        stream.shutdown().await.ok()
    }

    fn answer(
        &self,
        method: &str,
        path: &str,
        headers: &BTreeMap<String, String>,
        is_storage: bool,
    ) -> Vec<u8> {
        let mut state = self.state();
        let file = path.rsplit('/').next().unwrap().to_owned();
        let range = headers.get("range").map_or("", String::as_str);
        let who = if is_storage { "STORAGE" } else { method };
        state.log.push(format!("{who} {file} {range}").trim_end().to_owned());
        if let Some((status, name, value)) = state.busy.pop_front() {
            return answer(status, &[(name, value)], b"");
        }
        if state.is_login {
            return head_of(
                answer(200, &[("content-type", "text/html"), ("etag", "\"page\"")], b"<html>"),
                method,
            );
        }
        let Some(path) = path.strip_prefix(state.base) else { return answer(404, &[], b"") };
        let authorization = headers.get("authorization").map(String::as_str);
        if is_storage {
            if authorization.is_some() {
                return answer(400, &[("x-error-message", "the token leaked")], b"");
            }
        } else {
            if state.token.is_some()
                && authorization.map(str::to_owned) != state.token.as_ref().map(|t| format!("Bearer {t}"))
            {
                return answer(401, &[("x-error-code", "GatedRepo")], b"");
            }
            if let Some(rest) = path.strip_prefix("/old/name/") {
                return answer(307, &[("location", &format!("/org/name/{rest}"))], b"");
            }
            let Some(rest) = path.strip_prefix("/org/name/resolve/") else {
                return answer(404, &[("x-error-code", "RepoNotFound")], b"");
            };
            if !["main", COMMIT, "refs%2Fpr%2F1"].contains(&rest.split('/').next().unwrap()) {
                return answer(404, &[("x-error-code", "RevisionNotFound")], b"");
            }
        }
        let Some(content) = state.files.get(&file).cloned() else {
            return answer(404, &[("x-error-code", "EntryNotFound"), ("x-repo-commit", COMMIT)], b"");
        };
        let is_large = file.ends_with(".safetensors");
        if is_large && !is_storage && state.mirror.is_none() {
            let headers = [
                ("location", &*format!("{}/{file}", self.storage)),
                ("x-repo-commit", COMMIT),
                ("x-linked-etag", &format!("\"{}\"", hex::encode(Sha256::digest(&content)))),
                ("x-linked-size", &content.len().to_string()),
            ];
            return answer(302, &headers, b"");
        }
        let git = Sha1::new_with_prefix(format!("blob {}\0", content.len())).chain_update(&content);
        let git = hex::encode(git.finalize());
        let sha1 = hex::encode(Sha1::digest(&content));
        let etag = match state.mirror {
            None => format!("\"{git}\""),
            Some(Etag::Weak) => format!("W/\"{}\"", git.to_uppercase()),
            Some(Etag::Sha1) => sha1,
            Some(Etag::Braces) => format!("\"{{SHA1{{{sha1}}}}}\""),
            Some(Etag::Slashes) => format!("\"../{sha1}\""),
            Some(Etag::Absent) => String::new(),
        };
        let mut common = vec![("etag", &*etag), ("x-repo-commit", COMMIT)];
        if state.mirror.is_some() {
            common.truncate(usize::from(!etag.is_empty()));
        }
        if method == "HEAD" {
            return head_of(answer(200, &common, &content), method);
        }
        let start =
            range.strip_prefix("bytes=").map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
        let status = if range.is_empty() { 200 } else { 206 };
        match state.faults.get_mut(&file).and_then(VecDeque::pop_front) {
            None => answer(status, &common, &content[start..]),
            Some(Fault::Status(status)) => answer(status, &[], b""),
            Some(Fault::Garbage) => answer(status, &common, &vec![b'x'; content.len() - start]),
            Some(Fault::Truncate(sent)) => {
                let mut whole = answer(status, &common, &content[start..]);
                whole.truncate(whole.len() - (content.len() - start - sent));
                whole
            }
        }
    }
}

/// What is sent of an answer to a request with this method.
fn head_of(mut answer: Vec<u8>, method: &str) -> Vec<u8> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    if method == "HEAD" {
        answer.truncate(end);
    }
    answer
}

fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    [head.as_bytes(), b"\r\n", body].concat()
}
