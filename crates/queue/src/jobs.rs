//! What the people who submit jobs do: submit, look, cancel, retry.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use crate::job::Note;
use crate::job::read_event;
use crate::{Counts, Error, Event, Filter, Job, NewJob, Page, Queue, State, Submitted, stored, time};

impl Queue {
    /// Submits a job, or finds the live one with its key; repeating the call is safe if it has a key.
    ///
    /// # Errors
    /// The key's live job has another spec; the database fails.
    pub async fn submit(&self, new: &NewJob) -> Result<Submitted, Error> {
        loop {
            let mut tx = self.begin().await?;
            if let Some(job) = self.insert(&mut tx, new).await? {
                tx.commit().await?;
                return Ok(Submitted { job, created: true });
            }
            // Only a key stops an insert. Its job may have ended since: then try again.
            let key = new.key.as_deref().unwrap_or_default();
            if let Some(job) = live_with_key(&mut tx, key).await? {
                if job.spec_sha256 != new.spec_sha256 {
                    return Err(Error::KeyTaken { key: key.into(), job: job.id });
                }
                return Ok(Submitted { job, created: false });
            }
        }
    }

    /// The live job with a new one's key.
    pub(crate) async fn live(&self, new: &NewJob) -> Result<Option<Submitted>, Error> {
        let Some(key) = new.key.as_deref() else { return Ok(None) };
        let mut connection = self.pool.acquire().await?;
        match live_with_key(&mut connection, key).await? {
            Some(job) if job.spec_sha256 != new.spec_sha256 => {
                Err(Error::KeyTaken { key: key.into(), job: job.id })
            }
            job => Ok(job.map(|job| Submitted { job, created: false })),
        }
    }

    /// Inserts a job unless a live one has its key.
    pub(crate) async fn insert(
        &self,
        connection: &mut AnyConnection,
        new: &NewJob,
    ) -> Result<Option<Job>, Error> {
        let inserted = sqlx::query(self.dialect.sql(INSERT))
            .bind(Uuid::now_v7().to_string())
            .bind(new.name.clone())
            .bind(new.key.clone())
            .bind(new.spec.clone())
            .bind(new.resolved.clone())
            .bind(new.spec_sha256.clone())
            .bind(new.priority)
            .bind(i64::from(new.max_attempts.max(1)))
            .bind(new.not_before.map(|time| time.timestamp_millis()))
            .bind(new.schedule.map(|id| id.to_string()))
            .bind(new.due.map(|time| time.timestamp_millis()))
            .bind(i64::from(new.needs.gpus))
            .bind(stored(new.needs.gpu_bytes))
            .fetch_all(&mut *connection)
            .await?;
        let Some(row) = inserted.first() else { return Ok(None) };
        let job = Job::read(row)?;
        let detail = json!({"schedule": job.schedule, "due": job.due});
        job.append(connection, Note { kind: "submitted", detail }).await?;
        Ok(Some(job))
    }

    /// The job with this id.
    ///
    /// # Errors
    /// There is none; the database fails.
    pub async fn job(&self, id: Uuid) -> Result<Job, Error> {
        let query = sqlx::query("select * from jobs where id = $1").bind(id.to_string());
        match query.fetch_optional(&self.pool).await? {
            Some(row) => Job::read(&row),
            None => Err(no_job(id)),
        }
    }

    /// The job with this id, or the newest one of the dataset of this name.
    ///
    /// # Errors
    /// There is none; the database fails.
    pub async fn find(&self, id_or_name: &str) -> Result<Job, Error> {
        if let Ok(id) = id_or_name.parse() {
            return self.job(id).await;
        }
        let query = sqlx::query("select * from jobs where name = $1 order by id desc limit 1");
        match query.bind(id_or_name.to_string()).fetch_optional(&self.pool).await? {
            Some(row) => Job::read(&row),
            None => Err(no_job(id_or_name)),
        }
    }

    /// Up to `limit` jobs, newest first, without their specs, which may be large. `from` is
    /// [`Page::next`] of the page before.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list(&self, filter: &Filter, from: Option<Uuid>, limit: u32) -> Result<Page, Error> {
        let rows = sqlx::query(LIST)
            .bind(filter.state.map(State::as_str))
            .bind(filter.name.clone())
            .bind(filter.name_prefix.clone())
            .bind(filter.since.map(|time| time.timestamp_millis()))
            .bind(filter.schedule.map(|id| id.to_string()))
            .bind(from.map(|id| id.to_string()))
            .bind(i64::from(limit) + 1)
            .fetch_all(&self.pool)
            .await?;
        let mut jobs: Vec<_> = rows.iter().map(Job::read).collect::<Result<_, _>>()?;
        let next = jobs.get(limit as usize).map(|job| job.id);
        jobs.truncate(limit as usize);
        Ok(Page { jobs, next })
    }

    /// Up to `limit` events of a job after number `after`, oldest first. Numbers have no gaps and
    /// become visible in order, so a reader that passes on the last number it saw misses none.
    ///
    /// # Errors
    /// The database fails.
    pub async fn events(&self, job: Uuid, after: i64, limit: u32) -> Result<Vec<Event>, Error> {
        let rows = sqlx::query("select * from events where job = $1 and seq > $2 order by seq limit $3")
            .bind(job.to_string())
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read_event).collect()
    }

    /// Number of jobs in each state.
    ///
    /// # Errors
    /// The database fails.
    pub async fn counts(&self) -> Result<Counts, Error> {
        let rows = sqlx::query("select state, count(*) as jobs from jobs group by state")
            .fetch_all(&self.pool)
            .await?;
        let mut counts = Counts::default();
        for row in rows {
            let jobs = row.try_get("jobs")?;
            match crate::parsed(&row, "state")? {
                State::Queued => counts.queued = jobs,
                State::Running => counts.running = jobs,
                State::Succeeded => counts.succeeded = jobs,
                State::Failed => counts.failed = jobs,
                State::Cancelled => counts.cancelled = jobs,
            }
        }
        Ok(counts)
    }

    /// Cancels a job: a queued one at once, a running one as soon as its worker hears of it or its
    /// lease runs out. Cancelling again changes nothing.
    ///
    /// # Errors
    /// The job has succeeded or failed, or there is none; the database fails.
    pub async fn cancel(&self, job: Uuid) -> Result<Job, Error> {
        self.edit(job, |job, now| cancel(job, now, "user")).await
    }

    /// Queues an ended job anew, with all its attempts; one that waits for its next attempt waits no
    /// longer.
    ///
    /// # Errors
    /// The job is running or has succeeded, or there is none; a live job has its key; the database
    /// fails.
    pub async fn retry(&self, id: Uuid) -> Result<Job, Error> {
        let retried = self
            .edit(id, |job, now| {
                if !matches!(job.state, State::Queued | State::Failed | State::Cancelled) {
                    let expected = "queued, failed or cancelled";
                    return Err(Error::WrongState { job: job.id, state: job.state, expected });
                }
                job.state = State::Queued;
                job.not_before = now;
                job.attempts = 0;
                job.cancel_requested = None;
                Ok(Some(Note { kind: "retried", detail: json!({}) }))
            })
            .await;
        match retried {
            Err(Error::Database(sqlx::Error::Database(error))) if error.is_unique_violation() => {
                let key = self.job(id).await?.key.unwrap_or_default();
                let mut connection = self.pool.acquire().await.map_err(Error::from)?;
                match live_with_key(&mut connection, &key).await? {
                    Some(other) => Err(Error::KeyTaken { key, job: other.id }),
                    None => Err(sqlx::Error::Database(error).into()),
                }
            }
            other => other,
        }
    }

    /// Writes a job whose row is locked, with `note` as its next event. If it ends with that, listeners are to hear
    /// of it.
    pub(crate) async fn save(
        &self,
        connection: &mut AnyConnection,
        job: &mut Job,
        now: DateTime<Utc>,
        note: Option<Note<'_>>,
    ) -> Result<(), Error> {
        let ends = job.finished.is_none() && job.state.has_ended();
        job.save(connection, now, note).await?;
        if ends { self.announce(connection, job).await } else { Ok(()) }
    }

    /// Gives a job that waits another priority.
    ///
    /// # Errors
    /// The job does not wait, or there is none; the database fails.
    pub async fn prioritize(&self, id: Uuid, priority: i64) -> Result<Job, Error> {
        self.edit(id, |job, _| {
            if job.state != State::Queued {
                return Err(Error::WrongState { job: job.id, state: job.state, expected: "queued" });
            }
            if job.priority == priority {
                return Ok(None);
            }
            job.priority = priority;
            Ok(Some(Note { kind: "prioritized", detail: json!({ "priority": priority }) }))
        })
        .await
    }

    /// Changes a job under its lock: `change` gets it with the time, and says what to note.
    pub(crate) async fn edit<'a>(
        &self,
        id: Uuid,
        change: impl FnOnce(&mut Job, DateTime<Utc>) -> Result<Option<Note<'a>>, Error>,
    ) -> Result<Job, Error> {
        let mut tx = self.begin().await?;
        let query = sqlx::query(self.dialect.sql(LOCK)).bind(id.to_string());
        let row = query.fetch_optional(&mut *tx).await?.ok_or_else(|| no_job(id))?;
        let (before, now) = (Job::read(&row)?, time(&row, "clock")?);
        let mut job = before.clone();
        let note = change(&mut job, now)?;
        if note.is_some() || job != before {
            self.save(&mut tx, &mut job, now, note).await?;
            tx.commit().await?;
        }
        Ok(job)
    }
}

/// Cancels a locked job; `by` says who does.
pub(crate) fn cancel(job: &mut Job, now: DateTime<Utc>, by: &str) -> Result<Option<Note<'static>>, Error> {
    let detail = json!({"by": by});
    match job.state {
        State::Queued => {
            job.state = State::Cancelled;
            Ok(Some(Note { kind: "cancelled", detail }))
        }
        State::Running if job.cancel_requested.is_none() => {
            job.cancel_requested = Some(now);
            Ok(Some(Note { kind: "cancel_requested", detail }))
        }
        State::Running | State::Cancelled => Ok(None),
        State::Succeeded | State::Failed => {
            Err(Error::WrongState { job: job.id, state: job.state, expected: "queued or running" })
        }
    }
}

async fn live_with_key(connection: &mut AnyConnection, key: &str) -> Result<Option<Job>, Error> {
    let query = sqlx::query(LIVE_WITH_KEY).bind(key.to_string());
    query.fetch_optional(connection).await?.as_ref().map(Job::read).transpose()
}

fn no_job(id: impl ToString) -> Error {
    Error::NotFound { what: "job", id: id.to_string() }
}

const INSERT: &str = "insert into jobs (id, name, key, spec, resolved, spec_sha256, priority, max_attempts, \
     not_before, schedule, due, gpus, gpu_bytes, state, attempts, fence, last_event, created, updated) \
     values ($1, $2, $3, $4, $5, $6, $7, $8, coalesce($9, {now}), $10, $11, $12, $13, 'queued', 0, 0, 1, {now}, {now}) \
     on conflict (key) where state in ('queued', 'running') and cancel_requested is null do nothing \
     returning *";

const LOCK: &str = "select *, {now} as clock from jobs where id = $1 {lock}";

const LIVE_WITH_KEY: &str = "select * from jobs where key = $1 and state in ('queued', 'running') \
     and cancel_requested is null";

const LIST: &str = "select id, name, key, '' as spec, '' as resolved, spec_sha256, priority, state, attempts, \
     max_attempts, not_before, owner, lease_until, fence, cancel_requested, progress, result, error, schedule, \
     due, last_event, created, updated, finished from jobs where ($1 is null or state = $1) and ($2 is null or name = $2) \
     and ($3 is null or substr(name, 1, length($3)) = $3) and ($4 is null or created >= $4) \
     and ($5 is null or schedule = $5) and ($6 is null or id <= $6) order by id desc limit $7";
