//! Refusals in the form that the clients of hubs know: they look for a code in a header and show the message
//! in another.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dpg_spec::Hint;
use serde_json::json;

use super::commit::{Commit, id};
use crate::http::problem;

/// A refusal in the form that the clients of hubs know.
pub(super) struct Refusal {
    status: StatusCode,
    /// `RepoNotFound`, `RevisionNotFound`, `EntryNotFound`, or nothing.
    code: &'static str,
    message: String,
    headers: Box<HeaderMap>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Box::default() }
    }

    pub(super) fn no_entry(commit: &Commit, path: &str) -> Self {
        let message = format!("{} has no file `{path}`", commit.version);
        let mut refusal = Self::new(StatusCode::NOT_FOUND, "EntryNotFound", message);
        // clients remember which commit lacks a file
        if let Ok(id) = HeaderValue::from_str(&id(&commit.version)) {
            refusal.headers.insert("x-repo-commit", id);
        }
        refusal
    }

    /// What somebody without a token is told.
    pub(super) fn no_token() -> Self {
        let message = "datasets are private; set HF_TOKEN to a token of this daemon";
        let mut refusal = Self::new(StatusCode::UNAUTHORIZED, "", message);
        refusal.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"dpg\""));
        refusal
    }

    pub(super) fn read_only() -> Self {
        let message = "nothing can be written to this hub: the daemon publishes its datasets itself";
        Self::new(StatusCode::FORBIDDEN, "", message)
    }

    pub(super) fn no_route() -> Self {
        let message = "not a path of this hub, which serves datasets to readers and nothing else";
        Self::new(StatusCode::NOT_FOUND, "", message)
    }
}

impl From<dpg_registry::Error> for Refusal {
    fn from(error: dpg_registry::Error) -> Self {
        use dpg_registry::Error;
        let (status, code) = match &error {
            Error::NoDataset { .. } => (StatusCode::NOT_FOUND, "RepoNotFound"),
            Error::NoVersion { .. } | Error::Retired { .. } => (StatusCode::NOT_FOUND, "RevisionNotFound"),
            error if error.is_transient() => (StatusCode::SERVICE_UNAVAILABLE, ""),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, ""),
        };
        if status.is_server_error() {
            tracing::error!(cause = problem::chain(&error), "the hub cannot answer");
        }
        // not the names of the others: the caller's token may not be for them
        let message = match &error {
            Error::NoDataset { .. } => error.to_string(),
            error => error.told(),
        };
        Self::new(status, code, message)
    }
}

impl From<problem::Refusal> for Refusal {
    fn from(refusal: problem::Refusal) -> Self {
        let problem = refusal.document("");
        let answer = refusal.into_response();
        let message = format!("{}; {}", problem.detail, problem.hint);
        Self { headers: Box::new(answer.headers().clone()), ..Self::new(answer.status(), "", message) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.message }))).into_response();
        let headers = response.headers_mut();
        let line = self.message.replace(['\n', '\r'], " ");
        let fields = [("x-error-code", self.code), ("x-error-message", &line)];
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            // a message with letters outside ASCII stands in the body alone
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        headers.extend(*self.headers);
        response
    }
}
