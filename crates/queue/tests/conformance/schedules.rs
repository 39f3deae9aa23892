//! Schedules: kept, fired once for each due time, under their policies, through nights and downtime.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use dpg_queue::cron::{Catchup, Overlap};
use dpg_queue::{Error, Filter, Job, NewSchedule, Order, Queue, Schedule, State};
use serde_json::json;

use crate::{LONG, Store, claim_soon, job, on_both};

on_both! {
    schedules_are_kept_changed_and_deleted,
    racing_daemons_fire_each_due_time_once,
    nights_when_the_clocks_change,
    missed_times_under_each_catchup,
    a_live_job_under_each_overlap,
    run_now_leaves_the_due_times_alone,
    a_paused_schedule_forgets_what_it_missed,
    an_edit_between_look_and_move_is_not_overrun,
}

fn utc(text: &str) -> DateTime<Utc> {
    format!("{text}:00Z").parse().unwrap()
}

fn daily(overlap: Overlap, catchup: Catchup) -> NewSchedule {
    NewSchedule {
        name: "nightly".into(),
        cron: "30 2 * * *".into(),
        time_zone: "Europe/Berlin".into(),
        spec: "name = \"a\"".into(),
        overlap,
        catchup,
        jitter: Duration::ZERO,
        priority: 4,
        max_attempts: 2,
    }
}

/// Makes the schedule as if it had been dealt with up to `cursor`, and no later time had had its job.
async fn put(store: &Store, queue: &Queue, new: &NewSchedule, cursor: &str) -> Schedule {
    queue.put_schedule(new).await.unwrap();
    let millis = utc(cursor).timestamp_millis();
    store.sql(format!("update schedules set cursor_at = {millis}; update jobs set due = null")).await;
    queue.schedule(&new.name).await.unwrap()
}

/// What a daemon does every few seconds: the jobs it submitted.
async fn tick(queue: &Queue, now: DateTime<Utc>) -> Vec<Job> {
    let mut submitted = Vec::new();
    for schedule in queue.schedules().await.unwrap() {
        if let Some(due) = schedule.due(now, Duration::from_mins(5)).unwrap() {
            submitted.extend(queue.advance(&schedule, &due, &job("a")).await.unwrap().unwrap_or_default());
        }
    }
    submitted
}

fn dues(jobs: &[Job]) -> Vec<DateTime<Utc>> {
    jobs.iter().filter_map(|job| job.due).collect()
}

async fn schedules_are_kept_changed_and_deleted(store: Store) {
    let queue = store.open().await;
    let new = NewSchedule { jitter: Duration::from_mins(7), ..daily(Overlap::Skip, Catchup::One) };
    let before = queue.now().await.unwrap();
    let made = queue.put_schedule(&new).await.unwrap();
    assert_eq!((&made.name, &made.cron, &made.time_zone), (&new.name, &new.cron, &new.time_zone));
    assert_eq!((&made.spec, made.jitter, made.priority, made.max_attempts), (&new.spec, new.jitter, 4, 2));
    assert_eq!((made.overlap, made.catchup, made.paused), (Overlap::Skip, Catchup::One, None));
    assert!(made.cursor >= before, "what was due before it was made is not missed");
    assert_eq!(store.open().await.schedules().await.unwrap(), std::slice::from_ref(&made));

    // An edit keeps the id, and the cursor unless the times change.
    let made = put(&store, &queue, &new, "2026-01-01T00:00").await;
    let edited = queue.put_schedule(&NewSchedule { priority: 9, ..new.clone() }).await.unwrap();
    assert_eq!((edited.id, edited.cursor, edited.priority), (made.id, made.cursor, 9));
    let moved = queue.put_schedule(&NewSchedule { cron: "0 4 * * *".into(), ..new.clone() }).await.unwrap();
    assert_eq!(moved.id, made.id);
    assert!(moved.cursor >= before, "times that were never promised are not missed");

    let five = moved.upcoming(utc("2027-03-26T12:00"), 5).unwrap();
    let expected = ["27T03:00", "28T02:00", "29T02:00", "30T02:00", "31T02:00"];
    assert_eq!(five, expected.map(|day| utc(&format!("2027-03-{day}"))), "04:00 in Berlin");

    let other = NewSchedule { name: "an-other".into(), ..new.clone() };
    queue.put_schedule(&other).await.unwrap();
    let names: Vec<_> = queue.schedules().await.unwrap().into_iter().map(|schedule| schedule.name).collect();
    assert_eq!(names, ["an-other", "nightly"]);
    assert_eq!(queue.delete_schedule("nightly").await.unwrap(), moved);
    for gone in [queue.schedule("nightly").await, queue.pause_schedule("nightly").await] {
        assert!(matches!(gone, Err(Error::NotFound { what: "schedule", .. })));
    }
    let bad = queue.put_schedule(&NewSchedule { cron: "61 * * * *".into(), ..new.clone() }).await;
    assert!(matches!(bad, Err(Error::Cron { .. })));
    let bad = queue.put_schedule(&NewSchedule { time_zone: "Berlin".into(), ..new }).await;
    assert!(matches!(bad, Err(Error::TimeZone { .. })));
}

async fn racing_daemons_fire_each_due_time_once(store: Store) {
    let queues = [store.open().await, store.open().await];
    let new = NewSchedule { cron: "*/5 * * * *".into(), ..daily(Overlap::Queue, Catchup::All) };
    put(&store, &queues[0], &new, "2026-05-01T00:00").await;
    for round in 1..=12 {
        let now = utc("2026-05-01T00:00") + TimeDelta::minutes(5 * round);
        let daemons: Vec<_> = (0..8)
            .map(|index| {
                let queue = queues[index % 2].clone();
                tokio::spawn(async move { tick(&queue, now).await })
            })
            .collect();
        let mut fired = Vec::new();
        for daemon in daemons {
            fired.extend(daemon.await.unwrap());
        }
        assert_eq!(dues(&fired), [now]);
    }
    let jobs = queues[0].list(&Filter::default(), None, 100).await.unwrap().jobs;
    assert_eq!(jobs.len(), 12);
    assert!(jobs.iter().all(|job| job.schedule.is_some() && job.priority == 4 && job.max_attempts == 2));
}

async fn nights_when_the_clocks_change(store: Store) {
    // 02:30 in Berlin, on the day before the night, in the night, and on the day after.
    let spring = ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"];
    let autumn = ["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"];
    for (start, expected) in [("2026-03-27T12:00", spring), ("2026-10-23T12:00", autumn)] {
        let queue = store.open().await;
        put(&store, &queue, &daily(Overlap::Queue, Catchup::All), start).await;
        let mut fired = Vec::new();
        for quarter in 0..4 * 72 {
            fired.extend(tick(&queue, utc(start) + TimeDelta::minutes(15 * quarter)).await);
        }
        assert_eq!(dues(&fired), expected.map(utc));
        // A daemon that slept through the night and wakes the next noon finds the same.
        let restarted = store.open().await;
        put(&store, &restarted, &daily(Overlap::Queue, Catchup::All), start).await;
        assert_eq!(dues(&tick(&restarted, utc(start) + TimeDelta::days(3)).await), expected.map(utc));
    }
}

async fn missed_times_under_each_catchup(store: Store) {
    let missed = ["2026-05-02T00:30", "2026-05-03T00:30", "2026-05-04T00:30"].map(utc);
    for (catchup, expected) in
        [(Catchup::None, &missed[..0]), (Catchup::One, &missed[2..]), (Catchup::All, &missed[..])]
    {
        let queue = store.open().await;
        put(&store, &queue, &daily(Overlap::Queue, catchup), "2026-05-01T12:00").await;
        assert_eq!(dues(&tick(&queue, utc("2026-05-04T12:00")).await), expected, "{catchup}");
        assert_eq!(tick(&queue, utc("2026-05-04T12:01")).await, [], "{catchup} once");
        let next = dues(&tick(&queue, utc("2026-05-05T00:31")).await);
        assert_eq!(next, [utc("2026-05-05T00:30")], "{catchup} goes on");
    }
}

async fn a_live_job_under_each_overlap(store: Store) {
    let queue = store.open().await;
    let (second, third) = (utc("2026-05-03T00:30"), utc("2026-05-04T00:30"));

    put(&store, &queue, &daily(Overlap::Skip, Catchup::One), "2026-05-01T12:00").await;
    assert_eq!(tick(&queue, utc("2026-05-02T00:30")).await.len(), 1);
    assert_eq!(tick(&queue, second).await, [], "the first is queued");
    let (lease, _) = claim_soon(&queue, "w", LONG).await;
    assert_eq!(tick(&queue, third).await, [], "the first runs");
    queue.complete(&lease, json!({})).await.unwrap();
    assert_eq!(tick(&queue, third + TimeDelta::days(1)).await.len(), 1);
    let (lease, _) = claim_soon(&queue, "w", LONG).await;
    queue.complete(&lease, json!({})).await.unwrap();

    put(&store, &queue, &daily(Overlap::Queue, Catchup::One), "2026-05-01T12:00").await;
    for now in [utc("2026-05-02T00:30"), second, third] {
        assert_eq!(tick(&queue, now).await.len(), 1);
    }
    for due in [utc("2026-05-02T00:30"), second, third] {
        let (lease, running) = claim_soon(&queue, "w", LONG).await;
        assert_eq!(running.due, Some(due));
        assert_eq!(queue.claim("another", LONG).await.unwrap(), None, "one after the other");
        queue.complete(&lease, json!({})).await.unwrap();
    }
    // An older job that is retried waits for a newer one that runs.
    let older = tick(&queue, third + TimeDelta::days(1)).await.remove(0);
    queue.cancel(older.id).await.unwrap();
    assert_eq!(tick(&queue, third + TimeDelta::days(2)).await.len(), 1);
    let (lease, _) = claim_soon(&queue, "w", LONG).await;
    queue.retry(older.id).await.unwrap();
    assert_eq!(queue.claim("another", LONG).await.unwrap(), None, "the newer one runs");
    queue.complete(&lease, json!({})).await.unwrap();
    let (lease, retried) = claim_soon(&queue, "w", LONG).await;
    assert_eq!(retried.id, older.id);
    queue.complete(&lease, json!({})).await.unwrap();

    put(&store, &queue, &daily(Overlap::Replace, Catchup::One), "2026-05-01T12:00").await;
    assert_eq!(tick(&queue, utc("2026-05-02T00:30")).await.len(), 1);
    let (lease, running) = claim_soon(&queue, "w", LONG).await;
    let waiting = tick(&queue, second).await.remove(0);
    assert_eq!(queue.heartbeat(&lease, LONG).await.unwrap(), Order::Cancel);
    let newest = tick(&queue, third).await.remove(0);
    assert_eq!(queue.job(waiting.id).await.unwrap().state, State::Cancelled);
    assert_eq!(queue.claim("another", LONG).await.unwrap(), None, "the first has not stopped yet");
    queue.cancelled(&lease).await.unwrap();
    assert_eq!(queue.job(running.id).await.unwrap().state, State::Cancelled);
    assert_eq!(claim_soon(&queue, "another", LONG).await.1.id, newest.id);
}

async fn run_now_leaves_the_due_times_alone(store: Store) {
    let queue = store.open().await;
    put(&store, &queue, &daily(Overlap::Skip, Catchup::One), "2026-05-01T12:00").await;
    let paused = queue.pause_schedule("nightly").await.unwrap();
    let extra = queue.run_schedule(&paused, &job("a")).await.unwrap();
    assert_eq!((extra.schedule, extra.due, extra.priority), (Some(paused.id), None, 4));
    assert_eq!(queue.schedule("nightly").await.unwrap(), paused);
    let second = queue.run_schedule(&paused, &job("a")).await.unwrap();
    let (lease, first) = claim_soon(&queue, "w", LONG).await;
    assert_eq!(first.id, extra.id);
    assert_eq!(queue.claim("w", LONG).await.unwrap(), None, "it waits for the first");
    queue.complete(&lease, json!({})).await.unwrap();
    assert_eq!(claim_soon(&queue, "w", LONG).await.1.id, second.id);

    queue.put_schedule(&daily(Overlap::Replace, Catchup::One)).await.unwrap();
    let replacing = queue.schedule("nightly").await.unwrap();
    queue.run_schedule(&replacing, &job("a")).await.unwrap();
    assert!(queue.job(second.id).await.unwrap().cancel_requested.is_some());
}

async fn a_paused_schedule_forgets_what_it_missed(store: Store) {
    let queue = store.open().await;
    put(&store, &queue, &daily(Overlap::Queue, Catchup::All), "2026-05-01T12:00").await;
    let paused = queue.pause_schedule("nightly").await.unwrap();
    assert!(paused.paused.is_some());
    assert_eq!(queue.pause_schedule("nightly").await.unwrap().paused, paused.paused, "again is no news");
    assert_eq!(tick(&queue, utc("2026-05-04T12:00")).await, []);
    let edited = queue.put_schedule(&daily(Overlap::Skip, Catchup::All)).await.unwrap();
    assert_eq!(edited.paused, paused.paused, "an edit does not resume it");
    let before = queue.now().await.unwrap();
    let resumed = queue.resume_schedule("nightly").await.unwrap();
    assert_eq!(resumed.paused, None);
    assert!(resumed.cursor >= before);
    let again = queue.resume_schedule("nightly").await.unwrap();
    assert_eq!(again.cursor, resumed.cursor, "resuming what is not paused skips nothing");
}

async fn an_edit_between_look_and_move_is_not_overrun(store: Store) {
    let queue = store.open().await;
    let now = utc("2026-05-02T12:00");
    let changes: [fn(&mut NewSchedule); 2] = [|new| new.spec = "changed".into(), |new| new.priority = 1];
    for change in changes {
        let mut new = daily(Overlap::Queue, Catchup::One);
        let read = put(&store, &queue, &new, "2026-05-01T12:00").await;
        let due = read.due(now, Duration::ZERO).unwrap().unwrap();
        // Edits are told apart by their millisecond.
        while queue.now().await.unwrap() <= read.updated {}
        change(&mut new);
        queue.put_schedule(&new).await.unwrap();
        assert_eq!(queue.advance(&read, &due, &job("a")).await.unwrap(), None);
    }
    let read = queue.schedule("nightly").await.unwrap();
    let due = read.due(now, Duration::ZERO).unwrap().unwrap();
    queue.pause_schedule("nightly").await.unwrap();
    assert_eq!(queue.advance(&read, &due, &job("a")).await.unwrap(), None);
    queue.delete_schedule("nightly").await.unwrap();
    assert_eq!(queue.advance(&read, &due, &job("a")).await.unwrap(), None);
    assert_eq!(queue.counts().await.unwrap().queued, 0);
}
