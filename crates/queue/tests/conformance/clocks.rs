//! The database's clock is set while all runs. Here what was written is moved instead, which is the same
//! but for the clock itself: `clock.rs` has that.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use dpg_queue::cron::{Catchup, Overlap};
use dpg_queue::{Failure, NewSchedule, Order, Queue};

use crate::{LONG, Store, claim_soon, job, on_both};

on_both! {
    set_back_a_queued_job_does_not_wait,
    set_back_a_lease_is_renewed_or_runs_out,
    set_back_a_schedule_goes_on_and_repeats_nothing,
}

/// As if the clock had been set back by so many hours.
async fn set_back(store: &Store, hours: i64) {
    let by = hours * 3_600_000;
    let moved = ["created", "updated", "not_before", "lease_until", "finished"]
        .map(|column| format!("{column} = {column} + {by}"));
    store.sql(format!("update jobs set {}", moved.join(", "))).await;
}

async fn set_back_a_queued_job_does_not_wait(store: Store) {
    let queue = store.open().await;
    let submitted = queue.submit(&job("a")).await.unwrap().job;
    set_back(&store, 2).await;
    let (lease, claimed) = queue.claim("w", LONG).await.unwrap().unwrap();
    assert_eq!(claimed.id, submitted.id);
    let lasts = claimed.lease_until.unwrap() - queue.now().await.unwrap();
    assert!(lasts <= TimeDelta::from_std(LONG).unwrap(), "{lasts}");
    // the wait before the next attempt is of the present
    let again = Failure::Transient { delay: LONG };
    let failed = queue.fail(&lease, "the store is away", again).await.unwrap();
    assert_eq!(failed.not_before - failed.updated, TimeDelta::hours(1));
    assert_eq!(queue.claim("w", LONG).await.unwrap(), None);
    // and one of before the clock was set is not kept
    set_back(&store, 2).await;
    assert!(queue.claim("w", LONG).await.unwrap().is_some());
}

async fn set_back_a_lease_is_renewed_or_runs_out(store: Store) {
    let queue = store.open().await;
    for name in ["alive", "dead"] {
        queue.submit(&job(name)).await.unwrap();
    }
    let (alive, _) = claim_soon(&queue, "w", LONG).await;
    let (dead, _) = claim_soon(&queue, "w", LONG).await;
    set_back(&store, 5).await;
    assert_eq!(queue.heartbeat(&alive, LONG).await.unwrap(), Order::Continue);
    // whoever asks for work lets the other begin anew, by its own measure
    assert_eq!(queue.claim("other", Duration::from_secs(1)).await.unwrap(), None);
    let (taken, _) = claim_soon(&queue, "other", LONG).await;
    assert_eq!((taken.job, taken.fence), (dead.job, dead.fence + 1));
    assert_eq!(queue.heartbeat(&alive, LONG).await.unwrap(), Order::Continue);
    assert_eq!(queue.job(alive.job).await.unwrap().attempts, 1);
}

/// What a daemon does every second, at `now`: the due times it made jobs for.
async fn tick(queue: &Queue, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let schedule = queue.schedule("often").await.unwrap();
    let Some(due) = schedule.due(now, Duration::from_mins(1)).unwrap() else { return vec![] };
    let jobs = queue.advance(&schedule, &due, &job("a")).await.unwrap().unwrap_or_default();
    jobs.into_iter().filter_map(|job| job.due).collect()
}

async fn set_back_a_schedule_goes_on_and_repeats_nothing(store: Store) {
    let queue = store.open().await;
    let schedule = NewSchedule {
        name: "often".into(),
        cron: "*/10 * * * *".into(),
        time_zone: "UTC".into(),
        spec: String::new(),
        overlap: Overlap::Queue,
        catchup: Catchup::One,
        jitter: Duration::ZERO,
        priority: 0,
        max_attempts: 1,
    };
    queue.put_schedule(&schedule).await.unwrap();
    let at = |text: &str| -> DateTime<Utc> { format!("2126-05-01T{text}:00Z").parse().unwrap() };
    store.sql(format!("update schedules set cursor_at = {}", at("11:55").timestamp_millis())).await;
    let mut fired = Vec::new();
    // right, two hours ahead, right again, an hour behind, right again
    let clock = ["12:00", "12:01", "14:02", "14:10", "12:11", "12:12", "12:20", "11:21", "11:30", "11:50"];
    for now in clock.into_iter().chain(["12:00", "12:24", "12:30", "13:50", "14:00", "14:10", "14:20"]) {
        fired.extend(tick(&queue, at(now)).await);
    }
    let expected = ["12:00", "14:00", "14:10", "12:20", "11:30", "11:50", "12:30", "13:50", "14:20"].map(at);
    assert_eq!(fired, expected);
    assert_eq!(queue.counts().await.unwrap().queued, expected.len() as i64);
    let upcoming = queue.schedule("often").await.unwrap().upcoming(at("12:31"), 1).unwrap();
    assert_eq!(upcoming, [at("12:40")], "whatever its cursor");
}
