//! The backend for several machines: they share one PostgreSQL and its clock.

use sqlx::AnyPool;
use sqlx::any::AnyPoolOptions;

use crate::{Error, dialect::Dialect};

pub(crate) const DIALECT: Dialect = Dialect {
    begin: "begin",
    lock: "for update",
    skip_locked: "for update skip locked",
    // Programs that start together apply the migrations one after the other. The number is arbitrary.
    migrating: "select pg_advisory_xact_lock(7236836018513)",
    now: "(extract(epoch from statement_timestamp()) * 1000)::bigint",
};

/// Connects to `postgres://...`.
pub(crate) async fn connect(url: &str) -> Result<AnyPool, Error> {
    Ok(AnyPoolOptions::new().max_connections(16).connect(url).await?)
}
