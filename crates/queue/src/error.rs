//! What can go wrong with the queue, and whether trying again may help.

#![allow(missing_docs, reason = "a variant's fields are what its message names")]

use dpg_spec::Hint;
use uuid::Uuid;

use crate::{Refusal, State};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A database's address is of no known kind.
    #[error("`{location}` is not a database")]
    Location {
        /// What was written, up to the first `:`, for the rest may hold a password.
        location: String,
    },
    /// The database was written by a newer program.
    #[error("the database is at version {found} and this program knows {known}")]
    Newer {
        /// The database's version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// The database refused or could not be reached.
    #[error("the queue's database failed")]
    Database(#[from] sqlx::Error),
    /// A stored value cannot be read.
    #[error("column `{column}` holds `{value}`, which cannot be read")]
    Stored {
        /// The column of the table.
        column: &'static str,
        /// What it holds.
        value: String,
    },
    /// There is no such job, schedule or token.
    #[error("there is no {what} `{id}`")]
    NotFound {
        /// `job`, `schedule` or `token`.
        what: &'static str,
        /// Its id or name.
        id: String,
    },
    /// Another live job has the key, for another spec.
    #[error("key `{key}` belongs to the live job `{job}`, which has another spec")]
    KeyTaken {
        /// The idempotency key.
        key: String,
        /// The job that has it.
        job: Uuid,
    },
    /// The job is not in a state that allows this.
    #[error("job `{job}` is {state}")]
    WrongState {
        job: Uuid,
        state: State,
        /// The states that allow it.
        expected: &'static str,
    },
    /// The worker no longer holds the job: its lease ran out and another took over, or the job ended.
    #[error("the lease on job `{job}` with fence {fence} is lost")]
    LeaseLost {
        job: Uuid,
        /// The fence of the lost lease.
        fence: i64,
    },
    /// A token of this name is in use.
    #[error("a token named `{name}` exists")]
    TokenNameTaken { name: String },
    /// The jobs of a token take all they may.
    #[error("token `{token}` may have {most} {what} and has {used}")]
    QuotaUsed {
        /// The token's name.
        token: String,
        /// What is bounded.
        what: &'static str,
        most: u32,
        /// What is used.
        used: i64,
    },
    /// A secret opens nothing.
    #[error("the token is {reason}")]
    TokenRefused {
        /// The reason of the refusal.
        reason: Refusal,
    },
    /// A cron expression cannot be read.
    #[error("`{expression}` is not a cron expression ({reason})")]
    Cron {
        /// What was written.
        expression: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A cron expression names a time that never comes.
    #[error("`{expression}` never falls due: its day, month and weekday never meet")]
    NeverDue {
        /// What was written.
        expression: String,
    },
    /// A time zone is not known.
    #[error("`{name}` is not a time zone")]
    TimeZone {
        /// What was written.
        name: String,
    },
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Location { .. } => "expected `sqlite:PATH` or `postgres://USER:PASSWORD@HOST/NAME`".into(),
            Self::Newer { .. } => "run a newer `dpg`".into(),
            Self::KeyTaken { .. } => "cancel that job or use another key".into(),
            Self::WrongState { expected, .. } => format!("expected {expected}"),
            Self::LeaseLost { .. } => "stop working on it".into(),
            Self::TokenNameTaken { .. } => "revoke it or use another name".into(),
            Self::QuotaUsed { .. } => "wait until some have ended".into(),
            Self::TokenRefused { .. } => "make one with `dpg token create`".into(),
            Self::Cron { .. } => "expected five fields, as in `30 2 * * 1-5`".into(),
            Self::TimeZone { .. } => "expected an IANA name, as in `Europe/Berlin` or `UTC`".into(),
            Self::NotFound { .. } | Self::NeverDue { .. } | Self::Database(_) | Self::Stored { .. } => {
                return None;
            }
        })
    }
}

impl Error {
    /// Whether the same call may succeed later with nothing changed by the caller.
    pub fn is_transient(&self) -> bool {
        let Self::Database(error) = self else { return false };
        match error {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
            // PostgreSQL: connection, rollback, resources, shutdown. SQLite: busy, locked, disk full.
            sqlx::Error::Database(error) => error.code().is_some_and(|code| match code.len() {
                5 => ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)),
                _ => code.parse::<u32>().is_ok_and(|code| [5, 6, 13].contains(&(code & 0xff))),
            }),
            _ => false,
        }
    }
}
