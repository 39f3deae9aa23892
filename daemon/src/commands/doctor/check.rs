//! How one thing that was tried came out, and what to do about it.

use serde::Serialize;

use crate::terminal::told::told;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::commands) enum Status {
    Ok,
    /// It works, and may soon not.
    Warning,
    Failed,
}

/// One thing that was tried.
#[derive(Debug, Serialize)]
pub(in crate::commands) struct Check {
    #[serde(rename = "check")]
    name: &'static str,
    pub(in crate::commands) status: Status,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    pub(in crate::commands) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), remedy: None }
    }

    pub(in crate::commands) fn warning(
        name: &'static str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { name, status: Status::Warning, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    pub(in crate::commands) fn failed(
        name: &'static str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { name, status: Status::Failed, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    /// What a fallible check found, or that it failed.
    pub(in crate::commands) fn of(name: &'static str, found: anyhow::Result<String>, remedy: &str) -> Self {
        match found {
            Ok(detail) => Self::ok(name, detail),
            Err(error) => Self::failed(name, told(&error), remedy),
        }
    }

    pub(in crate::commands) fn line(&self) -> String {
        let status = match self.status {
            Status::Ok => "ok  ",
            Status::Warning => "warn",
            Status::Failed => "FAIL",
        };
        let remedy = self.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        format!("{status}  {:<12} {}{remedy}", self.name, self.detail.replace('\n', " "))
    }
}
