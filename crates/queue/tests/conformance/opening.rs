//! Opening a database: new, again, by several at once, and one that is too new.

use dpg_queue::{Error, Queue};
use dpg_spec::Hint;

use crate::{Store, job, on_both};

on_both! {
    several_open_a_new_database_at_once,
    what_was_written_is_there_after_closing,
    a_newer_database_is_refused,
}

async fn several_open_a_new_database_at_once(store: Store) {
    let openings: Vec<_> = (0..8)
        .map(|_| {
            let location = store.location.clone();
            tokio::spawn(async move { Queue::open(&location).await })
        })
        .collect();
    for opening in openings {
        let queue = opening.await.unwrap().unwrap();
        queue.submit(&job("a")).await.unwrap();
    }
    assert_eq!(store.open().await.counts().await.unwrap().queued, 8);
}

async fn what_was_written_is_there_after_closing(store: Store) {
    let queue = store.open().await;
    let written = queue.submit(&job("a")).await.unwrap().job;
    queue.close().await;
    assert!(queue.now().await.is_err());
    for _ in 0..2 {
        assert_eq!(store.open().await.job(written.id).await.unwrap(), written);
    }
}

async fn a_newer_database_is_refused(store: Store) {
    store.open().await;
    store.sql("insert into dpg_migrations (version) values (99)".into()).await;
    match Queue::open(&store.location).await {
        Err(error @ Error::Newer { found: 99, .. }) => {
            assert!(error.told().contains("run a newer `dpg`"));
        }
        answer => panic!("{answer:?}"),
    }
    store.sql("delete from dpg_migrations where version = 99".into()).await;
    store.open().await;
}

#[tokio::test]
async fn a_location_is_a_file_or_a_url() {
    for location in ["", "queue.db", "sqlite:", "mysql://user:hunter2@host/db"] {
        let error = Queue::open(location).await.unwrap_err();
        assert!(matches!(error, Error::Location { .. }));
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a b%20?mode=ro#c.db");
    Queue::sqlite(&path).await.unwrap().submit(&job("a")).await.unwrap();
    assert!(path.exists());
    let missing = Queue::sqlite(&folder.path().join("no/such/folder/queue.db")).await;
    assert!(matches!(missing, Err(Error::Database(_))));
}
