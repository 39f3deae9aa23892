//! Schedules: specs that are submitted again and again. The table is here, the calendar in
//! [`cron`](crate::cron).
//!
//! A schedule's `cursor` is the newest due time that was dealt with. [`Queue::advance`] moves it from
//! one known value to the next and submits the jobs in the same transaction: of several daemons that
//! find the same time due, one succeeds.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use crate::cron::{self, Calendar, Catchup, Due, Overlap, Policy};
use crate::{Error, Job, NewJob, Queue, jobs, millis, optional_time, parsed, time};

/// A schedule to be made, or to replace the one of its name.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSchedule {
    /// Its name, unique.
    pub name: String,
    /// Five fields; see [`Calendar::new`].
    pub cron: String,
    /// An IANA name.
    pub time_zone: String,
    /// The spec to submit, as its author wrote it.
    pub spec: String,
    /// What happens while an earlier job has not ended.
    pub overlap: Overlap,
    /// What happens to missed times.
    pub catchup: Catchup,
    /// Each time is delayed by up to this much.
    pub jitter: Duration,
    /// Of its jobs.
    pub priority: i64,
    /// Of its jobs.
    pub max_attempts: u32,
}

/// A schedule; the fields it shares with [`NewSchedule`] mean the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Schedule {
    pub id: Uuid,
    pub name: String,
    pub cron: String,
    pub time_zone: String,
    pub spec: String,
    pub overlap: Overlap,
    pub catchup: Catchup,
    pub jitter: Duration,
    pub priority: i64,
    pub max_attempts: u32,
    /// When it was paused, if it is.
    pub paused: Option<DateTime<Utc>>,
    /// The newest due time dealt with, or when it was made or resumed.
    pub cursor: DateTime<Utc>,
    pub created: DateTime<Utc>,
    pub updated: DateTime<Utc>,
}

impl Schedule {
    /// Its calendar.
    ///
    /// # Errors
    /// The stored expression or zone is not known to this program.
    pub fn calendar(&self) -> Result<Calendar, Error> {
        Calendar::new(&self.cron, &self.time_zone)
    }

    /// What is due at `now`, if anything; nothing while it is paused. A time that is late by `grace`
    /// or less is not missed.
    ///
    /// # Errors
    /// As [`Schedule::calendar`].
    pub fn due(&self, now: DateTime<Utc>, grace: Duration) -> Result<Option<Due>, Error> {
        if self.paused.is_some() {
            return Ok(None);
        }
        let policy = Policy { catchup: self.catchup, grace, jitter: self.jitter };
        Ok(cron::due(&self.calendar()?, policy, self.id, self.cursor, now))
    }

    fn read(row: &AnyRow) -> Result<Self, Error> {
        Ok(Self {
            id: parsed(row, "id")?,
            name: row.try_get("name")?,
            cron: row.try_get("cron")?,
            time_zone: row.try_get("time_zone")?,
            spec: row.try_get("spec")?,
            overlap: parsed(row, "overlap")?,
            catchup: parsed(row, "catchup")?,
            jitter: Duration::from_millis(row.try_get::<i64, _>("jitter")? as u64),
            priority: row.try_get("priority")?,
            max_attempts: row.try_get::<i64, _>("max_attempts")? as u32,
            paused: optional_time(row, "paused")?,
            cursor: time(row, "cursor_at")?,
            created: time(row, "created")?,
            updated: time(row, "updated")?,
        })
    }
}

impl Queue {
    /// Makes a schedule, or replaces the one of its name, which keeps its id, stays paused if it is,
    /// and keeps its cursor unless its times change.
    ///
    /// # Errors
    /// The expression or the zone cannot be read; the database fails.
    pub async fn put_schedule(&self, new: &NewSchedule) -> Result<Schedule, Error> {
        Calendar::new(&new.cron, &new.time_zone)?;
        let query = sqlx::query(self.dialect.sql(PUT))
            .bind(Uuid::now_v7().to_string())
            .bind(new.name.clone())
            .bind(new.cron.clone())
            .bind(new.time_zone.clone())
            .bind(new.spec.clone())
            .bind(new.overlap.as_str())
            .bind(new.catchup.as_str())
            .bind(millis(new.jitter))
            .bind(new.priority)
            .bind(i64::from(new.max_attempts));
        one(&query.fetch_all(&self.pool).await?, &new.name)
    }

    /// All schedules, by name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn schedules(&self) -> Result<Vec<Schedule>, Error> {
        let rows = sqlx::query("select * from schedules order by name").fetch_all(&self.pool).await?;
        rows.iter().map(Schedule::read).collect()
    }

    /// The schedule of this name.
    ///
    /// # Errors
    /// There is none; the database fails.
    pub async fn schedule(&self, name: &str) -> Result<Schedule, Error> {
        self.on_schedule("select * from schedules where name = $1", name).await
    }

    /// Stops a schedule until it is resumed. Its jobs are left alone.
    ///
    /// # Errors
    /// There is none of this name; the database fails.
    pub async fn pause_schedule(&self, name: &str) -> Result<Schedule, Error> {
        self.on_schedule(PAUSE, name).await
    }

    /// Lets a paused schedule go on. Times that fell into the pause are not made up for.
    ///
    /// # Errors
    /// There is none of this name; the database fails.
    pub async fn resume_schedule(&self, name: &str) -> Result<Schedule, Error> {
        self.on_schedule(RESUME, name).await
    }

    /// Deletes a schedule and gives it back as it was. Its jobs are left alone.
    ///
    /// # Errors
    /// There is none of this name; the database fails.
    pub async fn delete_schedule(&self, name: &str) -> Result<Schedule, Error> {
        self.on_schedule("delete from schedules where name = $1 returning *", name).await
    }

    async fn on_schedule(&self, sql: &'static str, name: &str) -> Result<Schedule, Error> {
        let query = sqlx::query(self.dialect.sql(sql)).bind(name.to_string());
        one(&query.fetch_all(&self.pool).await?, name)
    }

    /// Moves a schedule's cursor from `from` to `to` and submits `jobs` as its own, under its overlap
    /// policy, in one transaction. Gives the jobs submitted: those the policy leaves out, or whose key
    /// a live job has, are not among them. `None`, with nothing done, if the cursor is elsewhere by
    /// now, or the schedule is paused or gone.
    ///
    /// # Errors
    /// The database fails.
    pub async fn advance(
        &self,
        schedule: Uuid,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        jobs: &[NewJob],
    ) -> Result<Option<Vec<Job>>, Error> {
        let mut tx = self.begin().await?;
        let moved = sqlx::query(self.dialect.sql(ADVANCE))
            .bind(schedule.to_string())
            .bind(from.timestamp_millis())
            .bind(to.timestamp_millis())
            .fetch_all(&mut *tx)
            .await?;
        let Some(row) = moved.first() else { return Ok(None) };
        let schedule = Schedule::read(row)?;
        let mut submitted = Vec::new();
        for new in jobs {
            if self.make_room(&mut tx, &schedule).await? {
                let new = NewJob { schedule: Some(schedule.id), ..new.clone() };
                submitted.extend(self.insert(&mut tx, &new).await?);
            }
        }
        tx.commit().await?;
        Ok(Some(submitted))
    }

    /// Applies the overlap policy to the schedule's live jobs; whether a new one may be submitted.
    async fn make_room(&self, connection: &mut AnyConnection, schedule: &Schedule) -> Result<bool, Error> {
        let query = sqlx::query(self.dialect.sql(LIVE)).bind(schedule.id.to_string());
        let live = query.fetch_all(&mut *connection).await?;
        match schedule.overlap {
            Overlap::Skip => return Ok(live.is_empty()),
            Overlap::Queue => {}
            Overlap::Replace => {
                for row in &live {
                    let (mut job, now) = (Job::read(row)?, time(row, "clock")?);
                    if let Some(note) = jobs::cancel(&mut job, now, "schedule")? {
                        job.save(connection, now, Some(note)).await?;
                    }
                }
            }
        }
        Ok(true)
    }
}

fn one(rows: &[AnyRow], name: &str) -> Result<Schedule, Error> {
    let missing = || Error::NotFound { what: "schedule", id: name.into() };
    Schedule::read(rows.first().ok_or_else(missing)?)
}

const PUT: &str = "insert into schedules (id, name, cron, time_zone, spec, overlap, catchup, jitter, \
     priority, max_attempts, cursor_at, created, updated) \
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, {now}, {now}, {now}) \
     on conflict (name) do update set cron = excluded.cron, time_zone = excluded.time_zone, \
     spec = excluded.spec, overlap = excluded.overlap, catchup = excluded.catchup, \
     jitter = excluded.jitter, priority = excluded.priority, max_attempts = excluded.max_attempts, \
     updated = excluded.updated, cursor_at = case \
     when schedules.cron = excluded.cron and schedules.time_zone = excluded.time_zone \
     then schedules.cursor_at else excluded.cursor_at end returning *";

const PAUSE: &str = "update schedules set paused = coalesce(paused, {now}), updated = {now} \
     where name = $1 returning *";

const RESUME: &str = "update schedules set updated = {now}, paused = null, \
     cursor_at = case when paused is null then cursor_at else {now} end where name = $1 returning *";

const ADVANCE: &str = "update schedules set cursor_at = $3, updated = {now} \
     where id = $1 and cursor_at = $2 and paused is null returning *";

const LIVE: &str = "select *, {now} as clock from jobs where schedule = $1 \
     and state in ('queued', 'running') order by id {lock}";
