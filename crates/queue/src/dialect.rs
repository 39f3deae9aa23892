//! Where the two databases differ, and the migrations, which do not.

use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Row};

use crate::clock::SLACK;
use crate::{Error, quota::MAY_RUN};

/// The words of one database. Statements are written once, with `{now}`, `{lock}` and
/// `{skip_locked}` where these go, `{may_run}` for what quotas ask, and `{slack}` for the milliseconds of
/// [`SLACK`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialect {
    /// Opens a transaction that will write.
    pub(crate) begin: &'static str,
    /// Locks the selected rows.
    pub(crate) lock: &'static str,
    /// Locks the selected rows and leaves out those others have locked.
    pub(crate) skip_locked: &'static str,
    /// Keeps other programs' migrations waiting until the transaction ends.
    pub(crate) migrating: &'static str,
    /// Milliseconds since 1970 by the database's clock.
    pub(crate) now: &'static str,
}

impl Dialect {
    /// The statement in this database's words. `template` holds no data, only text of this crate.
    pub(crate) fn sql(&self, template: &'static str) -> AssertSqlSafe<String> {
        AssertSqlSafe(
            template
                .replace("{may_run}", MAY_RUN)
                .replace("{slack}", &SLACK.num_milliseconds().to_string())
                .replace("{now}", self.now)
                .replace("{lock}", self.lock)
                .replace("{skip_locked}", self.skip_locked),
        )
    }

    /// Brings the database to the newest version; safe with several programs at once.
    pub(crate) async fn migrate(&self, pool: &AnyPool) -> Result<(), Error> {
        let mut tx = pool.begin_with(self.begin).await?;
        sqlx::query(self.migrating).execute(&mut *tx).await?;
        let table = "create table if not exists dpg_migrations (version bigint primary key)";
        sqlx::query(table).execute(&mut *tx).await?;
        let known = MIGRATIONS.len() as i64;
        let found = version(&mut tx).await?;
        if found > known {
            return Err(Error::Newer { found, known });
        }
        for (version, migration) in (1..).zip(MIGRATIONS).skip(found as usize) {
            sqlx::raw_sql(*migration).execute(&mut *tx).await?;
            let record = "insert into dpg_migrations (version) values ($1)";
            sqlx::query(record).bind(version).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }
}

/// In order; a shipped one is never edited.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_queue.sql"),
    include_str!("migrations/0002_tokens.sql"),
    include_str!("migrations/0003_due.sql"),
    include_str!("migrations/0004_deliveries.sql"),
    include_str!("migrations/0005_resources.sql"),
];

async fn version(connection: &mut AnyConnection) -> Result<i64, Error> {
    let query = sqlx::query("select coalesce(max(version), 0) as version from dpg_migrations");
    Ok(query.fetch_one(connection).await?.try_get("version")?)
}
