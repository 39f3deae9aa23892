//! A client: one method a call.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::{
    Challenge, CreateAttestation, CreateToken, CreatedToken, DatasetDetail, DatasetList, DatasetVersion,
    DeedPage, DeliveryPage, Error, EventList, Follow, Job, JobDetail, JobPage, ProblemDetails, Proof,
    PutSchedule, PutTag, ScheduleDetail, ScheduleList, Secret, State, SubmitJob, Submitted, Token, TokenList,
    VersionDetail, Yank,
};

/// A daemon, and the token to call it with. Clones share connections. It holds a secret, so it has no
/// `Debug`.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    token: Option<HeaderValue>,
    /// What the daemon must prove to know before it gets the token.
    secret: Option<Secret>,
}

/// Which jobs to list; the default is the newest.
#[derive(Clone, Debug, Default, Serialize)]
pub struct JobQuery {
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those of this dataset.
    pub name: Option<String>,
    /// Only those submitted at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Where the page starts: the `next` of the page before.
    pub cursor: Option<Uuid>,
    /// Jobs on a page.
    pub limit: Option<u32>,
}

impl Client {
    /// A client of the daemon at `url`. The process has installed a rustls crypto provider before.
    ///
    /// # Errors
    /// The address or the token is malformed.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, Error> {
        let malformed = || Error::Url { url: url.into() };
        let parsed = Url::parse(url).map_err(|_| malformed())?;
        if !["http", "https"].contains(&parsed.scheme()) || parsed.cannot_be_a_base() {
            return Err(malformed());
        }
        let header = |token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Error::Token)?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        };
        let token = token.map(header).transpose()?;
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_mins(1))
            .build()
            .map_err(|source| Error::Connection { url: url.into(), source })?;
        Ok(Self { http, url: parsed, token, secret: None })
    }

    /// From now on, before each request, the daemon proves that it knows this secret: only then it gets
    /// the token. A daemon that is killed leaves its port to whoever takes it next.
    #[must_use]
    pub fn proven_by(self, secret: Secret) -> Self {
        Self { secret: Some(secret), ..self }
    }

    /// The daemon's address.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Whether something answers as a daemon does, within two seconds. The token is not sent.
    pub async fn is_alive(&self) -> bool {
        let request = self.http.get(self.address(&["healthz"])).timeout(Duration::from_secs(2));
        request.send().await.is_ok_and(|response| response.status().is_success())
    }

    /// Asks for the daemon's proof, if the client wants one. The token is not sent.
    ///
    /// # Errors
    /// Nobody answers within five seconds, or not as the daemon would.
    pub async fn prove(&self) -> Result<(), Error> {
        let Some(secret) = &self.secret else { return Ok(()) };
        let challenge =
            Challenge { nonce: format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()) };
        let asked =
            self.http.get(self.address(&["v1", "proof"])).query(&challenge).timeout(Duration::from_secs(5));
        let response = asked.send().await.map_err(|error| self.unreachable(error))?;
        let unproven = || Error::Unproven { url: self.url.to_string() };
        // more than a proof needs nobody has to say here
        if !response.status().is_success() || response.content_length().is_none_or(|length| length > 4096) {
            return Err(unproven());
        }
        let answer = response.json::<Proof>().await.map_err(|_| unproven())?;
        if secret.accepts(&challenge, &self.url, &answer) { Ok(()) } else { Err(unproven()) }
    }

    /// Submits a spec. Of submissions with one `key` while its job is live only the first makes a job.
    ///
    /// # Errors
    /// The spec is invalid, the key belongs to another spec's job; the daemon cannot be reached.
    pub async fn submit(&self, job: &SubmitJob, key: Option<&str>) -> Result<Submitted, Error> {
        let mut request = self.request(Method::POST, &["v1", "jobs"]).json(job);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.answer(request).await
    }

    /// A page of jobs, newest first.
    ///
    /// # Errors
    /// The daemon refuses or cannot be reached.
    pub async fn jobs(&self, query: &JobQuery) -> Result<JobPage, Error> {
        self.answer(self.request(Method::GET, &["v1", "jobs"]).query(query)).await
    }

    /// A job by its id, or the newest of a name.
    ///
    /// # Errors
    /// There is none; the daemon cannot be reached.
    pub async fn job(&self, job: &str) -> Result<JobDetail, Error> {
        self.get(&["v1", "jobs", job]).await
    }

    /// A job's events after number `after`, at most `limit`.
    ///
    /// # Errors
    /// As [`Client::job`].
    pub async fn events(&self, job: &str, after: i64, limit: u32) -> Result<EventList, Error> {
        let query = [("after", after), ("limit", i64::from(limit))];
        self.answer(self.request(Method::GET, &["v1", "jobs", job, "events"]).query(&query)).await
    }

    /// Follows a job until it ends, from the event after number `after`.
    pub fn follow(&self, job: &str, after: i64) -> Follow {
        Follow::new(self.clone(), job.into(), after)
    }

    /// Cancels a queued or running job.
    ///
    /// # Errors
    /// It has ended; as [`Client::job`].
    pub async fn cancel(&self, job: &str) -> Result<Job, Error> {
        self.post(&["v1", "jobs", job, "cancel"]).await
    }

    /// Queues a failed or cancelled job again.
    ///
    /// # Errors
    /// It is not in such a state; as [`Client::job`].
    pub async fn retry(&self, job: &str) -> Result<Job, Error> {
        self.post(&["v1", "jobs", job, "retry"]).await
    }

    /// Makes a schedule or replaces the one of its name.
    ///
    /// # Errors
    /// Its spec, expression or zone is invalid; the daemon refuses or cannot be reached.
    pub async fn put_schedule(&self, name: &str, schedule: &PutSchedule) -> Result<ScheduleDetail, Error> {
        self.answer(self.request(Method::PUT, &["v1", "schedules", name]).json(schedule)).await
    }

    /// All schedules.
    ///
    /// # Errors
    /// The daemon refuses or cannot be reached.
    pub async fn schedules(&self) -> Result<ScheduleList, Error> {
        self.get(&["v1", "schedules"]).await
    }

    /// A schedule with its next times.
    ///
    /// # Errors
    /// There is none; the daemon refuses or cannot be reached.
    pub async fn schedule(&self, name: &str) -> Result<ScheduleDetail, Error> {
        self.get(&["v1", "schedules", name]).await
    }

    /// Stops a schedule until it is resumed.
    ///
    /// # Errors
    /// As [`Client::schedule`].
    pub async fn pause_schedule(&self, name: &str) -> Result<ScheduleDetail, Error> {
        self.post(&["v1", "schedules", name, "pause"]).await
    }

    /// Lets a paused schedule go on.
    ///
    /// # Errors
    /// As [`Client::schedule`].
    pub async fn resume_schedule(&self, name: &str) -> Result<ScheduleDetail, Error> {
        self.post(&["v1", "schedules", name, "resume"]).await
    }

    /// Submits a schedule's job at once.
    ///
    /// # Errors
    /// As [`Client::schedule`].
    pub async fn run_schedule(&self, name: &str) -> Result<Job, Error> {
        self.post(&["v1", "schedules", name, "run"]).await
    }

    /// Deletes a schedule; its jobs are left alone.
    ///
    /// # Errors
    /// As [`Client::schedule`].
    pub async fn delete_schedule(&self, name: &str) -> Result<(), Error> {
        self.send(self.request(Method::DELETE, &["v1", "schedules", name])).await.map(drop)
    }

    /// All datasets.
    ///
    /// # Errors
    /// The daemon refuses or cannot be reached.
    pub async fn datasets(&self) -> Result<DatasetList, Error> {
        self.get(&["v1", "datasets"]).await
    }

    /// A dataset with its versions and tags.
    ///
    /// # Errors
    /// There is none; the daemon refuses or cannot be reached.
    pub async fn dataset(&self, name: &str) -> Result<DatasetDetail, Error> {
        self.get(&["v1", "datasets", name]).await
    }

    /// The version that `latest`, `v3`, `3` or a tag names, with its files.
    ///
    /// # Errors
    /// There is none; the daemon refuses or cannot be reached.
    pub async fn version(&self, name: &str, reference: &str) -> Result<VersionDetail, Error> {
        self.get(&["v1", "datasets", name, "versions", reference]).await
    }

    /// A file of a version, from byte `from`, as a response whose body is to be read.
    ///
    /// # Errors
    /// There is none; the daemon refuses or cannot be reached.
    pub async fn file(&self, name: &str, reference: &str, path: &str, from: u64) -> Result<Response, Error> {
        let mut parts = vec!["v1", "datasets", name, "versions", reference, "files"];
        parts.extend(path.split('/'));
        let request = self.request(Method::GET, &parts);
        self.send(if from == 0 { request } else { request.header("range", format!("bytes={from}-")) }).await
    }

    /// Points a tag at a version.
    ///
    /// # Errors
    /// There is no such version; the daemon refuses or cannot be reached.
    pub async fn put_tag(&self, name: &str, tag: &str, version: u64) -> Result<DatasetDetail, Error> {
        let request = self.request(Method::PUT, &["v1", "datasets", name, "tags", tag]);
        self.answer(request.json(&PutTag { version })).await
    }

    /// Withdraws a version.
    ///
    /// # Errors
    /// There is no such version; the daemon refuses or cannot be reached.
    pub async fn yank(&self, name: &str, reference: &str, reason: &str) -> Result<DatasetDetail, Error> {
        let request = self.request(Method::POST, &["v1", "datasets", name, "versions", reference, "yank"]);
        self.answer(request.json(&Yank { reason: reason.into() })).await
    }

    /// Appends a signed record of a verification to a version.
    ///
    /// # Errors
    /// There is no such version, or the record is about another; the daemon refuses or cannot be reached.
    pub async fn attest(&self, name: &str, reference: &str, record: String) -> Result<DatasetVersion, Error> {
        let path = ["v1", "datasets", name, "versions", reference, "attestations"];
        self.answer(self.request(Method::POST, &path).json(&CreateAttestation { record })).await
    }

    /// Makes a token; its secret is shown this once.
    ///
    /// # Errors
    /// The name is taken; the daemon refuses or cannot be reached.
    pub async fn create_token(&self, token: &CreateToken) -> Result<CreatedToken, Error> {
        self.answer(self.request(Method::POST, &["v1", "tokens"]).json(token)).await
    }

    /// All tokens.
    ///
    /// # Errors
    /// The daemon refuses or cannot be reached.
    pub async fn tokens(&self) -> Result<TokenList, Error> {
        self.get(&["v1", "tokens"]).await
    }

    /// Revokes a token by its id or name.
    ///
    /// # Errors
    /// There is none; the daemon refuses or cannot be reached.
    pub async fn revoke_token(&self, token: &str) -> Result<Token, Error> {
        self.answer(self.request(Method::DELETE, &["v1", "tokens", token])).await
    }

    /// Up to `limit` calls that changed something, newest first, before the one with the id `before`.
    ///
    /// # Errors
    /// The daemon refuses or cannot be reached.
    pub async fn deeds(&self, before: Option<Uuid>, limit: u32) -> Result<DeedPage, Error> {
        let request = self.request(Method::GET, &["v1", "audit"]).query(&[("limit", limit)]);
        let before = before.map(|before| [("before", before)]);
        self.answer(request.query(&before.as_slice().concat())).await
    }

    /// Up to `limit` calls of webhooks, newest first, before the one with the id `before`; of `job` alone if given.
    ///
    /// # Errors
    /// The daemon refuses or cannot be reached.
    pub async fn deliveries(
        &self,
        job: Option<Uuid>,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<DeliveryPage, Error> {
        let request = self.request(Method::GET, &["v1", "deliveries"]).query(&[("limit", limit)]);
        let chosen = [job.map(|id| ("job", id)), before.map(|id| ("before", id))];
        self.answer(request.query(&chosen.iter().flatten().collect::<Vec<_>>())).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Error> {
        self.answer(self.request(Method::GET, path)).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Error> {
        self.answer(self.request(Method::POST, path)).await
    }

    /// A request to the path of these parts, each escaped, under the daemon's address.
    pub(crate) fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let request = self.http.request(method, self.address(path));
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, token),
            None => request,
        }
    }

    fn address(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let response = self.send(request).await?;
        let status = response.status().as_u16();
        response
            .json()
            .await
            .map_err(|error| if error.is_decode() { self.foreign(status) } else { self.unreachable(error) })
    }

    /// Sends a request; an answer other than success is an error with its problem document.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        self.prove().await?;
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind != Some("application/problem+json") {
            return Err(self.foreign(status));
        }
        let problem: ProblemDetails = response.json().await.map_err(|_| self.foreign(status))?;
        Err(Error::Refused(Box::new(problem)))
    }

    fn foreign(&self, status: u16) -> Error {
        Error::Answer { url: self.url.to_string(), status }
    }

    /// The error without the request's address, which may hold what is nobody's business.
    pub(crate) fn unreachable(&self, error: reqwest::Error) -> Error {
        Error::Connection { url: self.url.to_string(), source: error.without_url() }
    }
}
