//! The clock of a running daemon is set by hours, forward and back.
//!
//! `clock.c` stands between the daemon and the clock.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use dpg_queue::{Filter, Queue, State};
use tempfile::TempDir;

use crate::serving::{Daemon, Place, spec};
use crate::{dpg, skip, succeed};

const HOUR: i64 = 3600;
/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(3);

/// A daemon's place whose clock can be set.
struct Clock {
    folder: TempDir,
    place: Place,
    file: PathBuf,
    /// Minutes that every setting adds, so that none shows a minute that an earlier one did.
    minutes: Cell<i64>,
}

impl Clock {
    fn new(config: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("clock.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/commands/clock.c");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl");
        let made = cfg!(target_os = "linux") && compile.status().is_ok_and(|status| status.success());
        if !made {
            skip::skip("there is no C compiler for Linux");
            return None;
        }
        let file = folder.path().join("ahead");
        let mut place = Place::new(folder.path(), config);
        place.environment = [("LD_PRELOAD", &library), ("DPG_TEST_CLOCK", &file)]
            .map(|(name, path)| (name.to_owned(), path.to_string_lossy().into_owned()))
            .into();
        let clock = Self { folder, place, file, minutes: Cell::new(0) };
        clock.set(0);
        Some(clock)
    }

    /// Sets it ahead of the right time by so many hours, and to 15 seconds before a full minute: the ticker needs some of them. Gives
    /// what it shows now.
    fn set(&self, hours: i64) -> DateTime<Utc> {
        self.minutes.set(self.minutes.get() + 2);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
        let ahead = hours * HOUR + self.minutes.get() * 60 + 45 - now % 60;
        let next = self.file.with_extension("next");
        fs::write(&next, ahead.to_string()).unwrap();
        fs::rename(&next, &self.file).unwrap();
        DateTime::from_timestamp(now + ahead, 0).unwrap()
    }

    async fn start(&self) -> (Daemon, Queue) {
        let queue = self.place.queue().await;
        let daemon = self.place.start();
        let started = Instant::now();
        while !self.folder.path().join("data/daemon.url").exists() {
            assert!(started.elapsed() < PATIENCE, "{}", daemon.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        (daemon, queue)
    }
}

/// The due times of a schedule's jobs, from one on.
async fn dues(queue: &Queue, schedule: &str, from: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let schedule = queue.schedule(schedule).await.unwrap().id;
    let filter = Filter { schedule: Some(schedule), ..Filter::default() };
    let jobs = queue.list(&filter, None, 500).await.unwrap().jobs;
    jobs.iter().filter_map(|job| job.due).filter(|due| *due >= from).collect()
}

/// Waits until a schedule has fired for one of the minutes after `set`.
async fn fires_after(queue: &Queue, daemon: &Daemon, schedule: &str, set: DateTime<Utc>) {
    let started = Instant::now();
    loop {
        let fired = dues(queue, schedule, set).await;
        // of hours that the clock showed before there may be later ones
        if fired.iter().any(|due| *due - set < TimeDelta::minutes(10)) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{schedule} is silent after {set}\n{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
#[ignore = "waits for minutes to come round; .ci/run runs it"]
async fn schedules_neither_stop_nor_repeat() {
    // no slots: the jobs wait in the queue
    let Some(clock) = Clock::new("") else { return };
    let config = clock.place.config.replace("[worker]", "[worker]\nslots = 0");
    let clock = Clock { place: Place { config, ..clock.place.clone() }, ..clock };
    let path = clock.folder.path();
    fs::write(path.join("spec.toml"), spec("clocked", 1)).unwrap();
    let add = |name: &str| {
        let policies = ["--cron", "* * * * *", "--overlap", "queue", "--catchup", "one"];
        succeed(dpg(path, &["schedule", "add", name, "spec.toml"]).args(policies));
    };
    clock.set(2);
    let (daemon, queue) = clock.start().await;
    add("before");
    let right = clock.set(0);
    add("after");
    for schedule in ["before", "after"] {
        fires_after(&queue, &daemon, schedule, right).await;
    }
    for hours in [5, 0] {
        let set = clock.set(hours);
        fires_after(&queue, &daemon, "before", set).await;
    }
    for schedule in ["before", "after"] {
        let all = dues(&queue, schedule, DateTime::UNIX_EPOCH).await;
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "{schedule} had {all:?}");
    }
}

#[tokio::test]
#[ignore = "waits for leases to run out; .ci/run runs it"]
async fn a_job_stays_with_its_worker() {
    let Some(clock) = Clock::new("") else { return };
    let config = clock.place.config.replace("[worker]", "[worker]\nslots = 2");
    let clock = Clock { place: Place { config, ..clock.place.clone() }, ..clock };
    let path = clock.folder.path();
    fs::write(
        path.join("spec.toml"),
        spec("long", 2000)
            .replace("[policy]", "[policy]\nlearning_rate = 1e-7")
            .replace("prompts_per_step = 2", "prompts_per_step = 64"),
    )
    .unwrap();
    let (mut daemon, queue) = clock.start().await;
    succeed(&mut dpg(path, &["submit", "spec.toml"]));
    let id = queue.find("long").await.unwrap().id;
    daemon.until_event(&queue, id, "steps").await;
    for hours in [5, -3, 0] {
        clock.set(hours);
        // longer than a lease, and than the silence after a jump
        tokio::time::sleep(Duration::from_secs(9)).await;
        let job = queue.job(id).await.unwrap();
        assert_eq!(
            (job.state, job.attempts, job.fence),
            (State::Running, 1, 1),
            "{hours} h: {}",
            daemon.log()
        );
    }
    // submitted under a clock that was ahead, a job does not wait for that time to come
    clock.set(4);
    fs::write(path.join("next.toml"), spec("next", 1)).unwrap();
    succeed(&mut dpg(path, &["cancel", "long"]));
    daemon.until(&queue, id, |job| job.state == State::Cancelled).await;
    succeed(&mut dpg(path, &["submit", "next.toml"]));
    clock.set(0);
    let next = queue.find("next").await.unwrap().id;
    let job = daemon.until(&queue, next, |job| job.state.has_ended()).await;
    assert_eq!((job.state, job.attempts), (State::Succeeded, 1), "{job:#?}");
}
