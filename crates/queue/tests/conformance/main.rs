//! One suite for both databases: each story runs on a fresh SQLite file and on a fresh database of a
//! real PostgreSQL.

mod clocks;
mod deliveries;
mod hostile;
mod jobs;
mod leases;
mod opening;
mod postgres;
mod quotas;
mod schedules;
#[path = "../../../../tests/skip.rs"]
mod skip;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use dpg_queue::{Lease, NewJob, Queue, Resources};
use sqlx::{AnyConnection, AssertSqlSafe, Connection};
use tempfile::TempDir;

/// Longer than any test.
pub(crate) const LONG: Duration = Duration::from_hours(1);
/// Over by the time anyone looks, or soon after.
pub(crate) const SHORT: Duration = Duration::from_millis(1);

/// Makes of each story, an `async fn(Store)`, one test on each database.
macro_rules! on_both {
    ($($story:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                super::$story(crate::Store::sqlite()).await;
            })*
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                if let Some(store) = crate::Store::postgres().await {
                    super::$story(store).await;
                }
            })*
        }
    };
}
pub(crate) use on_both;

/// An empty database; gone when dropped.
pub(crate) struct Store {
    pub(crate) location: String,
    _server: Option<Arc<postgres::Server>>,
    _folder: Option<TempDir>,
}

impl Store {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = format!("sqlite:{}", folder.path().join("queue.db").display());
        Self { location, _server: None, _folder: Some(folder) }
    }

    pub(crate) async fn postgres() -> Option<Self> {
        let Some(server) = postgres::server() else {
            skip::skip("there is no PostgreSQL on this machine");
            return None;
        };
        let location = server.new_database().await;
        Some(Self { location, _server: Some(server), _folder: None })
    }

    /// Opens the queue, with connections of its own, as another program would.
    pub(crate) async fn open(&self) -> Queue {
        Queue::open(&self.location).await.unwrap()
    }

    /// Runs a statement behind the queue's back.
    pub(crate) async fn sql(&self, statement: String) {
        let mut connection = AnyConnection::connect(&self.location).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// A job with nothing special about it.
pub(crate) fn job(name: &str) -> NewJob {
    NewJob {
        name: name.into(),
        key: None,
        spec: format!("name = \"{name}\""),
        resolved: format!("{{\"name\":\"{name}\"}}"),
        spec_sha256: format!("hash of {name}"),
        priority: 0,
        max_attempts: 3,
        not_before: None,
        schedule: None,
        due: None,
        needs: Resources::default(),
    }
}

/// Asks for work until there is some.
pub(crate) async fn claim_soon(queue: &Queue, owner: &str, lease: Duration) -> (Lease, dpg_queue::Job) {
    for _ in 0..10_000 {
        if let Some(claimed) = queue.claim(owner, lease).await.unwrap() {
            return claimed;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no work for `{owner}`");
}

/// The kinds of a job's events, oldest first.
pub(crate) async fn history(queue: &Queue, job: uuid::Uuid) -> Vec<String> {
    queue.events(job, 0, 1000).await.unwrap().into_iter().map(|event| event.kind).collect()
}
