//! What the jobs of one token may take: how many wait, how many run, and for how long.

use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use crate::{Error, NewJob, Queue, Submitted, Token};

impl Queue {
    /// Submits a job as [`Queue::submit`] does, for a token and within its quota.
    ///
    /// # Errors
    /// The token's jobs take all they may; as [`Queue::submit`].
    pub async fn submit_for(&self, new: &NewJob, token: Uuid) -> Result<Submitted, Error> {
        // a live job with the key is found, not made
        if new.key.is_some()
            && let Some(live) = self.live(new).await?
        {
            return Ok(live);
        }
        let mut tx = self.begin().await?;
        self.check_quota(&mut tx, token).await?;
        let Some(job) = self.insert(&mut tx, new).await? else {
            drop(tx);
            return self.submit(new).await;
        };
        let query = sqlx::query("update jobs set token = $2 where id = $1");
        query.bind(job.id.to_string()).bind(token.to_string()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(Submitted { job, created: true })
    }

    /// Queues a job again as [`Queue::retry`] does, within the quota of the token that submitted it.
    ///
    /// # Errors
    /// That token's jobs take all they may; as [`Queue::retry`].
    pub async fn retry_within_quota(&self, job: Uuid) -> Result<crate::Job, Error> {
        let query = sqlx::query("select token from jobs where id = $1").bind(job.to_string());
        let row = query.fetch_optional(&self.pool).await?;
        let token = row.map(|row| crate::optional_id(&row, "token")).transpose()?.flatten();
        if let Some(token) = token {
            let mut tx = self.begin().await?;
            self.check_quota(&mut tx, token).await?;
        }
        self.retry(job).await
    }

    /// Locks the token, so that its jobs are counted one after the other, and refuses one more.
    async fn check_quota(&self, connection: &mut AnyConnection, token: Uuid) -> Result<(), Error> {
        let query = sqlx::query(self.dialect.sql(LOCK)).bind(token.to_string());
        let Some(row) = query.fetch_optional(&mut *connection).await? else { return Ok(()) };
        let Token { name, quota, .. } = Token::read(&row)?;
        let query = sqlx::query(self.dialect.sql(USE)).bind(token.to_string());
        let used = query.fetch_one(connection).await?;
        let exceeded = |what, most: Option<u32>, used: i64| match most {
            Some(most) if used >= i64::from(most) => {
                Err(Error::QuotaUsed { token: name.clone(), what, most, used })
            }
            _ => Ok(()),
        };
        exceeded("jobs in the queue", quota.queued, used.try_get("queued")?)?;
        exceeded("minutes of running in 24 hours", quota.minutes, used.try_get::<i64, _>("spent")? / 60_000)
    }

    /// Whether one more job of this job's token may run now. Its token is locked until the transaction
    /// ends.
    pub(crate) async fn may_run(&self, connection: &mut AnyConnection, job: Uuid) -> Result<bool, Error> {
        let query = sqlx::query(self.dialect.sql(LOCK_OF_JOB)).bind(job.to_string());
        let Some(row) = query.fetch_optional(&mut *connection).await? else { return Ok(true) };
        let Token { id, quota, .. } = Token::read(&row)?;
        let query = sqlx::query(self.dialect.sql(USE)).bind(id.to_string());
        let used = query.fetch_one(connection).await?;
        let (running, spent): (i64, i64) = (used.try_get("running")?, used.try_get("spent")?);
        let within = |most: Option<u32>, used: i64| most.is_none_or(|most| used < i64::from(most));
        Ok(within(quota.running, running) && within(quota.minutes, spent / 60_000))
    }
}

const LOCK: &str = "select * from tokens where id = $1 {lock}";

const LOCK_OF_JOB: &str = "select * from tokens where id = (select token from jobs where id = $1) {lock}";

/// What a token's jobs take now and took in the last 24 hours.
const USE: &str = "select \
     coalesce(sum(case when state = 'queued' then 1 else 0 end), 0) as queued, \
     coalesce(sum(case when state = 'running' then 1 else 0 end), 0) as running, \
     cast(coalesce(sum(case when updated > {now} - 86400000 then \
         spent + case when state = 'running' then {now} - coalesce(claimed, {now}) else 0 end else 0 end), 0) \
         as bigint) as spent \
     from jobs where token = $1";

/// Of the jobs that wait, those whose token lets them run; a part of the statement that looks for work.
pub(crate) const MAY_RUN: &str = "not exists (select 1 from tokens t where t.id = j.token \
     and (t.most_running <= (select count(*) from jobs r where r.token = t.id and r.state = 'running') \
     or t.most_minutes * 60000 <= (select coalesce(sum(r.spent + \
         case when r.state = 'running' then {now} - coalesce(r.claimed, {now}) else 0 end), 0) \
         from jobs r where r.token = t.id and r.updated > {now} - 86400000)))";
