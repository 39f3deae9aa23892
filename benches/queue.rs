//! The queue's speed: 16 clients submit 10,000 jobs, then as many workers claim and complete them, on SQLite and, where it is installed, on PostgreSQL.
//! `cargo bench -p dpg-bench --bench queue`
//!
//! Both databases are durable here: a commit is on disk when it returns. `DPG_BENCH_JOBS` sets another
//! number of jobs.

#[path = "../crates/queue/tests/conformance/postgres.rs"]
mod postgres;

use std::time::{Duration, Instant};

use dpg_queue::{NewJob, Queue, Resources};
use sqlx::{AnyConnection, Connection};
use tokio::task::JoinSet;

const JOBS: usize = 10_000;
const WORKERS: usize = 16;
const LEASE: Duration = Duration::from_mins(10);

#[tokio::main]
async fn main() {
    let jobs = match std::env::var("DPG_BENCH_JOBS").map(|text| (text.parse(), text)) {
        Err(_) => JOBS,
        Ok((Ok(jobs), _)) => jobs,
        Ok((Err(_), text)) => {
            eprintln!("`DPG_BENCH_JOBS` is `{text}`; expected a number of jobs, as in `{JOBS}`");
            std::process::exit(2);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "{jobs} jobs, {WORKERS} clients and then {WORKERS} workers, {threads} threads; jobs per second\n"
    );
    println!("| database | submit | claim and complete |");
    println!("|:--|--:|--:|");
    let folder = tempfile::tempdir().unwrap();
    measure("SQLite", jobs, &Queue::sqlite(&folder.path().join("queue.db")).await.unwrap()).await;
    let Some(server) = postgres::server() else {
        return eprintln!("there is no PostgreSQL on this machine: its row is left out");
    };
    let database = server.new_database().await;
    sync_commits(&database).await;
    measure("PostgreSQL", jobs, &Queue::open(&database).await.unwrap()).await;
}

/// Tests go without; figures would be flattered.
async fn sync_commits(database: &str) {
    let mut connection = AnyConnection::connect(database).await.unwrap();
    for statement in ["alter system set fsync = on", "select pg_reload_conf()"] {
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    }
    // the setting reaches a session shortly after the call
    while sqlx::query_scalar::<_, String>("select current_setting('fsync')")
        .fetch_one(&mut connection)
        .await
        .unwrap()
        != "on"
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    connection.close().await.unwrap();
}

/// Prints the database's row of the table.
async fn measure(name: &str, jobs: usize, queue: &Queue) {
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..WORKERS {
        let queue = queue.clone();
        clients.spawn(async move {
            for number in (client..jobs).step_by(WORKERS) {
                queue.submit(&job(number)).await.unwrap();
            }
        });
    }
    clients.join_all().await;
    let submitted = jobs as f64 / started.elapsed().as_secs_f64();

    let started = Instant::now();
    let done = drain(queue).await;
    let worked = done as f64 / started.elapsed().as_secs_f64();
    let counts = queue.counts().await.unwrap();
    assert_eq!((done, counts.queued, counts.running), (jobs, 0, 0), "every job is claimed once");
    println!("| {name} | {submitted:.0} | {worked:.0} |");
}

/// Claims and completes until nothing is queued; how many it were.
async fn drain(queue: &Queue) -> usize {
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (queue, owner) = (queue.clone(), format!("worker-{worker}"));
        workers.spawn(async move {
            let mut done = 0;
            while let Some((lease, _)) = queue.claim(&owner, LEASE).await.unwrap() {
                queue.complete(&lease, "done".into()).await.unwrap();
                done += 1;
            }
            done
        });
    }
    workers.join_all().await.into_iter().sum()
}

fn job(number: usize) -> NewJob {
    let name = format!("dataset-{number}");
    NewJob {
        key: Some(format!("key-{number}")),
        // as long as a short one
        spec: "#".repeat(1000),
        resolved: "{}".into(),
        spec_sha256: name.clone(),
        name,
        priority: 0,
        max_attempts: 3,
        not_before: None,
        schedule: None,
        due: None,
        needs: Resources::default(),
    }
}
