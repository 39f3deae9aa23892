//! Refusals: every error of the API is a problem document (RFC 9457) that says what to do.
//!
//! A handler returns a [`Refusal`]; it travels as an extension of the response, and `guard.rs` writes
//! the document, with the request's id, once for all.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dpg_api::{Code, Fault, ProblemDetails};
use dpg_spec::Hint;

/// Characters of a text and faults of a spec in an answer: it is not to be much larger than its request.
const LONGEST: usize = 1000;
const MOST_FAULTS: usize = 100;

/// Why a request is refused.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    problem: Box<ProblemDetails>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// A refusal of a kind: what is wrong with this request, and what to do as the kind has it.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        let problem = ProblemDetails {
            kind: code.uri(),
            title: code.as_str().replace('-', " "),
            status: code.status(),
            detail: bounded(detail.into(), LONGEST),
            hint: code.remedy().into(),
            instance: None,
            errors: vec![],
        };
        Self { problem: Box::new(problem), header: None }
    }

    /// With something better to do about it than what its kind says.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.problem.hint = bounded(hint.into(), LONGEST);
        self
    }

    /// What an error says, and its hint.
    fn of(code: Code, error: &impl Hint) -> Self {
        let refusal = Self::new(code, error.to_string());
        match error.hint() {
            Some(hint) => refusal.hint(hint),
            None => refusal,
        }
    }

    /// A failure of the daemon's own: its cause goes to the log and not to the caller.
    pub(crate) fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(cause = chain(cause), "a request failed");
        Self::new(Code::Internal, "the daemon could not do it")
    }

    /// Something that the daemon depends on is away for the moment.
    pub(crate) fn unavailable(what: &str, cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::warn!(cause = chain(cause), "the {what} is not available");
        Self::new(Code::Unavailable, format!("the {what} is not available")).with(header::RETRY_AFTER, "5")
    }

    /// The refusal of a request without a good token.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(Code::Unauthorized, detail).with(header::WWW_AUTHENTICATE, "Bearer realm=\"dpg\"")
    }

    pub(crate) fn not_found(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Code::NotFound, detail).hint(hint)
    }

    /// A spec that cannot be taken, with everything that is wrong with it.
    pub(crate) fn invalid_spec(errors: Vec<Fault>) -> Self {
        let detail: String = match errors.len() {
            1 => "the spec has 1 problem".into(),
            count => format!("the spec has {count} problems"),
        };
        let mut refusal = Self::new(Code::InvalidSpec, detail);
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
    pub(crate) fn document(&self, request: &str) -> ProblemDetails {
        ProblemDetails { instance: Some(format!("urn:uuid:{request}")), ..(*self.problem).clone() }
    }

    /// The problem that a bare error status stands for.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let code = match status {
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
            _ => Code::Refused,
        };
        let detail = status.canonical_reason().unwrap_or("the request was refused").to_lowercase();
        let mut refusal = Self::new(code, detail);
        refusal.problem.status = status.as_u16();
        refusal
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
        match &error {
            Error::NotFound { what, .. } => {
                Self::not_found(error.to_string(), format!("`GET /v1/{what}s` lists those there are"))
            }
            Error::QuotaUsed { .. } => Self::of(Code::QuotaUsed, &error),
            Error::KeyTaken { .. } | Error::WrongState { .. } | Error::TokenNameTaken { .. } => {
                Self::of(Code::Conflict, &error)
            }
            Error::TokenRefused { .. } => Self::unauthorized(error.to_string()),
            Error::Cron { .. } | Error::NeverDue { .. } | Error::TimeZone { .. } | Error::Location { .. } => {
                Self::of(Code::InvalidValue, &error)
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
            Error::NoDataset { .. } => Self::not_found(error.to_string(), "`GET /v1/datasets` lists them"),
            Error::NoVersion { .. } => Self::of(Code::NotFound, &error),
            Error::Retired { .. } => Self::of(Code::Gone, &error),
            Error::BadName { .. }
            | Error::BadTag(_)
            | Error::BadRecord { .. }
            | Error::TooManyRows { .. } => Self::of(Code::InvalidValue, &error),
            error if error.is_transient() => Self::unavailable("store", error),
            error => Self::internal(error),
        }
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        let detail = rejection.body_text();
        match rejection {
            JsonRejection::JsonSyntaxError(_) => Self::new(Code::MalformedBody, detail),
            JsonRejection::JsonDataError(_) => Self::new(Code::InvalidBody, detail),
            _ => Self::of_status(rejection.status()),
        }
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(Code::InvalidQuery, rejection.body_text())
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        Self::new(Code::InvalidAddress, rejection.body_text())
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
