//! Refusals: every error of the API is a problem document (RFC 9457) that says what to do.
//!
//! A handler returns a [`Refusal`]; it travels as an extension of the response, and `guard.rs` writes
//! the document, with the request's id, once for all.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dpg_api::{Fault, Problem};

/// Characters of a text and faults of a spec in an answer: it is not to be much larger than its request.
const LONGEST: usize = 1000;
const MOST_FAULTS: usize = 100;

/// Why a request is refused.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    problem: Box<Problem>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// `kind` is the last part of the problem's type; `hint` says what to do.
    pub(crate) fn new(
        status: StatusCode,
        kind: &str,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let title = kind.replace('-', " ");
        let (detail, hint) = (bounded(detail.into(), LONGEST), bounded(hint.into(), LONGEST));
        let problem = Problem {
            kind: format!("urn:dpg:problem:{kind}"),
            title,
            status: status.as_u16(),
            detail,
            hint,
            instance: None,
            errors: vec![],
        };
        Self { problem: Box::new(problem), header: None }
    }

    /// A message of the house's form, `what is wrong; what to do`, in two.
    fn said(status: StatusCode, kind: &str, message: &str, hint: &str) -> Self {
        match message.split_once("; ") {
            Some((detail, hint)) => Self::new(status, kind, detail, hint),
            None => Self::new(status, kind, message, hint),
        }
    }

    /// A failure of the daemon's own: its cause goes to the log and not to the caller.
    pub(crate) fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(cause = chain(cause), "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the daemon could not do it",
            "its log has the cause under this problem's `instance`; report it if it happens again",
        )
    }

    /// Something that the daemon depends on is away for the moment.
    pub(crate) fn unavailable(what: &str, cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::warn!(cause = chain(cause), "the {what} is not available");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            format!("the {what} is not available"),
            "try again in a few seconds; `/readyz` says when it is back",
        )
        .with(header::RETRY_AFTER, "5")
    }

    /// The refusal of a request without a good token.
    pub(crate) fn unauthorized(message: &str) -> Self {
        let detail = message.split("; ").next().unwrap_or(message);
        let hint = "send `Authorization: Bearer TOKEN`, or set DPG_TOKEN for the command line; \
                    `dpg token create` makes a token, and the data folder's `admin.token` holds the first one";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail, hint)
            .with(header::WWW_AUTHENTICATE, "Bearer realm=\"dpg\"")
    }

    pub(crate) fn not_found(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail, hint)
    }

    /// A spec that cannot be taken, with everything that is wrong with it.
    pub(crate) fn invalid_spec(errors: Vec<Fault>) -> Self {
        let detail = match errors.len() {
            1 => "the spec has 1 problem".into(),
            count => format!("the spec has {count} problems"),
        };
        let hint = "mend what `errors` lists; `dpg plan SPEC` checks a spec without submitting it";
        let mut refusal = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-spec", detail, hint);
        let shortened = |fault: Fault| Fault {
            path: bounded(fault.path, LONGEST),
            message: bounded(fault.message, LONGEST),
            ..fault
        };
        refusal.problem.errors = errors.into_iter().take(MOST_FAULTS).map(shortened).collect();
        refusal
    }

    /// With a header in the answer.
    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.header = HeaderValue::from_str(value).ok().map(|value| (name, value));
        self
    }

    /// The document, for the request with this id.
    pub(crate) fn document(&self, request: &str) -> Problem {
        Problem { instance: Some(format!("urn:uuid:{request}")), ..(*self.problem).clone() }
    }

    /// The problem that a bare error status stands for.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let (kind, hint) = match status {
            StatusCode::NOT_FOUND => ("not-found", "`/v1/openapi.json` lists what there is"),
            StatusCode::METHOD_NOT_ALLOWED => {
                ("method-not-allowed", "the header `allow` lists the methods of this address")
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                ("body-too-large", "send less, or raise `limits.body_bytes` in the daemon's settings")
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                ("unsupported-media-type", "send `content-type: application/json`")
            }
            _ => ("refused", "`/v1/openapi.json` says what is expected"),
        };
        let detail = status.canonical_reason().unwrap_or("the request was refused").to_lowercase();
        Self::new(status, kind, detail, hint)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        if let Some((name, value)) = self.header.clone() {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<dpg_queue::Error> for Refusal {
    fn from(error: dpg_queue::Error) -> Self {
        use dpg_queue::Error;
        if error.is_transient() {
            return Self::unavailable("queue", &error);
        }
        let message = error.to_string();
        match error {
            Error::NotFound { what, .. } => {
                Self::not_found(message, format!("`GET /v1/{what}s` lists those there are"))
            }
            Error::QuotaUsed { .. } => Self::said(
                StatusCode::TOO_MANY_REQUESTS,
                "quota-used",
                &message,
                "wait until some have ended",
            ),
            Error::KeyTaken { .. } | Error::WrongState { .. } | Error::TokenNameTaken { .. } => {
                Self::said(StatusCode::CONFLICT, "conflict", &message, "look at its state and repeat")
            }
            Error::TokenRefused { .. } => Self::unauthorized(&message),
            Error::Cron { .. } | Error::NeverDue { .. } | Error::TimeZone { .. } | Error::Location { .. } => {
                Self::said(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value", &message, "correct the value")
            }
            Error::LeaseLost { .. } | Error::Newer { .. } | Error::Database(_) | Error::Stored { .. } => {
                Self::internal(&error)
            }
        }
    }
}

impl From<dpg_registry::Error> for Refusal {
    fn from(error: dpg_registry::Error) -> Self {
        use dpg_registry::Error;
        match &error {
            // not the names of the others: the caller's token may not be for them
            Error::NoDataset { name, .. } => {
                Self::not_found(format!("there is no dataset `{name}`"), "`GET /v1/datasets` lists them")
            }
            Error::NoVersion { .. } => {
                let message = error.to_string();
                Self::said(StatusCode::NOT_FOUND, "not-found", &message, "`GET /v1/datasets` lists them")
            }
            Error::Retired { .. } => {
                let message = error.to_string();
                Self::said(StatusCode::GONE, "gone", &message, "`GET /v1/datasets/{name}` lists its versions")
            }
            Error::BadName { .. } | Error::BadTag(_) => {
                let message = error.to_string();
                Self::said(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value", &message, "use another name")
            }
            Error::BadRecord { .. } => {
                let message = error.to_string();
                Self::said(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value", &message, "send a valid record")
            }
            error if error.is_transient() => Self::unavailable("store", error),
            error => Self::internal(error),
        }
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        let (status, detail) = (rejection.status(), rejection.body_text());
        match rejection {
            JsonRejection::JsonSyntaxError(_) => {
                Self::new(status, "malformed-body", detail, "send JSON as RFC 8259 has it, in UTF-8")
            }
            JsonRejection::JsonDataError(_) => {
                Self::new(status, "invalid-body", detail, "`/v1/openapi.json` has the schema of this body")
            }
            _ => Self::of_status(status),
        }
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        let hint = "`/v1/openapi.json` lists the parameters of this address";
        Self::new(StatusCode::BAD_REQUEST, "invalid-query", rejection.body_text(), hint)
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        let hint = "escape what is not plain text in an address";
        Self::new(StatusCode::BAD_REQUEST, "invalid-address", rejection.body_text(), hint)
    }
}

/// The beginning of a text that may hold what the caller sent.
fn bounded(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text,
    }
}

/// An error with its causes in one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
