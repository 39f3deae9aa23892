//! What a worker does: claim a job, hold it, tell how it goes, end it.
//!
//! A lease is held by renewing it. When it runs out, the next worker that asks for work finds the job:
//! queued again, failed if it has no attempts left, cancelled if it was told to stop.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::AnyConnection;
use uuid::Uuid;

use crate::job::Note;
use crate::{CLOCK, Error, Job, Queue, State, millis, stored, time};

/// A worker's right to write about a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Id of the job that is held.
    pub job: Uuid,
    /// Number of the claim; an older one's writes are refused.
    pub fence: i64,
}

/// What a worker is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Go on.
    Continue,
    /// Stop and call [`Queue::cancelled`].
    Cancel,
}

/// What becomes of a job whose attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is tried again after `delay`, if it has attempts left.
    Transient {
        /// How long to wait; [`backoff`] is a good answer.
        delay: Duration,
    },
    /// Trying again would fail again.
    Permanent,
}

/// How long to wait after `attempts` failed attempts: 10 s, doubled each time, at most an hour.
pub fn backoff(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    Duration::from_secs(10 << doublings).min(Duration::from_hours(1))
}

impl Queue {
    /// Takes the first job that may run here, if there is one, for `lease` from now. Other workers' leases
    /// that ran out are ended first, unless it was the clock that ran.
    ///
    /// # Errors
    /// The database fails.
    pub async fn claim(&self, owner: &str, lease: Duration) -> Result<Option<(Lease, Job)>, Error> {
        let mut tx = self.begin().await?;
        let now = time(&sqlx::query(self.dialect.sql(CLOCK)).fetch_one(&mut *tx).await?, "clock")?;
        self.begin_anew(&mut tx, lease).await?;
        let leases_end = {
            let mut watch = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
            watch.leases_end(now, Instant::now(), lease)
        };
        if leases_end {
            self.end_lost_leases(&mut tx).await?;
        }
        let row = sqlx::query(self.dialect.sql(NEXT))
            .bind(i64::from(self.has.gpus))
            .bind(stored(self.has.gpu_bytes))
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = row else {
            tx.commit().await?;
            return Ok(None);
        };
        let (mut job, now) = (Job::read(&row)?, time(&row, "clock")?);
        // another worker may have claimed the last one of the token's quota meanwhile
        if !self.may_run(&mut tx, job.id).await? {
            tx.commit().await?;
            return Ok(None);
        }
        job.state = State::Running;
        job.attempts += 1;
        job.fence += 1;
        job.owner = Some(owner.into());
        job.lease_until = Some(after(now, lease));
        let detail = json!({"owner": owner, "attempt": job.attempts, "fence": job.fence});
        self.save(&mut tx, &mut job, now, Some(Note { kind: "claimed", detail })).await?;
        tx.commit().await?;
        Ok(Some((Lease { job: job.id, fence: job.fence }, job)))
    }

    /// Lets leases that were taken before the clock was set back run from now.
    async fn begin_anew(&self, connection: &mut AnyConnection, lease: Duration) -> Result<(), Error> {
        let rows = sqlx::query(self.dialect.sql(AHEAD)).fetch_all(&mut *connection).await?;
        for row in &rows {
            let (mut job, now) = (Job::read(row)?, time(row, "clock")?);
            job.lease_until = Some(after(now, lease));
            self.save(connection, &mut job, now, None).await?;
        }
        Ok(())
    }

    async fn end_lost_leases(&self, connection: &mut AnyConnection) -> Result<(), Error> {
        let rows = sqlx::query(self.dialect.sql(LOST)).fetch_all(&mut *connection).await?;
        for row in &rows {
            let (mut job, now) = (Job::read(row)?, time(row, "clock")?);
            let owner = job.owner.clone().unwrap_or_default();
            job.error =
                Some(format!("worker `{owner}` stopped renewing its lease in attempt {}", job.attempts));
            requeue(&mut job, now);
            let detail = json!({"owner": owner, "attempt": job.attempts, "state": job.state});
            self.save(connection, &mut job, now, Some(Note { kind: "lease_lost", detail })).await?;
        }
        Ok(())
    }

    /// Renews a lease to end `lease` from now, and asks whether to go on.
    ///
    /// # Errors
    /// The lease is lost; the database fails.
    pub async fn heartbeat(&self, held: &Lease, lease: Duration) -> Result<Order, Error> {
        let job = self
            .edit(held.job, |job, now| {
                held.check(job)?;
                job.lease_until = Some(after(now, lease));
                Ok(None)
            })
            .await?;
        Ok(if job.cancel_requested.is_some() { Order::Cancel } else { Order::Continue })
    }

    /// Says how far the job is; replaces what was said before.
    ///
    /// # Errors
    /// As [`Queue::heartbeat`].
    pub async fn progress(&self, held: &Lease, progress: Value) -> Result<(), Error> {
        self.edit(held.job, |job, _| {
            held.check(job)?;
            job.progress = Some(progress);
            Ok(None)
        })
        .await
        .map(drop)
    }

    /// Adds to the job's history.
    ///
    /// # Errors
    /// As [`Queue::heartbeat`].
    pub async fn event(&self, held: &Lease, kind: &str, detail: Value) -> Result<(), Error> {
        self.edit(held.job, |job, _| {
            held.check(job)?;
            Ok(Some(Note { kind, detail }))
        })
        .await
        .map(drop)
    }

    /// Ends the job well, with what it made. Repeating the call is safe.
    ///
    /// # Errors
    /// As [`Queue::heartbeat`].
    pub async fn complete(&self, held: &Lease, result: Value) -> Result<Job, Error> {
        self.edit(held.job, |job, _| {
            if job.state == State::Succeeded && job.fence == held.fence {
                return Ok(None);
            }
            held.check(job)?;
            job.state = State::Succeeded;
            job.lease_until = None;
            job.error = None;
            job.result = Some(result.clone());
            Ok(Some(Note { kind: "succeeded", detail: result }))
        })
        .await
    }

    /// Ends an attempt badly. The job's new state says whether it will be tried again.
    ///
    /// # Errors
    /// As [`Queue::heartbeat`].
    pub async fn fail(&self, held: &Lease, error: &str, failure: Failure) -> Result<Job, Error> {
        // PostgreSQL's text has no NUL, and a failure must not be lost for one.
        let error = error.replace('\0', "\u{fffd}");
        self.edit(held.job, |job, now| {
            held.check(job)?;
            match failure {
                Failure::Transient { delay } => requeue(job, after(now, delay)),
                Failure::Permanent => {
                    job.state = State::Failed;
                    job.lease_until = None;
                }
            }
            let next = (job.state == State::Queued).then_some(job.not_before);
            let detail =
                json!({"error": error, "attempt": job.attempts, "state": job.state, "next_attempt": next});
            job.error = Some(error);
            Ok(Some(Note { kind: "attempt_failed", detail }))
        })
        .await
    }

    /// Gives the job back unfinished, without counting the attempt: the worker shuts down.
    ///
    /// # Errors
    /// As [`Queue::heartbeat`].
    pub async fn release(&self, held: &Lease) -> Result<Job, Error> {
        self.edit(held.job, |job, now| {
            held.check(job)?;
            job.attempts -= 1;
            requeue(job, now);
            Ok(Some(Note { kind: "released", detail: json!({"owner": job.owner}) }))
        })
        .await
    }

    /// Ends the job because [`Order::Cancel`] came.
    ///
    /// # Errors
    /// As [`Queue::heartbeat`].
    pub async fn cancelled(&self, held: &Lease) -> Result<Job, Error> {
        self.edit(held.job, |job, _| {
            held.check(job)?;
            job.state = State::Cancelled;
            job.lease_until = None;
            Ok(Some(Note { kind: "cancelled", detail: json!({"by": job.owner}) }))
        })
        .await
    }
}

impl Lease {
    fn check(&self, job: &Job) -> Result<(), Error> {
        if job.state == State::Running && job.fence == self.fence {
            return Ok(());
        }
        Err(Error::LeaseLost { job: self.job, fence: self.fence })
    }
}

/// Where a job goes whose attempt ended without an answer.
fn requeue(job: &mut Job, not_before: DateTime<Utc>) {
    job.lease_until = None;
    job.not_before = not_before;
    job.state = if job.cancel_requested.is_some() {
        State::Cancelled
    } else if job.attempts >= job.max_attempts {
        State::Failed
    } else {
        State::Queued
    };
}

fn after(now: DateTime<Utc>, wait: Duration) -> DateTime<Utc> {
    let wait = chrono::TimeDelta::try_milliseconds(millis(wait));
    wait.and_then(|wait| now.checked_add_signed(wait)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Of a schedule's jobs only the oldest live one may run, and none while another runs.
const NEXT: &str = "select *, {now} as clock from jobs j where state = 'queued' \
     and (not_before <= {now} or updated > {now} + {slack}) and {may_run} \
     and gpus <= $1 and gpu_bytes <= $2 \
     and not exists (select 1 from jobs other where other.schedule = j.schedule \
         and other.state in ('queued', 'running') and (other.state = 'running' or other.id < j.id)) \
     order by priority desc, id limit 1 {skip_locked}";

const AHEAD: &str = "select *, {now} as clock from jobs where state = 'running' \
     and updated > {now} + {slack} order by id limit 100 {skip_locked}";

const LOST: &str = "select *, {now} as clock from jobs where state = 'running' and lease_until < {now} \
     order by lease_until limit 100 {skip_locked}";
