//! What can go wrong with a call: the problem document of RFC 9457, and failures on the way.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a request was refused (RFC 9457, `application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemDetails {
    /// What kind of problem it is, for programs: `urn:dpg:problem:not-found` and so on.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this request.
    pub detail: String,
    /// What to do about it.
    pub hint: String,
    /// The request: the daemon's log has it under this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Each thing that is wrong with a spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
}

/// One thing that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// The key, from the top: `metric.terms[0].weight`.
    pub path: String,
    /// Its line in the text, from 1, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What was found and what was expected.
    pub message: String,
}

impl fmt::Display for ProblemDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.detail)?;
        for Fault { path, line, message } in &self.errors {
            let at = line.map_or_else(String::new, |line| format!("line {line}, "));
            write!(f, "\n  {at}`{path}`: {message}")?;
        }
        if self.hint.is_empty() { Ok(()) } else { write!(f, "\nhint: {}", self.hint) }
    }
}

/// An error of [`Client`](crate::Client).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error("`{url}` is not a daemon's address; expected one as in `http://127.0.0.1:7117`")]
    Url {
        /// What was written.
        url: String,
    },
    /// The token has characters that no token has.
    #[error("the token has characters that no token has; copy it again")]
    Token,
    /// The daemon cannot be reached, or the connection broke.
    #[error("cannot reach the daemon at `{url}`")]
    Connection {
        /// Its address.
        url: String,
        /// Why not.
        source: reqwest::Error,
    },
    /// Something listens where the daemon should be, and does not know the data folder's secret.
    #[error(
        "what listens at `{url}` did not prove to be the data folder's daemon and gets no token; to use it all the \
         same, name it with --url and give its token in DPG_TOKEN"
    )]
    Unproven {
        /// The address.
        url: String,
    },
    /// A stream ended before its time.
    #[error("the daemon at `{url}` closed the stream")]
    Closed {
        /// Its address.
        url: String,
    },
    /// The daemon refused.
    #[error("{0}")]
    Refused(Box<ProblemDetails>),
    /// The answer is not what this API gives.
    #[error("`{url}` answered {status} with something that is not of this API; is it a dpg daemon?")]
    Answer {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// A file could not be written.
    #[error("cannot write the download")]
    Write(#[from] std::io::Error),
}

impl Error {
    /// Whether the same call may succeed later with nothing changed by the caller.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connection { .. } | Self::Closed { .. } => true,
            Self::Refused(problem) => problem.status >= 500 || [408, 429].contains(&problem.status),
            Self::Url { .. } | Self::Token | Self::Unproven { .. } | Self::Answer { .. } | Self::Write(_) => {
                false
            }
        }
    }
}
