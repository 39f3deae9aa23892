//! Schedules: specs that are submitted again and again. The table is here, the calendar in
//! [`cron`](crate::cron).
//!
//! A schedule's `cursor` is the newest due time that was dealt with. [`Queue::advance`] moves it from
//! one known value to the next and submits the jobs in the same transaction: of several daemons that
//! find the same time due, one succeeds. A daemon's tick is, for each of [`Queue::schedules`]:
//! [`Schedule::due`] at [`Queue::now`], resolve its spec, [`Queue::advance`].

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

    /// The next `count` due times after `now`, before jitter.
    ///
    /// # Errors
    /// As [`Schedule::calendar`].
    pub fn upcoming(&self, now: DateTime<Utc>, count: usize) -> Result<Vec<DateTime<Utc>>, Error> {
        Ok(self.calendar()?.upcoming(now, count))
    }

    /// `job` as one of this schedule's, which have no key: the cursor keeps them from being doubled.
    fn own(&self, job: &NewJob, due: Option<DateTime<Utc>>) -> NewJob {
        NewJob {
            schedule: Some(self.id),
            key: None,
            due,
            priority: self.priority,
            max_attempts: self.max_attempts,
            ..job.clone()
        }
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

    /// Moves the schedule's cursor past what is `due` and submits `job` for each due time, under the
    /// overlap policy, in one transaction. The schedule gives the job its priority and attempts; a key
    /// is ignored. Gives the jobs submitted: those the policy leaves out are not among them, and none is
    /// for a time that has had its job, before the clock was set back. `None`, with nothing done, if the schedule as read is out of date: another daemon was first, or it was
    /// edited, paused or deleted.
    ///
    /// # Errors
    /// The database fails.
    pub async fn advance(
        &self,
        schedule: &Schedule,
        due: &Due,
        job: &NewJob,
    ) -> Result<Option<Vec<Job>>, Error> {
        let mut tx = self.begin().await?;
        let moved = sqlx::query(self.dialect.sql(ADVANCE))
            .bind(schedule.id.to_string())
            .bind(schedule.cursor.timestamp_millis())
            .bind(schedule.updated.timestamp_millis())
            .bind(due.cursor.timestamp_millis())
            .execute(&mut *tx)
            .await?;
        if moved.rows_affected() == 0 {
            return Ok(None);
        }
        let mut submitted = Vec::new();
        for time in &due.times {
            let had = sqlx::query(HAD).bind(schedule.id.to_string()).bind(time.timestamp_millis());
            if had.fetch_optional(&mut *tx).await?.is_some() {
                continue;
            }
            let live = self.live_jobs(&mut tx, schedule).await?;
            match schedule.overlap {
                Overlap::Skip if !live.is_empty() => continue,
                Overlap::Skip | Overlap::Queue => {}
                Overlap::Replace => self.cancel_all(&mut tx, live).await?,
            }
            submitted.extend(self.insert(&mut tx, &schedule.own(job, Some(*time))).await?);
        }
        tx.commit().await?;
        Ok(Some(submitted))
    }

    /// Submits `job` as one of the schedule's at once, paused or not; its due times stay as they are.
    /// Under `replace` the live jobs of the schedule are cancelled, otherwise it waits for them.
    ///
    /// # Errors
    /// The database fails.
    pub async fn run_schedule(&self, schedule: &Schedule, job: &NewJob) -> Result<Job, Error> {
        let mut tx = self.begin().await?;
        if schedule.overlap == Overlap::Replace {
            let live = self.live_jobs(&mut tx, schedule).await?;
            self.cancel_all(&mut tx, live).await?;
        }
        let job = self.insert(&mut tx, &schedule.own(job, None)).await?;
        let job = job.expect("only a key stops an insert, and it has none");
        tx.commit().await?;
        Ok(job)
    }

    /// The schedule's live jobs, locked, with the time.
    async fn live_jobs(
        &self,
        connection: &mut AnyConnection,
        schedule: &Schedule,
    ) -> Result<Vec<(Job, DateTime<Utc>)>, Error> {
        let query = sqlx::query(self.dialect.sql(LIVE)).bind(schedule.id.to_string());
        let rows = query.fetch_all(connection).await?;
        rows.iter().map(|row| Ok((Job::read(row)?, time(row, "clock")?))).collect()
    }

    async fn cancel_all(
        &self,
        connection: &mut AnyConnection,
        live: Vec<(Job, DateTime<Utc>)>,
    ) -> Result<(), Error> {
        for (mut job, now) in live {
            if let Some(note) = jobs::cancel(&mut job, now, "schedule")? {
                self.save(connection, &mut job, now, Some(note)).await?;
            }
        }
        Ok(())
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

const ADVANCE: &str = "update schedules set cursor_at = $4, updated = {now} \
     where id = $1 and cursor_at = $2 and updated = $3 and paused is null";

const HAD: &str = "select id from jobs where schedule = $1 and due = $2 limit 1";

const LIVE: &str = "select *, {now} as clock from jobs where schedule = $1 \
     and state in ('queued', 'running') order by id {lock}";
