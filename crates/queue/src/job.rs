//! What is stored about a job, and the row it is stored in.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use crate::clock::SLACK;
use crate::{Error, Event, State, optional_id, optional_time, parsed, time};

/// What a job needs, or a worker has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// GPUs.
    pub gpus: u32,
    /// Bytes of memory of each.
    pub gpu_bytes: u64,
}

/// A job to be submitted.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// The dataset's name.
    pub name: String,
    /// At most one live job has it; submitting again gives that job.
    pub key: Option<String>,
    /// The spec as its author wrote it.
    pub spec: String,
    /// The spec with everything filled in, as JSON.
    pub resolved: String,
    /// Hash of the spec, in hex.
    pub spec_sha256: String,
    /// Higher goes first; equals go in the order of submission.
    pub priority: i64,
    /// Attempts before the job fails for good; at least 1.
    pub max_attempts: u32,
    /// No worker takes it earlier; at once if `None`.
    pub not_before: Option<DateTime<Utc>>,
    /// What a worker must have to take it.
    pub needs: Resources,
    /// The schedule it comes from. Jobs of one schedule run one after the other.
    pub schedule: Option<Uuid>,
    /// The time of the schedule it is for.
    pub due: Option<DateTime<Utc>>,
}

/// A job and its history's summary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// A UUID v7: ids sort by the time of submission.
    pub id: Uuid,
    /// The dataset's name.
    pub name: String,
    /// See [`NewJob::key`].
    pub key: Option<String>,
    /// The spec as its author wrote it.
    pub spec: String,
    /// The spec with everything filled in, as JSON.
    pub resolved: String,
    /// Hash of the spec, in hex.
    pub spec_sha256: String,
    /// Higher goes first.
    pub priority: i64,
    /// Where it stands.
    pub state: State,
    /// Attempts started, less those given back; starts anew with a manual retry.
    pub attempts: u32,
    /// Attempts before it fails for good.
    pub max_attempts: u32,
    /// No worker takes it earlier.
    pub not_before: DateTime<Utc>,
    /// The worker that has it or had it last.
    pub owner: Option<String>,
    /// When that worker's lease runs out.
    pub lease_until: Option<DateTime<Utc>>,
    /// Number of the last claim, from 1.
    pub fence: i64,
    /// When a running job was told to stop.
    pub cancel_requested: Option<DateTime<Utc>>,
    /// What its worker said last about how far it is.
    pub progress: Option<Value>,
    /// What it made.
    pub result: Option<Value>,
    /// Why the last failed attempt failed; a job out of attempts is `failed` with this as its reason.
    pub error: Option<String>,
    /// The schedule it comes from.
    pub schedule: Option<Uuid>,
    /// The time of the schedule it is for.
    pub due: Option<DateTime<Utc>>,
    /// Number of its newest event.
    pub last_event: i64,
    /// When it was submitted.
    pub created: DateTime<Utc>,
    /// When anything about it last changed.
    pub updated: DateTime<Utc>,
    /// When it ended.
    pub finished: Option<DateTime<Utc>>,
}

/// What [`Queue::submit`](crate::Queue::submit) did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    /// The job with the key.
    pub job: Job,
    /// Whether it is new.
    pub created: bool,
}

/// Which jobs to list; the default is all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those of this dataset.
    pub name: Option<String>,
    /// Only those of datasets whose names start so.
    pub name_prefix: Option<String>,
    /// Only those submitted at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only those of this schedule.
    pub schedule: Option<Uuid>,
}

/// One page of a list, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Where the next page starts, if there is more.
    pub next: Option<Uuid>,
}

/// Number of jobs in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Counts {
    pub queued: i64,
    pub running: i64,
    pub succeeded: i64,
    pub failed: i64,
    pub cancelled: i64,
}

/// Something to be written into a job's history.
pub(crate) struct Note<'a> {
    pub(crate) kind: &'a str,
    pub(crate) detail: Value,
}

impl Job {
    pub(crate) fn read(row: &AnyRow) -> Result<Self, Error> {
        Ok(Self {
            id: parsed(row, "id")?,
            name: row.try_get("name")?,
            key: row.try_get("key")?,
            spec: row.try_get("spec")?,
            resolved: row.try_get("resolved")?,
            spec_sha256: row.try_get("spec_sha256")?,
            priority: row.try_get("priority")?,
            state: parsed(row, "state")?,
            attempts: row.try_get::<i64, _>("attempts")? as u32,
            max_attempts: row.try_get::<i64, _>("max_attempts")? as u32,
            not_before: time(row, "not_before")?,
            owner: row.try_get("owner")?,
            lease_until: optional_time(row, "lease_until")?,
            fence: row.try_get("fence")?,
            cancel_requested: optional_time(row, "cancel_requested")?,
            progress: optional_json(row, "progress")?,
            result: optional_json(row, "result")?,
            error: row.try_get("error")?,
            schedule: optional_id(row, "schedule")?,
            due: optional_time(row, "due")?,
            last_event: row.try_get("last_event")?,
            created: time(row, "created")?,
            updated: time(row, "updated")?,
            finished: optional_time(row, "finished")?,
        })
    }

    /// Writes what may change of a job whose row is locked, with `note` as its next event.
    pub(super) async fn save(
        &mut self,
        connection: &mut AnyConnection,
        now: DateTime<Utc>,
        note: Option<Note<'_>>,
    ) -> Result<(), Error> {
        self.last_event += i64::from(note.is_some());
        // `now` may be from before a wait for the lock; far before, the clock was set back
        self.updated = if self.updated - now > SLACK { now } else { self.updated.max(now) };
        self.finished = self.finished.or(Some(self.updated)).filter(|_| self.state.has_ended());
        sqlx::query(SAVE)
            .bind(self.id.to_string())
            .bind(self.state.as_str())
            .bind(i64::from(self.attempts))
            .bind(self.not_before.timestamp_millis())
            .bind(self.owner.clone())
            .bind(self.lease_until.map(|time| time.timestamp_millis()))
            .bind(self.fence)
            .bind(self.cancel_requested.map(|time| time.timestamp_millis()))
            .bind(self.progress.as_ref().map(Value::to_string))
            .bind(self.result.as_ref().map(Value::to_string))
            .bind(self.error.clone())
            .bind(self.last_event)
            .bind(self.updated.timestamp_millis())
            .bind(self.finished.map(|time| time.timestamp_millis()))
            .bind(self.priority)
            .execute(&mut *connection)
            .await?;
        match note {
            Some(note) => self.append(connection, note).await,
            None => Ok(()),
        }
    }

    /// Writes `note` as event number `last_event`.
    pub(crate) async fn append(&self, connection: &mut AnyConnection, note: Note<'_>) -> Result<(), Error> {
        sqlx::query("insert into events (job, seq, at, kind, detail) values ($1, $2, $3, $4, $5)")
            .bind(self.id.to_string())
            .bind(self.last_event)
            .bind(self.updated.timestamp_millis())
            .bind(note.kind)
            .bind(note.detail.to_string())
            .execute(connection)
            .await?;
        Ok(())
    }
}

const SAVE: &str = "update jobs set state = $2, attempts = $3, not_before = $4, owner = $5, \
     lease_until = $6, fence = $7, cancel_requested = $8, progress = $9, result = $10, error = $11, \
     last_event = $12, updated = $13, finished = $14, priority = $15, \
     claimed = case when $2 = 'running' and state <> 'running' then $13 else claimed end, \
     spent = case when $2 <> 'running' and state = 'running' then spent + $13 - coalesce(claimed, $13) \
     else spent end where id = $1";

pub(crate) fn read_event(row: &AnyRow) -> Result<Event, Error> {
    Ok(Event {
        seq: row.try_get("seq")?,
        at: time(row, "at")?,
        kind: row.try_get("kind")?,
        detail: optional_json(row, "detail")?.unwrap_or_default(),
    })
}

fn optional_json(row: &AnyRow, column: &'static str) -> Result<Option<Value>, Error> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|_| Error::Stored { column, value: text }))
        .transpose()
}
