//! What daemons stand on fails while jobs run: PostgreSQL is restarted and crashes, and the S3 server
//! refuses, forgets to answer, breaks off and is slow. Every job ends once, with one sound version.

#[path = "../crates/queue/tests/conformance/postgres.rs"]
mod postgres;
mod s3;
mod serving;
mod skip;

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dpg_queue::{Counts, Filter, Queue, State};
use dpg_registry::Registry;
use object_store::path::Path;
use serving::{Daemon, Place, job, spec};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(5);

/// Two jobs each make a version of one dataset.
async fn submit(queue: &Queue, jobs: usize, steps: usize) {
    for number in 0..jobs {
        queue.submit(&job(&spec(&format!("story-{}", number / 2), steps), 100)).await.unwrap();
    }
}

/// Waits until the queue is as wanted. The database may be away.
async fn until(queue: &Queue, daemons: &mut [Daemon], wanted: impl Fn(&Counts) -> bool) {
    let started = Instant::now();
    loop {
        match queue.counts().await {
            Ok(counts) if wanted(&counts) => return,
            counts => {
                // one that loses its database at its start ends, and a service manager starts it again
                for daemon in daemons.iter_mut().filter_map(|daemon| daemon.has_ended().then_some(daemon)) {
                    daemon.replace();
                }
                let logs = || daemons.iter().map(Daemon::log).collect::<String>();
                assert!(started.elapsed() < PATIENCE, "waiting with {counts:?}\n{}", logs());
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Stops the daemons, and asserts that every job ended once with one version that passes its hashes.
async fn assert_each_published_once(
    queue: &Queue,
    server: &s3::Server,
    folder: &FilePath,
    daemons: &mut [Daemon],
) {
    for daemon in daemons.iter_mut() {
        assert!(daemon.terminate().await.success(), "{}", daemon.log());
    }
    let registry = Registry::new(server.bucket(), Path::from("datasets"), folder.join("key.pem"));
    let mut published = BTreeMap::new();
    for dataset in registry.datasets().await.unwrap() {
        for version in &dataset.versions {
            registry.verify(version).await.unwrap();
            let twice = published.insert(version.job.clone(), version.to_string());
            assert!(twice.is_none(), "{} is published twice", version.job);
        }
    }
    let ended = queue.list(&Filter::default(), None, 1000).await.unwrap().jobs;
    for job in &ended {
        assert_eq!(job.state, State::Succeeded, "{job:#?}");
        assert_eq!(job.result.as_ref().unwrap()["dataset"], published[&job.id.to_string()]);
        let events = queue.events(job.id, 0, 1000).await.unwrap();
        let ends = events.iter().filter(|event| event.kind == "succeeded").count();
        assert_eq!(ends, 1, "{events:#?}");
    }
    assert_eq!(published.len(), ended.len(), "{published:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "waits for a server to stop and start; .ci/run runs it"]
async fn a_database_that_restarts_loses_nothing() {
    let Some(postgres) = postgres::server() else {
        return skip::skip("there is no PostgreSQL on this machine");
    };
    let folder = tempfile::tempdir().unwrap();
    let server = s3::Server::start(&folder.path().join("s3"), 0).await;
    let database = postgres.new_database().await;
    let queue = Queue::open(&database).await.unwrap();
    submit(&queue, 8, 6).await;
    let config = format!("database = \"{database}\"\nstore = \"s3://bucket/datasets\"\n");
    let start = |number: usize| {
        let mut place = Place::new(&folder.path().join(format!("daemon-{number}")), &config);
        place.environment = server.environment();
        place.start()
    };
    let mut daemons: Vec<Daemon> = (0..2).map(start).collect();
    for (restart, mode) in ["fast", "immediate", "fast", "immediate"].into_iter().enumerate() {
        // something new has ended since the last one, and something runs
        until(&queue, &mut daemons, |counts| counts.running > 0 && counts.succeeded as usize >= restart)
            .await;
        postgres.restart(mode);
    }
    until(&queue, &mut daemons, |counts| counts.succeeded == 8).await;
    assert_each_published_once(&queue, &server, folder.path(), &mut daemons).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_fails_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = s3::Server::start(&folder.path().join("s3"), 0).await;
    let mut place = Place::new(folder.path(), "store = \"s3://bucket/datasets\"\n");
    place.environment = server.environment();
    let queue = place.queue().await;
    submit(&queue, 4, 4).await;
    let mut daemons = [place.start()];
    // the check of the store at the start refuses one that loses so many answers
    until(&queue, &mut daemons, |counts| counts.running > 0).await;
    // a tenth of the requests
    server.service.faults.store(50, Ordering::Relaxed);
    until(&queue, &mut daemons, |counts| counts.succeeded == 4).await;
    server.service.faults.store(0, Ordering::Relaxed);
    assert_each_published_once(&queue, &server, folder.path(), &mut daemons).await;
    let met = server.service.met.load(Ordering::Relaxed);
    println!("{met} requests met a fault");
    assert!(met > 0, "the store never failed");
}
