//! What workers may do, when they die, and how attempts are counted.

use std::collections::HashSet;
use std::time::Duration;

use dpg_queue::{Error, Failure, Lease, NewJob, Order, Queue, State, backoff};
use serde_json::json;

use crate::{LONG, SHORT, Store, claim_soon, history, job, on_both};

const AGAIN: Failure = Failure::Transient { delay: Duration::ZERO };

on_both! {
    racing_workers_get_different_jobs,
    a_heartbeat_keeps_the_lease,
    another_worker_takes_over_and_late_writes_are_refused,
    a_job_is_finished_once,
    a_transient_failure_waits_and_a_permanent_one_ends,
    a_job_out_of_attempts_is_dead_until_retried,
    a_job_that_kills_its_workers_is_dead_too,
    a_job_given_back_keeps_its_attempt,
    progress_and_errors_are_kept_as_said,
    lost_connections_are_transient,
}

async fn racing_workers_get_different_jobs(store: Store) {
    let queues = [store.open().await, store.open().await];
    for _ in 0..40 {
        queues[0].submit(&job("a")).await.unwrap();
    }
    let workers: Vec<_> = (0..8)
        .map(|index| {
            let queue = queues[index % 2].clone();
            tokio::spawn(async move {
                let mut claimed = Vec::new();
                while let Some((lease, job)) = queue.claim(&format!("w{index}"), LONG).await.unwrap() {
                    assert_eq!((lease.fence, job.attempts, job.state), (1, 1, State::Running));
                    assert_eq!(job.owner, Some(format!("w{index}")));
                    claimed.push(lease.job);
                }
                claimed
            })
        })
        .collect();
    let mut claimed = Vec::new();
    for worker in workers {
        claimed.extend(worker.await.unwrap());
    }
    assert_eq!(claimed.len(), 40);
    assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), 40);
}

async fn a_heartbeat_keeps_the_lease(store: Store) {
    let queue = store.open().await;
    queue.submit(&job("a")).await.unwrap();
    let (lease, claimed) = claim_soon(&queue, "w", SHORT).await;
    // The lease has run out, but no one has taken the job: it can still be renewed.
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(queue.heartbeat(&lease, LONG).await.unwrap(), Order::Continue);
    assert_eq!(queue.claim("other", LONG).await.unwrap(), None);
    let renewed = queue.job(lease.job).await.unwrap();
    assert!(renewed.lease_until.unwrap() - claimed.lease_until.unwrap() > chrono::TimeDelta::minutes(59));
    assert_eq!((renewed.fence, renewed.attempts), (1, 1));
    assert_eq!(history(&queue, lease.job).await, ["submitted", "claimed"], "heartbeats are not news");
}

async fn another_worker_takes_over_and_late_writes_are_refused(store: Store) {
    let (first, second) = (store.open().await, store.open().await);
    let id = first.submit(&job("a")).await.unwrap().job.id;
    let (old, _) = claim_soon(&first, "first", SHORT).await;
    let (new, taken) = claim_soon(&second, "second", LONG).await;
    assert_eq!((new.job, new.fence, taken.attempts), (id, 2, 2));
    assert_eq!(taken.owner.as_deref(), Some("second"));
    assert!(taken.error.unwrap().contains("`first` stopped renewing"));

    all_writes_are_refused(&first, &old).await;
    assert_eq!(second.heartbeat(&new, LONG).await.unwrap(), Order::Continue);
    second.complete(&new, json!({"version": 4})).await.unwrap();
    all_writes_are_refused(&first, &old).await;
    let ended = first.job(id).await.unwrap();
    assert_eq!((ended.state, ended.result), (State::Succeeded, Some(json!({"version": 4}))));
    assert_eq!((ended.progress, ended.error), (None, None));
    let expected = ["submitted", "claimed", "lease_lost", "claimed", "succeeded"];
    assert_eq!(history(&first, id).await, expected);
}

async fn all_writes_are_refused(queue: &Queue, lease: &Lease) {
    let lost = |answer: Result<(), Error>| {
        assert!(matches!(answer, Err(Error::LeaseLost { job, fence: 1 }) if job == lease.job), "{answer:?}");
    };
    lost(queue.heartbeat(lease, LONG).await.map(drop));
    lost(queue.progress(lease, json!({"step": 9})).await);
    lost(queue.event(lease, "step", json!({})).await);
    lost(queue.complete(lease, json!({"version": 3})).await.map(drop));
    lost(queue.fail(lease, "late", Failure::Permanent).await.map(drop));
    lost(queue.release(lease).await.map(drop));
    lost(queue.cancelled(lease).await.map(drop));
}

async fn a_job_is_finished_once(store: Store) {
    let queue = store.open().await;
    let id = queue.submit(&job("a")).await.unwrap().job.id;
    let (lease, _) = claim_soon(&queue, "w", LONG).await;
    let ended = queue.complete(&lease, json!({"version": 1})).await.unwrap();
    assert!(ended.finished.is_some() && ended.lease_until.is_none());
    // A worker that did not hear the answer says it again.
    assert_eq!(queue.complete(&lease, json!({"version": 1})).await.unwrap(), ended);
    assert_eq!(history(&queue, id).await, ["submitted", "claimed", "succeeded"]);
    assert!(matches!(queue.fail(&lease, "no", AGAIN).await, Err(Error::LeaseLost { .. })));
    assert_eq!(queue.claim("w", LONG).await.unwrap(), None);
}

async fn a_transient_failure_waits_and_a_permanent_one_ends(store: Store) {
    let queue = store.open().await;
    queue.submit(&job("a")).await.unwrap();
    let (lease, _) = claim_soon(&queue, "w", LONG).await;
    let failed = queue.fail(&lease, "the store is away", Failure::Transient { delay: LONG }).await.unwrap();
    assert_eq!((failed.state, failed.attempts, failed.finished), (State::Queued, 1, None));
    assert_eq!(failed.not_before - failed.updated, chrono::TimeDelta::hours(1));
    assert_eq!(failed.error.as_deref(), Some("the store is away"));
    assert_eq!(queue.claim("w", LONG).await.unwrap(), None, "not before its time");
    queue.cancel(lease.job).await.unwrap();

    queue.submit(&job("b")).await.unwrap();
    let (lease, _) = claim_soon(&queue, "w", LONG).await;
    let failed = queue.fail(&lease, "no such model", Failure::Permanent).await.unwrap();
    assert_eq!((failed.state, failed.attempts), (State::Failed, 1), "though two attempts are left");
    assert!(failed.finished.is_some());
    assert_eq!(queue.claim("w", LONG).await.unwrap(), None);

    let waits: Vec<_> = [1, 2, 3, 9, 10, 4_000_000].map(|attempts| backoff(attempts).as_secs()).into();
    assert_eq!(waits, [10, 20, 40, 2560, 3600, 3600]);
}

async fn a_job_out_of_attempts_is_dead_until_retried(store: Store) {
    let queue = store.open().await;
    let id = queue.submit(&job("a")).await.unwrap().job.id;
    for attempt in 1..=3 {
        let (lease, claimed) = claim_soon(&queue, "w", LONG).await;
        assert_eq!(claimed.attempts, attempt);
        let failed = queue.fail(&lease, &format!("broke {attempt}"), AGAIN).await.unwrap();
        assert_eq!(failed.state == State::Failed, attempt == 3);
    }
    assert_eq!(queue.claim("w", LONG).await.unwrap(), None);
    assert_eq!(queue.job(id).await.unwrap().error.as_deref(), Some("broke 3"));

    let again = queue.retry(id).await.unwrap();
    assert_eq!((again.state, again.attempts, again.finished), (State::Queued, 0, None));
    let (lease, claimed) = claim_soon(&queue, "w", LONG).await;
    assert_eq!((claimed.attempts, lease.fence), (1, 4), "attempts start anew, the fence does not");
    let ended = queue.complete(&lease, json!({"version": 1})).await.unwrap();
    assert_eq!((ended.state, ended.error), (State::Succeeded, None));
}

async fn a_job_that_kills_its_workers_is_dead_too(store: Store) {
    let queue = store.open().await;
    let id = queue.submit(&NewJob { max_attempts: 2, ..job("poison") }).await.unwrap().job.id;
    for attempt in 1..=2 {
        let (_, claimed) = claim_soon(&queue, &format!("w{attempt}"), SHORT).await;
        assert_eq!(claimed.attempts, attempt);
    }
    while queue.job(id).await.unwrap().state == State::Running {
        assert_eq!(queue.claim("w3", SHORT).await.unwrap(), None, "no third worker gets it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let dead = queue.job(id).await.unwrap();
    assert_eq!((dead.state, dead.attempts), (State::Failed, 2));
    let error = dead.error.unwrap();
    assert!(error.contains("`w2`") && error.contains("attempt 2"), "{error}");
    assert!(dead.finished.is_some());
    queue.retry(id).await.unwrap();
    assert_eq!(claim_soon(&queue, "w4", LONG).await.1.attempts, 1);
}

async fn a_job_given_back_keeps_its_attempt(store: Store) {
    let queue = store.open().await;
    queue.submit(&NewJob { max_attempts: 1, ..job("a") }).await.unwrap();
    for fence in 1..=3 {
        let (lease, claimed) = claim_soon(&queue, "w", LONG).await;
        assert_eq!((claimed.attempts, lease.fence), (1, fence));
        let given_back = queue.release(&lease).await.unwrap();
        assert_eq!((given_back.state, given_back.attempts), (State::Queued, 0));
        assert!(matches!(queue.heartbeat(&lease, LONG).await, Err(Error::LeaseLost { .. })));
    }
}

async fn progress_and_errors_are_kept_as_said(store: Store) {
    let queue = store.open().await;
    let id = queue.submit(&job("a")).await.unwrap().job.id;
    let (lease, _) = claim_soon(&queue, "w", LONG).await;
    for step in [1, 2] {
        let progress = json!({"step": step, "steps": 240, "phi": -1.25e-7, "eta": null, "note": "π ≈ 3"});
        queue.progress(&lease, progress.clone()).await.unwrap();
        assert_eq!(queue.job(id).await.unwrap().progress, Some(progress));
    }
    assert_eq!(history(&queue, id).await.len(), 2, "progress is not history");
    let error = format!("panicked at 'a\0b'\n{}", "x".repeat(100_000));
    let failed = queue.fail(&lease, &error, Failure::Permanent).await.unwrap();
    assert_eq!(failed.error, Some(error.replace('\0', "\u{fffd}")));
    assert_eq!(queue.job(id).await.unwrap(), failed);
}

/// The server drops every connection; whoever asks again is served.
async fn lost_connections_are_transient(store: Store) {
    let queue = store.open().await;
    queue.submit(&job("a")).await.unwrap();
    let (lease, _) = claim_soon(&queue, "w", LONG).await;
    if store.location.starts_with("postgres") {
        let others = "select pg_terminate_backend(pid) from pg_stat_activity \
                      where datname = current_database() and pid <> pg_backend_pid()";
        store.sql(others.into()).await;
    }
    loop {
        match queue.heartbeat(&lease, LONG).await {
            Ok(order) => break assert_eq!(order, Order::Continue),
            Err(error) => assert!(error.is_transient(), "{error:?}"),
        }
    }
    let lost = queue.heartbeat(&Lease { fence: 9, ..lease }, LONG).await.unwrap_err();
    assert!(!lost.is_transient());
}
