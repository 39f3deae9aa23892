//! The requests of a push.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, LINK};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Push;
use crate::download::{Hub, Retries};
use crate::{Error, Options};

/// Answers of a listing that come one after the other.
const MOST_PAGES: usize = 1000;

/// A file of the repository.
#[derive(Deserialize)]
pub(super) struct Entry {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    /// The name of its content in git.
    pub(super) oid: String,
    pub(super) lfs: Option<Large>,
}

/// Content that git has a pointer to.
#[derive(Deserialize)]
pub(super) struct Large {
    /// SHA-256.
    pub(super) oid: String,
}

/// A repository that is pushed to.
pub(super) struct Api<'a> {
    pub(super) hub: Hub<'a>,
    repo: &'a str,
    branch: &'a str,
    options: &'a Options,
}

impl<'a> Api<'a> {
    pub(super) fn new(push: &Push<'a>, options: &'a Options) -> Result<Self, Error> {
        if options.hf_token.is_none() {
            return Err(Error::NoToken { repo: push.repo.into() });
        }
        let hub = Hub::new(push.repo, push.branch, options)?;
        Ok(Self { hub, repo: push.repo, branch: push.branch, options })
    }

    /// Makes the repository; false if there is one.
    pub(super) async fn create(&self, private: bool) -> Result<bool, Error> {
        let (organization, name) = match self.repo.split_once('/') {
            Some((organization, name)) => (Some(organization), name),
            None => (None, self.repo),
        };
        let visibility = if private { "private" } else { "public" };
        let body = json!({
            "type": "dataset", "name": name, "organization": organization, "visibility": visibility,
        });
        let url = self.hub.at(&["api", "repos", "create"]);
        let made = self.post("create", &url, &body, &[StatusCode::CONFLICT]).await?;
        Ok(made.status() != StatusCode::CONFLICT)
    }

    /// The commit that the branch is at.
    pub(super) async fn commit(&self) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Revision {
            sha: String,
        }
        let url = self.of_dataset("revision", self.branch);
        let answer = self.send("revision", || self.hub.request(Method::GET, &url), &[]).await?;
        Ok(self.read::<Revision>("revision", answer).await?.sha)
    }

    /// The files of a commit by their paths.
    pub(super) async fn tree(&self, commit: &str) -> Result<BTreeMap<String, Entry>, Error> {
        let mut url = self.of_dataset("tree", commit);
        url.query_pairs_mut().append_pair("recursive", "true");
        let mut files = BTreeMap::new();
        for _ in 0..MOST_PAGES {
            let answer = self.send("tree", || self.hub.request(Method::GET, &url), &[]).await?;
            let next = answer.headers().get(LINK).and_then(|link| next(link.to_str().ok()?, &url));
            let entries: Vec<Entry> = self.read("tree", answer).await?;
            let entries = entries.into_iter().filter(|entry| entry.kind == "file");
            files.extend(entries.map(|entry| (entry.path.clone(), entry)));
            match next.filter(|next| next.origin() == url.origin()) {
                Some(next) => url = next,
                None => break,
            }
        }
        Ok(files)
    }

    /// How each of the files that are described is wanted.
    pub(super) async fn modes(&self, files: Vec<Value>) -> Result<BTreeMap<String, String>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Mode {
            path: String,
            upload_mode: String,
        }
        #[derive(Deserialize)]
        struct Modes {
            files: Vec<Mode>,
        }
        let url = self.of_dataset("preupload", self.branch);
        let answer = self.post("preupload", &url, &json!({ "files": files }), &[]).await?;
        let modes: Modes = self.read("preupload", answer).await?;
        Ok(modes.files.into_iter().map(|mode| (mode.path, mode.upload_mode)).collect())
    }

    /// Commits what the lines say, and returns the commit.
    pub(super) async fn send_commit(&self, lines: &[Value]) -> Result<String, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Committed {
            commit_oid: String,
        }
        let url = self.of_dataset("commit", self.branch);
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let make = || {
            self.hub
                .request(Method::POST, &url)
                .header(CONTENT_TYPE, "application/x-ndjson")
                .body(body.clone())
        };
        let answer = self.send("commit", make, &[StatusCode::PRECONDITION_FAILED]).await?;
        if answer.status() == StatusCode::PRECONDITION_FAILED {
            return Err(Error::Moved { repo: self.repo.into(), branch: self.branch.into() });
        }
        Ok(self.read::<Committed>("commit", answer).await?.commit_oid)
    }

    /// Gives a commit a tag; false if another commit has it.
    pub(super) async fn tag(&self, commit: &str, tag: &str) -> Result<bool, Error> {
        let url = self.of_dataset("tag", commit);
        let made = self.post("tag", &url, &json!({ "tag": tag }), &[StatusCode::CONFLICT]).await?;
        if made.status() != StatusCode::CONFLICT {
            return Ok(true);
        }
        let url = self.of_dataset("revision", tag);
        let answer = self.send("revision", || self.hub.request(Method::GET, &url), &[]).await?;
        let found: Value = self.read("revision", answer).await?;
        Ok(found["sha"] == commit)
    }

    /// The dataset's page.
    pub(super) fn page(&self) -> String {
        self.hub.at(&["datasets"]).to_string() + "/" + self.repo
    }

    /// `api/datasets/{repo}/{what}/{revision}`.
    fn of_dataset(&self, what: &str, revision: &str) -> Url {
        let repo: Vec<_> = self.repo.split('/').collect();
        self.hub.at(&[&["api", "datasets"], &repo[..], &[what, revision]].concat())
    }

    pub(super) async fn post(
        &self,
        what: &str,
        url: &Url,
        body: &Value,
        also: &[StatusCode],
    ) -> Result<Response, Error> {
        self.send(what, || self.hub.request(Method::POST, url).json(body), also).await
    }

    /// Sends a request, again if it fails for now. An answer is a success or one of `also`.
    pub(super) async fn send(
        &self,
        what: &str,
        make: impl Fn() -> RequestBuilder,
        also: &[StatusCode],
    ) -> Result<Response, Error> {
        let mut retries = Retries::new(self.options);
        loop {
            let error = match make().send().await {
                Ok(answer) if answer.status().is_success() || also.contains(&answer.status()) => {
                    return Ok(answer);
                }
                Ok(answer) => self.refusal(what, answer).await,
                Err(source) => self.hub.broken(what, source),
            };
            if !retries.wait_after(&error).await {
                return Err(error);
            }
        }
    }

    /// The error for an answer, with what the Hub says of it.
    async fn refusal(&self, what: &str, answer: Response) -> Error {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let said = headers.get("x-error-message").and_then(|said| said.to_str().ok()).map(str::to_owned);
        let said = match said {
            Some(said) => Some(said),
            None => {
                answer.json::<Value>().await.ok().and_then(|body| Some(body["error"].as_str()?.to_owned()))
            }
        };
        let mut error = self.hub.refused(what, status, Some(&headers));
        if let Error::Status { hint, .. } = &mut error {
            let todo = match status.as_u16() {
                401 | 403 => "set `HF_TOKEN` to a token that may write there".into(),
                404 => format!("check that there is a branch `{}`", self.branch),
                _ => "repeat it later".into(),
            };
            *hint = said.map_or(todo.clone(), |said| format!("{said}; {todo}"));
        }
        error
    }

    async fn read<T: DeserializeOwned>(&self, what: &str, answer: Response) -> Result<T, Error> {
        let bytes = answer.bytes().await.map_err(|source| self.hub.broken(what, source))?;
        serde_json::from_slice(&bytes).map_err(|error| self.hub.malformed(what, &error.to_string()))
    }
}

/// The next page, as a header `Link` has it.
fn next(link: &str, from: &Url) -> Option<Url> {
    let next = link.split(',').find(|link| link.contains("rel=\"next\""))?;
    let (address, _) = next.split_once('<')?.1.split_once('>')?;
    from.join(address).ok()
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
