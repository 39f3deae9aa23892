//! The durable queue: jobs with leases and fences, schedules, API tokens, and whom to tell of jobs' ends.
//!
//! [`Queue`] keeps them in SQLite (one machine) or PostgreSQL (several). A job is a target spec to
//! be run; what may happen to it is in `jobs.rs` for the people who submit and in `lease.rs` for the
//! workers. Each change is one transaction that locks the job's row, decides in Rust, and writes the
//! row back with an event; so the rules are the same on both databases, and a program killed at any
//! moment leaves the old state or the new.
//!
//! Promises, tested on both databases:
//! - A key has at most one live job, however many submit it at once.
//! - A job has at most one worker whose writes are accepted: each claim raises the job's `fence`,
//!   and a write with an older one fails with [`Error::LeaseLost`].
//! - Attempts are counted when they start, so a job that kills its workers ends too.
//! - All times are the database's. A worker's clock decides nothing.
//! - The database's clock may be set by hours, either way, while all runs: see `clock.rs`.
//! - Whoever is to hear of a job's end is written down with that end.
//! - A due time of a schedule makes jobs once, however many daemons look.

mod audit;
mod clock;
mod deliveries;
mod dialect;
mod error;
mod job;
mod jobs;
mod lease;
mod postgres;
mod quota;
mod schedules;
mod sqlite;
mod tokens;

pub mod cron;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::any::{Any, AnyRow};
use sqlx::{AnyPool, Row, Transaction};
use uuid::Uuid;

pub use audit::NewDeed;
pub use dpg_api::{Deed, Delivery, DeliveryState, Event, Quota, Scope, State};
pub use error::Error;
pub use job::{Counts, Filter, Job, NewJob, Page, Resources, Submitted};
pub use lease::{Failure, Lease, Order, backoff};
pub use schedules::{NewSchedule, Schedule};
pub use tokens::{NewToken, Refusal, Token};

use clock::Watch;
use dialect::Dialect;

/// A handle on the queue; clones share its connections.
#[derive(Clone, Debug)]
pub struct Queue {
    pool: AnyPool,
    dialect: Dialect,
    clock: Arc<Mutex<Watch>>,
    /// Who is told of the ends of jobs that this program ends.
    listeners: Arc<[String]>,
    /// What this program has for the jobs that it claims.
    has: Resources,
}

impl Queue {
    /// Opens the database at `location`, `sqlite:PATH` or `postgres://...`, and brings its tables up
    /// to date. Several programs may do so at once.
    ///
    /// # Errors
    /// The location is neither, the database cannot be reached, or it is newer than this program.
    pub async fn open(location: &str) -> Result<Self, Error> {
        match location.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Self::sqlite(Path::new(path)).await,
            Some(("postgres" | "postgresql", _)) => {
                sqlx::any::install_default_drivers();
                Self::ready(postgres::connect(location).await?, postgres::DIALECT).await
            }
            Some((scheme, _)) => Err(Error::Location { location: format!("{scheme}:...") }),
            None => Err(Error::Location { location: location.into() }),
        }
    }

    /// Opens the SQLite file at `path`, made if absent.
    ///
    /// # Errors
    /// As [`Queue::open`].
    pub async fn sqlite(path: &Path) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        Self::ready(sqlite::connect(path).await?, sqlite::DIALECT).await
    }

    async fn ready(pool: AnyPool, dialect: Dialect) -> Result<Self, Error> {
        dialect.migrate(&pool).await?;
        Ok(Self {
            pool,
            dialect,
            clock: Arc::default(),
            listeners: Arc::default(),
            has: Resources::default(),
        })
    }

    /// The same queue for a worker that has these; without, it claims no job that needs any.
    #[must_use]
    pub fn with(mut self, has: Resources) -> Self {
        self.has = has;
        self
    }

    /// The database's clock, and so a check that it answers.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn now(&self) -> Result<DateTime<Utc>, Error> {
        let query = sqlx::query(self.dialect.sql(CLOCK));
        time(&query.fetch_one(&self.pool).await?, "clock")
    }

    /// Closes the connections; calls in progress end first.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn begin(&self) -> Result<Transaction<'static, Any>, Error> {
        Ok(self.pool.begin_with(self.dialect.begin).await?)
    }
}

const CLOCK: &str = "select {now} as clock";

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// Bytes as a database has them.
fn stored(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn time(row: &AnyRow, column: &'static str) -> Result<DateTime<Utc>, Error> {
    optional_time(row, column)?.ok_or_else(|| Error::Stored { column, value: "nothing".into() })
}

fn optional_time(row: &AnyRow, column: &'static str) -> Result<Option<DateTime<Utc>>, Error> {
    let millis: Option<i64> = row.try_get(column)?;
    let time = |millis| {
        DateTime::from_timestamp_millis(millis)
            .ok_or_else(|| Error::Stored { column, value: millis.to_string() })
    };
    millis.map(time).transpose()
}

/// A column that is stored as text and read with `FromStr`.
fn parsed<T: std::str::FromStr>(row: &AnyRow, column: &'static str) -> Result<T, Error> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(|_| Error::Stored { column, value: text })
}

fn optional_id(row: &AnyRow, column: &'static str) -> Result<Option<Uuid>, Error> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(|_| Error::Stored { column, value: text })).transpose()
}
