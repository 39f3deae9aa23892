//! Who did what: one line for each call that changed something or tried to.

use sqlx::Row;
use uuid::Uuid;

use crate::{Deed, Error, Queue, parsed, time};

/// Lines that are kept.
const KEPT: i64 = 100_000;
/// Lines between two times that old ones are removed.
const PERIOD: u128 = 500;

/// What somebody did.
#[derive(Clone, Debug)]
pub struct NewDeed {
    /// Id of the token.
    pub token: Uuid,
    /// Its name then.
    pub name: String,
    /// The kind of the call, as the API's description names it.
    pub action: String,
    /// What was acted on.
    pub object: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// Where the call came from.
    pub address: String,
}

impl Queue {
    /// Writes down what somebody did. Of very many lines the oldest are removed.
    ///
    /// # Errors
    /// The database fails.
    pub async fn note(&self, deed: NewDeed) -> Result<(), Error> {
        let id = Uuid::now_v7();
        let mut tx = self.begin().await?;
        sqlx::query(self.dialect.sql(INSERT))
            .bind(id.to_string())
            .bind(deed.token.to_string())
            .bind(deed.name)
            .bind(deed.action)
            .bind(deed.object)
            .bind(i64::from(deed.status))
            .bind(deed.address)
            .execute(&mut *tx)
            .await?;
        // the random part of the id chooses when
        if id.as_u128().is_multiple_of(PERIOD) {
            sqlx::query(FORGET).bind(KEPT).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Up to `limit` lines, newest first, before the line `before`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn deeds(&self, before: Option<Uuid>, limit: u32) -> Result<Vec<Deed>, Error> {
        let query = sqlx::query(LIST).bind(before.map(|id| id.to_string())).bind(i64::from(limit));
        let rows = query.fetch_all(&self.pool).await?;
        let read = |row| {
            Ok(Deed {
                id: parsed(row, "id")?,
                at: time(row, "at")?,
                token: parsed(row, "token")?,
                name: row.try_get("name")?,
                action: row.try_get("action")?,
                object: row.try_get("object")?,
                status: row.try_get::<i64, _>("status")? as u16,
                address: row.try_get("address")?,
            })
        };
        rows.iter().map(read).collect()
    }
}

const INSERT: &str = "insert into audit (id, at, token, name, action, object, status, address) \
     values ($1, {now}, $2, $3, $4, $5, $6, $7)";

const FORGET: &str = "delete from audit where id < (select id from audit order by id desc limit 1 offset $1)";

const LIST: &str = "select * from audit where ($1 is null or id < $1) order by id desc limit $2";
