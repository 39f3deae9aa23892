//! Three daemons share one PostgreSQL and one bucket of a real S3 server. One of them is killed again
//! and again, and every job still ends once, with one sound version, from where it was interrupted.
//!
//! Meanwhile the database ends everybody's connections. Servers that fail are in `faults.rs`.
//!
//! `DPG_CHAOS_SECONDS` says for how long daemons are killed (30 by default), `DPG_CHAOS_JOBS` how many
//! jobs there are (40).

#[path = "../crates/queue/tests/conformance/postgres.rs"]
mod postgres;
mod s3;
mod serving;
mod skip;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dpg_queue::{Filter, Queue, State};
use dpg_registry::Registry;
use object_store::path::Path;
use serving::{Daemon, Place, job, spec};
use sqlx::{AnyConnection, Connection};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Below `limit`, from the system's generator.
fn random(limit: u64) -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1 % limit
}

/// What a restart of the database does to its clients.
async fn end_connections(database: &str) {
    let mut connection = AnyConnection::connect(database).await.unwrap();
    let statement = "select pg_terminate_backend(pid) from pg_stat_activity \
                     where datname = current_database() and pid <> pg_backend_pid()";
    sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "a story of a minute; .ci/run runs it"]
async fn every_job_ends_once_whoever_is_killed() {
    let Some(postgres) = postgres::server() else {
        return skip::skip("there is no PostgreSQL on this machine");
    };
    let (seconds, jobs) = (setting("DPG_CHAOS_SECONDS", 30), setting("DPG_CHAOS_JOBS", 40));
    let folder = tempfile::tempdir().unwrap();
    let server = s3::Server::start(&folder.path().join("s3"), 0).await;
    let database = postgres.new_database().await;
    let config = format!("database = \"{database}\"\nstore = \"s3://bucket/datasets\"\n");
    let queue = Queue::open(&database).await.unwrap();
    for number in 0..jobs {
        // two jobs make versions of the same dataset
        let steps = (6 + number % 4) * seconds / 30;
        let spec = spec(&format!("story-{}", number / 2), steps.max(2) as usize);
        queue.submit(&job(&spec, 100)).await.unwrap();
    }

    let start = |number: usize| {
        let mut place = Place::new(&folder.path().join(format!("daemon-{number}")), &config);
        place.environment = server.environment();
        place.start()
    };
    let mut daemons: Vec<Daemon> = (0..3).map(start).collect();
    let started = Instant::now();
    let mut kills = 0;
    let unfinished = async || loop {
        // its connections are ended too
        if let Ok(counts) = queue.counts().await {
            break counts.queued + counts.running;
        }
    };
    while unfinished().await > 0 {
        let killing = started.elapsed() < Duration::from_secs(seconds);
        if killing {
            tokio::time::sleep(Duration::from_millis(2000 + random(2000))).await;
            let victim = random(3) as usize;
            daemons[victim].replace();
            kills += 1;
            if random(3) == 0 {
                end_connections(&database).await;
            }
        } else {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let logs = || daemons.iter().map(Daemon::log).collect::<String>();
        assert!(started.elapsed() < Duration::from_secs(10 * seconds + 300), "unfinished jobs:\n{}", logs());
    }
    for daemon in &mut daemons {
        // one that was started just now does not listen to signals yet
        while !daemon.log().contains("dpg serves") {
            if daemon.has_ended() {
                daemon.replace();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(daemon.terminate().await.success(), "{}", daemon.log());
    }

    let ended = queue.list(&Filter::default(), None, 10_000).await.unwrap().jobs;
    assert_eq!(ended.len() as u64, jobs);
    let registry = Registry::new(server.bucket(), Path::from("datasets"), folder.path().join("key.pem"));
    let mut published = BTreeMap::new();
    for dataset in registry.datasets().await.unwrap() {
        for version in &dataset.versions {
            registry.verify(version).await.unwrap();
            let twice = published.insert(version.job.clone(), version.to_string());
            assert!(twice.is_none(), "{} is published twice", version.job);
        }
    }
    assert_eq!(published.len() as u64, jobs);
    let (mut interrupted, mut resumed) = (0, 0);
    for job in &ended {
        assert_eq!(job.state, State::Succeeded, "{job:#?}");
        let result = job.result.as_ref().unwrap();
        assert_eq!(result["dataset"], published[&job.id.to_string()]);
        let events = queue.events(job.id, 0, 10_000).await.unwrap();
        let count = |kind: &str| events.iter().filter(|event| event.kind == kind).count();
        assert_eq!(count("succeeded"), 1, "{events:#?}");
        interrupted += usize::from(count("lease_lost") > 0);
        resumed += usize::from(count("resumed") > 0);
    }
    println!(
        "{jobs} jobs in {:?}: {kills} kills, {interrupted} jobs interrupted, {resumed} resumed",
        started.elapsed()
    );
    assert!(
        interrupted > 0 && resumed > 0,
        "{kills} kills interrupted {interrupted} jobs, of which {resumed} resumed"
    );
}
