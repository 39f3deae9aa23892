//! One request to a teacher: when it may begin, what is worth asking again, and what an answer says.
//!
//! Refusals that pass (429, 408, 5xx), silence, half an answer and what cannot be read are asked again, after as long as
//! the server asks for; every other refusal is an error. No redirect is followed, and a host with an address inside this
//! machine's network is not asked unless its operator says so. The key is in one header, and is struck out of whatever
//! the server says.

use std::fmt::Write;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use dpg_spec::Teacher;
use dpg_store::{Outside, asked_wait, leads_inside};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client as Http, RequestBuilder, Response, StatusCode, Url, redirect};
use serde_json::Value;
use tokio::time::sleep;
use tracing::warn;

use super::answers::{Said, Usage};
use crate::Error;

/// Attempts at a request.
const ATTEMPTS: u32 = 8;
/// Before the second attempt, unless the server says; it doubles with each.
const WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A server that asks for more is not waited for.
const PATIENCE: Duration = Duration::from_mins(10);
/// Most bytes of an answer, and of the file of a batch.
const ANSWER_BYTES: usize = 32 << 20;
const FILE_BYTES: usize = 1 << 30;
/// Characters of what a server says against a request that are told.
const TOLD: usize = 300;

/// A teacher's server.
pub(super) struct Client {
    /// The teacher's name.
    name: String,
    http: Http,
    /// Of chat completions.
    url: Url,
    inside: bool,
    key: Option<String>,
    bucket: Bucket,
    /// No further attempt is made.
    closing: AtomicBool,
}

/// What an answer says.
pub(super) struct Told {
    pub(super) choices: Vec<Said>,
    pub(super) usage: Option<Usage>,
}

/// Why there is none.
struct Failure {
    reason: String,
    transient: bool,
    wait: Option<Duration>,
}

impl Failure {
    fn passing(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), transient: true, wait: None }
    }

    fn lasting(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), transient: false, wait: None }
    }
}

impl Client {
    /// For a teacher of this name. Its key is read from the environment.
    pub(super) fn new(name: &str, teacher: &Teacher) -> Result<Self, Error> {
        let wrong = |what: &str, reason: String| Error::Teacher {
            teacher: name.into(),
            reason: format!("cannot be asked: `teachers.{name}.{what}` in `dpg.toml` {reason}"),
            transient: false,
        };
        let url = format!("{}/chat/completions", teacher.base_url.trim_end_matches('/'));
        let url =
            Url::parse(&url).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        let url = url.ok_or_else(|| {
            wrong("base_url", format!("is `{}`; expected one like `https://host/v1`", teacher.base_url))
        })?;
        if url.scheme() == "http" && !teacher.inside {
            let reason =
                "is not encrypted; use `https://`, or say `inside = true` if its host is in this network";
            return Err(wrong("base_url", reason.into()));
        }
        let key = match &teacher.api_key_env {
            None => None,
            Some(variable) => {
                let key = std::env::var(variable).ok().map(|key| key.trim().to_owned());
                let usable = key.filter(|key| HeaderValue::from_str(key).is_ok() && !key.is_empty());
                Some(usable.ok_or_else(|| {
                    wrong(
                        "api_key_env",
                        format!("names the environment variable `{variable}`, which has no key"),
                    )
                })?)
            }
        };
        let mut http = Http::builder()
            .user_agent(concat!("dpg/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            // servers hang up after 5 seconds and more
            .pool_idle_timeout(Duration::from_secs(4))
            .timeout(Duration::from_secs(teacher.timeout_seconds))
            .redirect(redirect::Policy::none());
        if !teacher.inside {
            http = http.dns_resolver(std::sync::Arc::new(Outside));
        }
        let http =
            http.build().map_err(|error| wrong("base_url", format!("cannot be used: {}", chain(&error))))?;
        let bucket = Bucket::new(teacher.requests_per_minute, teacher.concurrency);
        let (name, inside) = (name.to_owned(), teacher.inside);
        Ok(Self { name, http, url, inside, key, bucket, closing: AtomicBool::new(false) })
    }

    /// Whether what is refused now is not to be asked again.
    pub(super) fn close(&self, closing: bool) {
        self.closing.store(closing, Ordering::Relaxed);
    }

    /// The answer to a request that asks for so many choices.
    pub(super) async fn ask(&self, body: &Value, choices: usize) -> Result<Told, Error> {
        self.patiently(async || {
            let text = self.exchange(self.http.post(self.url.clone()).json(body), ANSWER_BYTES).await?;
            told(&json(&text)?, choices)
                .ok_or_else(|| Failure::passing(format!("answered without what was asked{}", said(&text))))
        })
        .await
    }

    /// What is at a path beside chat completions.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Error> {
        let url = self.beside(path)?;
        self.patiently(async || json(&self.exchange(self.http.get(url.clone()), ANSWER_BYTES).await?)).await
    }

    /// The batch that was created with such a mark in its metadata, if it is among the last.
    pub(super) async fn created(&self, mark: &str) -> Result<Option<Value>, Error> {
        let listed = self.get("batches?limit=100").await?;
        Ok(of_mark(&listed, mark))
    }

    /// Creates a batch with a mark in its metadata. Each attempt looks first whether one before it was heard.
    pub(super) async fn create(&self, mark: &str, body: &Value) -> Result<Value, Error> {
        let (list, create) = (self.beside("batches?limit=100")?, self.beside("batches")?);
        self.patiently(async || {
            let listed = json(&self.exchange(self.http.get(list.clone()), ANSWER_BYTES).await?)?;
            match of_mark(&listed, mark) {
                Some(batch) => Ok(batch),
                None => json(&self.exchange(self.http.post(create.clone()).json(body), ANSWER_BYTES).await?),
            }
        })
        .await
    }

    /// What a server says of a file of requests that is sent to it. `mark` stands in none of them.
    pub(super) async fn upload(&self, mark: &str, rows: &str) -> Result<Value, Error> {
        let url = self.beside("files")?;
        let part = |name: &str, text: &str| {
            format!("--{mark}\r\ncontent-disposition: form-data; name=\"{name}\r\n\r\n{text}\r\n")
        };
        let form = part("purpose\"", "batch")
            + &part("file\"; filename=\"requests.jsonl\"\r\ncontent-type: application/jsonl", rows)
            + &format!("--{mark}--\r\n");
        let kind = format!("multipart/form-data; boundary={mark}");
        self.patiently(async || {
            let request = self.http.post(url.clone()).header(CONTENT_TYPE, &kind).body(form.clone());
            json(&self.exchange(request, ANSWER_BYTES).await?)
        })
        .await
    }

    /// The text of a file that a server has made.
    pub(super) async fn file(&self, id: &str) -> Result<String, Error> {
        let url = self.beside(&format!("files/{id}/content"))?;
        self.patiently(async || self.exchange(self.http.get(url.clone()), FILE_BYTES).await).await
    }

    fn beside(&self, path: &str) -> Result<Url, Error> {
        // two segments up
        let url = self.url.join("../").and_then(|base| base.join(path));
        url.map_err(|error| self.error(format!("cannot be asked for `{path}`: {error}"), false))
    }

    /// Tries as often, and waits as long, as is worth it.
    async fn patiently<T>(&self, once: impl AsyncFn() -> Result<T, Failure>) -> Result<T, Error> {
        if !self.inside && leads_inside(&self.url).await {
            let reason = "has an address inside this machine's own network; say `inside = true` of it in `dpg.toml` if \
                          that is meant";
            return Err(self.error(reason.into(), false));
        }
        let mut attempt = 1;
        loop {
            self.bucket.turn().await;
            let Failure { reason, transient, wait } = match once().await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let usual = LONGEST_WAIT.min(WAIT * 2_u32.pow(attempt - 1));
            let wait = wait.map_or(usual, |asked| asked.max(usual));
            if !transient {
                return Err(self.error(reason, false));
            }
            if attempt == ATTEMPTS || wait > PATIENCE || self.closing.load(Ordering::Relaxed) {
                return Err(self.error(format!("{reason}, the last of {attempt} times"), true));
            }
            warn!(teacher = self.name, "it {reason}; asking again in {:.1} s", wait.as_secs_f64());
            sleep(wait).await;
            attempt += 1;
        }
    }

    /// An error of this teacher.
    pub(super) fn error(&self, reason: String, transient: bool) -> Error {
        Error::Teacher { teacher: self.name.clone(), reason, transient }
    }

    /// The text that answers a request, of so many bytes at most.
    async fn exchange(&self, mut request: RequestBuilder, most: usize) -> Result<String, Failure> {
        if let Some(key) = &self.key {
            let mut value = HeaderValue::try_from(format!("Bearer {key}")).expect("its key was looked at");
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let response = request.send().await.map_err(silent)?;
        let (status, wait) = (response.status(), asked_wait(response.headers(), Utc::now()));
        if status.is_redirection() {
            return Err(Failure::lasting(format!("answered {status}, a redirect, which is not followed")));
        }
        let text = self.text(response, most).await?;
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.bucket.hold(wait.unwrap_or_default().min(PATIENCE));
        }
        if !status.is_success() {
            let transient = status.is_server_error()
                || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
            return Err(Failure { reason: format!("answered {status}{}", said(&text)), transient, wait });
        }
        Ok(text)
    }

    /// The body of an answer, without the key that was sent.
    async fn text(&self, mut response: Response, most: usize) -> Result<String, Failure> {
        let mut bytes = vec![];
        while let Some(more) = response.chunk().await.map_err(silent)? {
            bytes.extend_from_slice(&more);
            if bytes.len() > most {
                return Err(Failure::lasting(format!("answers with more than {} MiB", most >> 20)));
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        Ok(self
            .key
            .as_ref()
            .map_or_else(|| text.clone().into_owned(), |key| text.replace(key.as_str(), "***")))
    }
}

/// The batch of a mark in a list.
fn of_mark(listed: &Value, mark: &str) -> Option<Value> {
    listed["data"].as_array()?.iter().find(|batch| batch["metadata"]["dpg"] == mark).cloned()
}

/// An answer as JSON.
fn json(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text)
        .map_err(|_| Failure::passing(format!("answered what is not JSON{}", said(text))))
}

/// What it means that an answer did not come, or not to its end.
fn silent(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let reason = format!("did not answer: {}", chain(&error));
    if is_refused(&error) { Failure::lasting(reason) } else { Failure::passing(reason) }
}

/// Whether an error is that of [`Outside`].
fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        || error.source().is_some_and(is_refused)
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// What a server says for itself: its error's message, or the beginning of its text.
fn said(text: &str) -> String {
    let value: Option<Value> = serde_json::from_str(text).ok();
    let message =
        value.as_ref().and_then(|value| value["error"]["message"].as_str().or(value["message"].as_str()));
    let text: String =
        message.unwrap_or(text).trim().chars().filter(|c| !c.is_control()).take(TOLD).collect();
    if text.is_empty() { text } else { format!(" (`{text}`)") }
}

/// The choices of an answer and its usage; `None` if it has not as many as were asked for.
pub(super) fn told(answer: &Value, count: usize) -> Option<Told> {
    let mut choices: Vec<&Value> = answer["choices"].as_array()?.iter().collect();
    choices.sort_by_key(|choice| choice["index"].as_u64());
    let said = |choice: &&Value| {
        let text = match &choice["message"]["content"] {
            Value::String(text) => text.clone(),
            // all its tokens went into reasoning, or into a refusal
            Value::Null if choice["message"].is_object() => String::new(),
            _ => return None,
        };
        // Moonshot, DeepSeek and llama.cpp have the first name, newer vLLM the second
        let reasoning = ["reasoning_content", "reasoning"].map(|key| choice["message"][key].as_str());
        let reasoning = reasoning.into_iter().flatten().next().map(str::to_owned);
        Some(Said { text, reasoning, stopped: choice["finish_reason"] == "stop" })
    };
    let choices = choices.iter().map(said).collect::<Option<Vec<_>>>()?;
    let usage = &answer["usage"];
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let usage = usage["prompt_tokens"].as_u64().zip(usage["completion_tokens"].as_u64()).map(
        |(prompt, completion)| {
            let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64();
            Usage {
                prompt,
                // Moonshot's has it on top
                cached: cached.unwrap_or_else(|| number(&usage["cached_tokens"])).min(prompt),
                completion,
                reasoning: number(&usage["completion_tokens_details"]["reasoning_tokens"]),
            }
        },
    );
    (choices.len() == count).then_some(Told { choices, usage })
}

/// A token bucket: how often requests begin.
struct Bucket {
    /// Between two tokens; none if there is no bound.
    every: Option<Duration>,
    /// Most tokens in it.
    most: f64,
    level: Mutex<Level>,
}

struct Level {
    tokens: f64,
    at: Instant,
    /// Nobody begins before.
    held: Option<Instant>,
}

impl Bucket {
    fn new(requests_per_minute: u32, concurrency: usize) -> Self {
        let every = (requests_per_minute > 0).then(|| Duration::from_mins(1) / requests_per_minute);
        let most = (concurrency.max(1) as f64).min(f64::from(requests_per_minute.max(1)));
        Self { every, most, level: Mutex::new(Level { tokens: most, at: Instant::now(), held: None }) }
    }

    /// Nobody begins for so long.
    fn hold(&self, wait: Duration) {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        level.held = level.held.max(Some(Instant::now() + wait));
    }

    /// How long to wait before looking again; no time if a token was taken.
    fn take(&self, now: Instant) -> Duration {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = level.held.filter(|held| *held > now) {
            return held - now;
        }
        let Some(every) = self.every else { return Duration::ZERO };
        let elapsed = now.saturating_duration_since(level.at).as_secs_f64() / every.as_secs_f64();
        level.tokens = (level.tokens + elapsed).min(self.most);
        level.at = now;
        if level.tokens >= 1.0 {
            level.tokens -= 1.0;
            return Duration::ZERO;
        }
        every.mul_f64(1.0 - level.tokens)
    }

    async fn turn(&self) {
        loop {
            let wait = self.take(Instant::now());
            if wait.is_zero() {
                return;
            }
            sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bucket_lets_through_a_few_at_once_and_then_one_after_the_other() {
        let bucket = Bucket::new(60, 2);
        let start = Instant::now();
        let at = |seconds: f64| bucket.take(start + Duration::from_secs_f64(seconds)).as_secs_f64();
        assert_eq!((at(0.1), at(0.1)), (0.0, 0.0));
        assert!((at(0.1) - 1.0).abs() < 1e-6);
        assert!((at(0.6) - 0.5).abs() < 1e-6);
        assert_eq!(at(1.2), 0.0);
        bucket.hold(Duration::from_secs(10));
        assert!(at(5.0) > 4.0);
        assert_eq!((at(60.0), at(60.0)), (0.0, 0.0), "no more than two are saved up");
        assert!(at(60.0) > 0.9);
        let free = Bucket::new(0, 2);
        assert!((0..100).all(|_| free.take(start).is_zero()));
    }

    #[test]
    fn answers_are_read_as_servers_write_them() {
        let answer = json!({
            "choices": [
                { "index": 1, "finish_reason": "length", "message": { "content": "b" } },
                { "index": 0, "finish_reason": "stop", "message": { "content": "a", "reasoning_content": "hm" } },
                { "index": 2, "finish_reason": "length", "message": { "content": null, "reasoning": "so" } },
            ],
            "usage": { "prompt_tokens": 9, "completion_tokens": 5, "cached_tokens": 4,
                       "completion_tokens_details": { "reasoning_tokens": 2 } },
        });
        let read = told(&answer, 3).unwrap();
        let said: Vec<_> = read.choices.iter().map(|said| (said.text.as_str(), said.stopped)).collect();
        assert_eq!(said, [("a", true), ("b", false), ("", false)]);
        let reasoning: Vec<_> = read.choices.iter().map(|said| said.reasoning.as_deref()).collect();
        assert_eq!(reasoning, [Some("hm"), None, Some("so")]);
        assert_eq!(read.usage, Some(Usage { prompt: 9, cached: 4, completion: 5, reasoning: 2 }));
        assert!(told(&answer, 1).is_none());
        for wrong in [json!({}), json!({ "choices": [] }), json!({ "choices": [{}] }), json!([])] {
            assert!(told(&wrong, 1).is_none(), "{wrong}");
        }
        let bare = json!({ "choices": [{ "finish_reason": "stop", "message": { "content": "a" } }] });
        assert_eq!(told(&bare, 1).unwrap().usage, None);
    }

    #[test]
    fn what_a_server_says_is_told_in_short() {
        assert_eq!(said(r#"{"error":{"message":"no such\nmodel"}}"#), " (`no suchmodel`)");
        assert_eq!(said(""), "");
        assert!(said(&"x".repeat(5000)).len() < 400);
    }
}
