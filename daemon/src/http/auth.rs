//! Who is calling and whether they may: the token of a request (`credential.rs`) against the queue's tokens,
//! and each token's rate limit.
//!
//! A handler says what it needs by taking a [`Reader`], [`Submitter`] or [`Admin`] first, so that
//! nothing else of a request is looked at before. Every request asks the queue: a revoked token is
//! refused at once. What a token that is for some datasets may do with the dataset at hand is for the
//! handler to ask of its [`Caller`].

use std::time::Instant;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use dpg_api::Code;
use dpg_queue::{Scope, Token};

use super::{api::Api, call, credential, problem::Refusal};

/// The token of a request.
#[derive(Clone)]
pub(crate) struct Caller(Token);

impl Caller {
    /// The token.
    pub(crate) fn token(&self) -> &Token {
        &self.0
    }

    /// Whether its token is for this dataset.
    pub(crate) fn sees(&self, dataset: &str) -> bool {
        self.0.is_for(dataset)
    }

    /// Refuses a dataset that its token is not for.
    pub(crate) fn check(&self, dataset: &str) -> Result<(), Refusal> {
        if self.sees(dataset) {
            return Ok(());
        }
        Err(self.forbidden(&format!("is not for the dataset `{dataset}`")))
    }

    /// Refuses a token that is for some datasets only, where all are concerned.
    pub(crate) fn check_all(&self) -> Result<(), Refusal> {
        if self.0.is_for_all() { Ok(()) } else { Err(self.forbidden("is for some datasets only")) }
    }

    fn forbidden(&self, why: &str) -> Refusal {
        Refusal::new(Code::Forbidden, format!("token `{}` {why}", self.0.name))
    }
}

macro_rules! callers {
    ($($(#[$meta:meta])* $name:ident = $scope:expr;)*) => {$(
        $(#[$meta])*
        pub(crate) struct $name(pub(crate) Caller);

        impl FromRequestParts<Api> for $name {
            type Rejection = Refusal;

            async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
                authorize(api, &parts.headers, $scope).await.map(Self)
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

/// The caller, if its token is good, allows `scope`, and is not used too often.
pub(crate) async fn authorize(api: &Api, headers: &HeaderMap, scope: Scope) -> Result<Caller, Refusal> {
    let token = identify(api, headers).await?;
    if token.allows(scope) {
        return Ok(Caller(token));
    }
    let detail = format!("token `{}` does not have the scope `{scope}`", token.name);
    Err(Refusal::new(Code::Forbidden, detail).hint(format!(
        "use a token that has it; an admin makes one with `dpg token create NAME --scope {scope}`"
    )))
}

/// The caller's token, if it is good and not used too often.
pub(crate) async fn identify(api: &Api, headers: &HeaderMap) -> Result<Token, Refusal> {
    let secret =
        credential::secret(headers).ok_or_else(|| Refusal::unauthorized("the request has no token"))?;
    let token = api.services.queue.authenticate(secret).await?;
    tracing::Span::current().record("token", token.name.as_str());
    call::identify(&token);
    if let Some(wait) = api.limiter.take(token.id, Instant::now()) {
        let seconds = wait.as_secs_f64().ceil();
        let detail = format!("token `{}` was used more often than the limit allows", token.name);
        return Err(Refusal::new(Code::TooManyRequests, detail)
            .hint(format!("wait {seconds} s, or raise `limits.requests_per_minute` in the daemon's settings"))
            .with(header::RETRY_AFTER, &seconds.to_string()));
    }
    Ok(token)
}
