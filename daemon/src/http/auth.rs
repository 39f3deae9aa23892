//! Who is calling and whether they may: `Authorization: Bearer TOKEN` against the queue's tokens, and
//! each token's rate limit.
//!
//! A handler says what it needs by taking a [`Reader`], [`Submitter`] or [`Admin`] first, so that
//! nothing else of a request is looked at before. Every request asks the queue: a revoked token is
//! refused at once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use dpg_queue::{Scope, Token};
use uuid::Uuid;

use super::{Api, problem::Refusal};

macro_rules! callers {
    ($($(#[$meta:meta])* $name:ident = $scope:expr;)*) => {$(
        $(#[$meta])*
        pub(crate) struct $name;

        impl FromRequestParts<Api> for $name {
            type Rejection = Refusal;

            async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
                authorize(api, &parts.headers, $scope).await.map(|_| Self)
            }
        }
    )*};
}

callers! {
    /// May look at jobs and datasets.
    Reader = Scope::Read;
    /// May submit, cancel and retry.
    Submitter = Scope::Submit;
    /// May do everything.
    Admin = Scope::Admin;
}

/// The caller's token, if it is good, allows `scope`, and is not used too often.
pub(crate) async fn authorize(api: &Api, headers: &HeaderMap, scope: Scope) -> Result<Token, Refusal> {
    let secret = bearer(headers).ok_or_else(|| unauthorized("the request has no token"))?;
    let token = api.services.queue.authenticate(secret).await?;
    tracing::Span::current().record("token", token.name.as_str());
    if let Some(wait) = api.limiter.take(token.id, Instant::now()) {
        let seconds = wait.as_secs_f64().ceil();
        return Err(Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-requests",
            format!("token `{}` was used more often than the limit allows", token.name),
            format!("wait {seconds} s, or raise `limits.requests_per_minute` in the daemon's settings"),
        )
        .with(header::RETRY_AFTER, &seconds.to_string()));
    }
    if token.allows(scope) {
        return Ok(token);
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "forbidden",
        format!("token `{}` does not have the scope `{scope}`", token.name),
        format!("use a token that has it; an admin makes one with `dpg token create NAME --scope {scope}`"),
    ))
}

/// The refusal of a request without a good token.
pub(crate) fn unauthorized(message: &str) -> Refusal {
    let detail = message.split("; ").next().unwrap_or(message);
    let hint = "send `Authorization: Bearer TOKEN`, or set DPG_TOKEN for the command line; \
                `dpg token create` makes a token, and the data folder's `admin.token` holds the first one";
    Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", detail, hint)
        .with(header::WWW_AUTHENTICATE, "Bearer realm=\"dpg\"")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, secret) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

/// A bucket for each token: it holds a minute's requests and fills up evenly.
pub(crate) struct Limiter {
    per_minute: f64,
    buckets: Mutex<HashMap<Uuid, Bucket>>,
}

struct Bucket {
    left: f64,
    filled: Instant,
}

impl Limiter {
    pub(crate) fn new(per_minute: u32) -> Self {
        Self { per_minute: f64::from(per_minute.max(1)), buckets: Mutex::default() }
    }

    /// Takes one request out of a token's bucket, or says how long to wait for the next.
    fn take(&self, token: Uuid, now: Instant) -> Option<Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(token).or_insert(Bucket { left: self.per_minute, filled: now });
        let passed = now.duration_since(bucket.filled).as_secs_f64();
        bucket.left = (bucket.left + passed * self.per_minute / 60.0).min(self.per_minute);
        bucket.filled = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return None;
        }
        Some(Duration::from_secs_f64((1.0 - bucket.left) * 60.0 / self.per_minute))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let (limiter, token, start) = (Limiter::new(60), Uuid::new_v4(), Instant::now());
        for _ in 0..60 {
            assert_eq!(limiter.take(token, start), None);
        }
        assert_eq!(limiter.take(token, start), Some(Duration::from_secs(1)));
        assert_eq!(limiter.take(Uuid::new_v4(), start), None, "another token has its own bucket");
        assert_eq!(limiter.take(token, start + Duration::from_secs(1)), None);
        assert!(limiter.take(token, start + Duration::from_secs(1)).is_some());
    }
}
