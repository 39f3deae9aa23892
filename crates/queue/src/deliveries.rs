//! Who is told that a job has ended: kept from the job's end until it is delivered.
//!
//! The transaction that ends a job, whoever ends it, writes a delivery for each listener. A sender takes one that is
//! due, for as long as its call may take, and says what came of it. One that is killed meanwhile is followed by the
//! next, so a listener may hear of an end twice, and always under the same job and event.

use std::time::Duration;

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use crate::{Delivery, DeliveryState, Error, Job, Queue, millis, optional_time, parsed, time};

impl Queue {
    /// The queue of a program that ends jobs for these listeners, which are URLs.
    #[must_use]
    pub fn telling(self, listeners: impl IntoIterator<Item = String>) -> Self {
        Self { listeners: listeners.into_iter().collect(), ..self }
    }

    /// Writes what every listener is to hear of a job that ends.
    pub(crate) async fn announce(&self, connection: &mut AnyConnection, job: &Job) -> Result<(), Error> {
        for url in &*self.listeners {
            sqlx::query(self.dialect.sql(INSERT))
                .bind(Uuid::now_v7().to_string())
                .bind(job.id.to_string())
                .bind(job.last_event)
                .bind(url.clone())
                .bind(body(job))
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }

    /// Takes the delivery to `url` that has been due longest, if there is one, with its body. Others leave it alone
    /// for `lease` from now.
    ///
    /// # Errors
    /// The database fails.
    pub async fn take_delivery(
        &self,
        url: &str,
        lease: Duration,
    ) -> Result<Option<(Delivery, String)>, Error> {
        let mut tx = self.begin().await?;
        let query = sqlx::query(self.dialect.sql(TAKE)).bind(url.to_owned()).bind(millis(lease));
        let rows = query.fetch_all(&mut *tx).await?;
        tx.commit().await?;
        rows.first().map(|row| Ok((read(row)?, row.try_get("body")?))).transpose()
    }

    /// Notes that a delivery arrived, with the status of the answer.
    ///
    /// # Errors
    /// The database fails.
    pub async fn delivered(&self, id: Uuid, status: u16) -> Result<(), Error> {
        let query = sqlx::query(self.dialect.sql(DELIVERED)).bind(id.to_string()).bind(i64::from(status));
        query.execute(&self.pool).await?;
        Ok(())
    }

    /// Notes why a delivery did not arrive. It is due again after `wait`, or given up.
    ///
    /// # Errors
    /// The database fails.
    pub async fn not_delivered(
        &self,
        id: Uuid,
        status: Option<u16>,
        error: &str,
        wait: Option<Duration>,
    ) -> Result<(), Error> {
        sqlx::query(self.dialect.sql(NOT_DELIVERED))
            .bind(id.to_string())
            .bind(status.map(i64::from))
            .bind(error.to_owned())
            .bind(wait.map(millis))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Up to `limit` deliveries, newest first, before the one with the id `before`; of `job` alone if it is given.
    ///
    /// # Errors
    /// The database fails.
    pub async fn deliveries(
        &self,
        job: Option<Uuid>,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<Delivery>, Error> {
        let query = sqlx::query(LIST)
            .bind(job.map(|id| id.to_string()))
            .bind(before.map(|id| id.to_string()))
            .bind(i64::from(limit));
        query.fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// Removes deliveries that were settled longer ago than `age`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn forget_deliveries(&self, age: Duration) -> Result<(), Error> {
        sqlx::query(self.dialect.sql(FORGET)).bind(millis(age)).execute(&self.pool).await?;
        Ok(())
    }
}

/// What a listener is sent. It is kept as it is, so that a job that is retried meanwhile changes nothing.
fn body(job: &Job) -> String {
    let told = json!({
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "attempts": job.attempts,
        "result": job.result,
        "error": job.error,
        "schedule": job.schedule,
        "created": job.created,
        "finished": job.finished,
    });
    json!({ "event": format!("job.{}", job.state), "job": told }).to_string()
}

fn read(row: &AnyRow) -> Result<Delivery, Error> {
    let status: Option<i64> = row.try_get("status")?;
    let state = parsed(row, "state")?;
    Ok(Delivery {
        id: parsed(row, "id")?,
        job: parsed(row, "job")?,
        event: row.try_get("event")?,
        host: host(&row.try_get::<String, _>("url")?),
        state,
        attempts: row.try_get::<i64, _>("attempts")? as u32,
        due: optional_time(row, "due")?.filter(|_| state == DeliveryState::Pending),
        status: status.map(|status| status as u16),
        error: row.try_get("error")?,
        created: time(row, "created")?,
        updated: time(row, "updated")?,
    })
}

/// The host of a URL, without a name and a password before it.
fn host(url: &str) -> String {
    let authority = url.split('/').nth(2).unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default().to_owned()
}

const INSERT: &str = "insert into deliveries (id, job, event, url, body, state, attempts, due, created, updated) \
     values ($1, $2, $3, $4, $5, 'pending', 0, {now}, {now}, {now})";

/// After the clock was set back, what was to be due is due now.
const TAKE: &str = "update deliveries set attempts = attempts + 1, due = {now} + $2, updated = {now} \
     where id = (select id from deliveries where url = $1 and state = 'pending' \
     and (due <= {now} or updated > {now} + {slack}) order by due, id limit 1 {skip_locked}) returning *";

const DELIVERED: &str = "update deliveries set state = 'delivered', status = $2, error = null, updated = {now} \
     where id = $1";

const NOT_DELIVERED: &str = "update deliveries set status = $2, error = $3, updated = {now}, \
     due = {now} + coalesce($4, 0), state = case when $4 is null then 'given_up' else state end \
     where id = $1 and state = 'pending'";

const LIST: &str = "select * from deliveries where ($1 is null or job = $1) and ($2 is null or id < $2) \
     order by id desc limit $3";

const FORGET: &str = "delete from deliveries where state <> 'pending' and updated < {now} - $1";
