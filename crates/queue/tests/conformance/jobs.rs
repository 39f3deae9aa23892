//! Submitting, listing, following, cancelling and retrying jobs.

use std::time::Duration;

use chrono::TimeDelta;
use dpg_queue::{Counts, Error, Failure, Filter, NewJob, Order, Resources, State};
use serde_json::json;
use uuid::Uuid;

use crate::{LONG, SHORT, Store, claim_soon, history, job, on_both};

on_both! {
    racing_submits_of_a_key_make_one_job,
    a_key_is_for_one_spec_and_free_again_when_its_job_ends,
    what_was_submitted_is_kept,
    priority_then_order_of_submission,
    a_worker_gets_what_it_has_the_gpus_for,
    no_worker_gets_a_job_before_its_time,
    a_queued_job_is_cancelled_at_once,
    a_running_job_is_cancelled_by_its_worker,
    a_cancelled_job_ends_though_its_worker_died,
    events_have_no_gaps_and_are_read_in_pages,
    lists_are_filtered_and_paged,
    retry_only_of_what_is_not_running_or_done,
}

async fn racing_submits_of_a_key_make_one_job(store: Store) {
    let queues = [store.open().await, store.open().await];
    let new = NewJob { key: Some("nightly".into()), ..job("a") };
    let submits: Vec<_> = (0..32)
        .map(|index| {
            let (queue, new) = (queues[index % 2].clone(), new.clone());
            tokio::spawn(async move { queue.submit(&new).await.unwrap() })
        })
        .collect();
    let mut answers = Vec::new();
    for submit in submits {
        answers.push(submit.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|answer| answer.created).count(), 1);
    assert!(answers.iter().all(|answer| answer.job == answers[0].job));
    assert_eq!(queues[0].counts().await.unwrap(), Counts { queued: 1, ..Counts::default() });
    assert_eq!(history(&queues[0], answers[0].job.id).await, ["submitted"]);
}

async fn a_key_is_for_one_spec_and_free_again_when_its_job_ends(store: Store) {
    let queue = store.open().await;
    let new = NewJob { key: Some("nightly".into()), ..job("a") };
    let first = queue.submit(&new).await.unwrap().job;
    let other = NewJob { spec_sha256: "another".into(), ..new.clone() };
    match queue.submit(&other).await {
        Err(Error::KeyTaken { key, job }) => assert_eq!((key.as_str(), job), ("nightly", first.id)),
        answer => panic!("{answer:?}"),
    }
    let (lease, _) = claim_soon(&queue, "w", LONG).await;
    assert!(!queue.submit(&new).await.unwrap().created, "a running job keeps its key");
    queue.complete(&lease, json!({"version": 1})).await.unwrap();
    let second = queue.submit(&other).await.unwrap();
    assert!(second.created && second.job.id != first.id);
    let keyless = [queue.submit(&job("b")).await.unwrap(), queue.submit(&job("b")).await.unwrap()];
    assert!(keyless.iter().all(|answer| answer.created), "without a key each submit is a job");
}

async fn what_was_submitted_is_kept(store: Store) {
    let queue = store.open().await;
    let now = queue.now().await.unwrap();
    let new = NewJob {
        key: Some("ключ".into()),
        spec: "name = \"a\" # '; drop table jobs; -- \u{1F980}\n".into(),
        priority: -3,
        max_attempts: 7,
        not_before: Some(now + TimeDelta::milliseconds(1500)),
        schedule: Some(Uuid::from_u128(9)),
        due: Some(now - TimeDelta::hours(1)),
        ..job("a")
    };
    let submitted = queue.submit(&new).await.unwrap().job;
    let read = queue.job(submitted.id).await.unwrap();
    assert_eq!(read, submitted);
    assert_eq!((&read.name, &read.key, &read.spec), (&new.name, &new.key, &new.spec));
    assert_eq!((&read.resolved, &read.spec_sha256), (&new.resolved, &new.spec_sha256));
    assert_eq!((read.priority, read.max_attempts, read.attempts), (-3, 7, 0));
    assert_eq!((read.schedule, read.due, Some(read.not_before)), (new.schedule, new.due, new.not_before));
    assert_eq!((read.state, read.last_event, read.finished), (State::Queued, 1, None));
    assert!(read.created >= now && read.created == read.updated);

    let newer = queue.submit(&job("a")).await.unwrap().job;
    assert_eq!(queue.find("a").await.unwrap(), newer);
    assert_eq!(queue.find(&read.id.to_string()).await.unwrap(), read);
    assert!(matches!(queue.find("b").await, Err(Error::NotFound { what: "job", .. })));
    assert!(matches!(queue.job(Uuid::nil()).await, Err(Error::NotFound { .. })));
    assert!(matches!(queue.cancel(Uuid::nil()).await, Err(Error::NotFound { .. })));
    assert!(queue.events(Uuid::nil(), 0, 10).await.unwrap().is_empty());
}

async fn priority_then_order_of_submission(store: Store) {
    let queue = store.open().await;
    for (name, priority) in [("low", -1), ("first", 0), ("high", 10), ("second", 0), ("third", 0)] {
        queue.submit(&NewJob { priority, ..job(name) }).await.unwrap();
    }
    let mut names = Vec::new();
    while let Some((_, job)) = queue.claim("w", LONG).await.unwrap() {
        names.push(job.name);
    }
    assert_eq!(names, ["high", "first", "second", "third", "low"]);
}

async fn a_worker_gets_what_it_has_the_gpus_for(store: Store) {
    let queue = store.open().await;
    let needs = |gpus, gpu_bytes| Resources { gpus, gpu_bytes };
    for (name, asked) in
        [("four", needs(4, 80)), ("two", needs(2, 40)), ("large", needs(1, 80)), ("any", needs(0, 0))]
    {
        queue.submit(&NewJob { needs: asked, ..job(name) }).await.unwrap();
    }
    for (has, gets) in
        [(needs(0, 0), "any"), (needs(2, 79), "two"), (needs(1, 80), "large"), (needs(8, 80), "four")]
    {
        let worker = queue.clone().with(has);
        assert_eq!(worker.claim("w", LONG).await.unwrap().unwrap().1.name, gets);
        assert_eq!(worker.claim("w", LONG).await.unwrap().map(|(_, job)| job.name), None, "{has:?}");
    }
}

async fn no_worker_gets_a_job_before_its_time(store: Store) {
    let queue = store.open().await;
    let later = queue.now().await.unwrap() + TimeDelta::hours(1);
    let waiting = queue.submit(&NewJob { not_before: Some(later), ..job("a") }).await.unwrap().job;
    assert_eq!(queue.claim("w", LONG).await.unwrap(), None);
    queue.retry(waiting.id).await.unwrap();
    assert_eq!(claim_soon(&queue, "w", LONG).await.1.id, waiting.id, "unless it is told to go now");
}

async fn a_queued_job_is_cancelled_at_once(store: Store) {
    let queue = store.open().await;
    let new = NewJob { key: Some("k".into()), ..job("a") };
    let id = queue.submit(&new).await.unwrap().job.id;
    let cancelled = queue.cancel(id).await.unwrap();
    assert_eq!(cancelled.state, State::Cancelled);
    assert!(cancelled.finished.is_some());
    assert_eq!(queue.claim("w", LONG).await.unwrap(), None);
    assert_eq!(queue.cancel(id).await.unwrap(), cancelled, "again changes nothing");
    assert_eq!(history(&queue, id).await, ["submitted", "cancelled"]);
    assert!(queue.submit(&new).await.unwrap().created, "its key is free");
}

async fn a_running_job_is_cancelled_by_its_worker(store: Store) {
    let (submitter, worker) = (store.open().await, store.open().await);
    let new = NewJob { key: Some("k".into()), ..job("a") };
    let id = submitter.submit(&new).await.unwrap().job.id;
    let (lease, _) = claim_soon(&worker, "w", LONG).await;
    assert_eq!(worker.heartbeat(&lease, LONG).await.unwrap(), Order::Continue);
    let asked = submitter.cancel(id).await.unwrap();
    assert_eq!((asked.state, asked.finished), (State::Running, None));
    submitter.cancel(id).await.unwrap();
    assert!(submitter.submit(&new).await.unwrap().created, "its key is free while it stops");
    assert_eq!(worker.heartbeat(&lease, LONG).await.unwrap(), Order::Cancel);
    let ended = worker.cancelled(&lease).await.unwrap();
    assert_eq!((ended.state, ended.lease_until), (State::Cancelled, None));
    assert!(matches!(worker.heartbeat(&lease, LONG).await, Err(Error::LeaseLost { .. })));
    assert_eq!(history(&submitter, id).await, ["submitted", "claimed", "cancel_requested", "cancelled"]);

    // A worker that publishes before it hears of the cancel has succeeded.
    let (lease, _) = claim_soon(&worker, "w", LONG).await;
    submitter.cancel(lease.job).await.unwrap();
    assert_eq!(worker.complete(&lease, json!(1)).await.unwrap().state, State::Succeeded);
    assert!(matches!(submitter.cancel(lease.job).await, Err(Error::WrongState { .. })));
}

async fn a_cancelled_job_ends_though_its_worker_died(store: Store) {
    let queue = store.open().await;
    let id = queue.submit(&job("a")).await.unwrap().job.id;
    claim_soon(&queue, "dies", SHORT).await;
    queue.cancel(id).await.unwrap();
    while queue.job(id).await.unwrap().state == State::Running {
        assert_eq!(queue.claim("w", LONG).await.unwrap(), None, "no one works on it any more");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(queue.job(id).await.unwrap().state, State::Cancelled);
    // The same when its attempt fails, or is given back, after the cancel.
    for release in [false, true] {
        queue.submit(&job("b")).await.unwrap();
        let (lease, _) = claim_soon(&queue, "w", LONG).await;
        queue.cancel(lease.job).await.unwrap();
        let ended = if release {
            queue.release(&lease).await.unwrap()
        } else {
            queue.fail(&lease, "broke", Failure::Transient { delay: Duration::ZERO }).await.unwrap()
        };
        assert_eq!(ended.state, State::Cancelled);
    }
}

async fn events_have_no_gaps_and_are_read_in_pages(store: Store) {
    let queues = [store.open().await, store.open().await];
    let id = queues[0].submit(&job("a")).await.unwrap().job.id;
    let (lease, _) = claim_soon(&queues[0], "w", LONG).await;
    let writers: Vec<_> = (0..40)
        .map(|index| {
            let queue = queues[index % 2].clone();
            tokio::spawn(async move { queue.event(&lease, "step", json!({"step": index})).await.unwrap() })
        })
        .collect();
    // A follower that reads while they write misses none.
    let (mut seen, mut last) = (Vec::new(), 0);
    loop {
        let all_written = writers.iter().all(tokio::task::JoinHandle::is_finished);
        let page = queues[1].events(id, last, 7).await.unwrap();
        assert!(page.len() <= 7);
        if all_written && page.is_empty() {
            break;
        }
        last = page.last().map_or(last, |event| event.seq);
        seen.extend(page);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let numbers: Vec<_> = seen.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=42).collect::<Vec<_>>());
    let mut steps: Vec<_> = seen[2..].iter().map(|event| event.detail["step"].as_i64().unwrap()).collect();
    steps.sort_unstable();
    assert_eq!(steps, (0..40).collect::<Vec<_>>());
    assert!(seen.windows(2).all(|pair| pair[0].at <= pair[1].at));
    assert_eq!(queues[0].job(id).await.unwrap().last_event, 42);
    assert!(queues[0].events(id, 42, 7).await.unwrap().is_empty());
}

async fn lists_are_filtered_and_paged(store: Store) {
    let queue = store.open().await;
    let schedule = Some(Uuid::from_u128(5));
    for index in 0..10 {
        let name = if index % 2 == 0 { "even-a" } else { "odd_b" };
        queue.submit(&NewJob { schedule: schedule.filter(|_| index < 3), ..job(name) }).await.unwrap();
    }
    let all = queue.list(&Filter::default(), None, 100).await.unwrap();
    assert_eq!((all.jobs.len(), all.next), (10, None));
    assert!(all.jobs.windows(2).all(|pair| pair[0].id > pair[1].id), "newest first");

    let (mut paged, mut from) = (Vec::new(), None);
    loop {
        let page = queue.list(&Filter::default(), from, 4).await.unwrap();
        paged.extend(page.jobs);
        // What is submitted while someone reads changes no page that is still to come.
        queue.submit(&job("late")).await.unwrap();
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(paged, all.jobs);

    let (lease, first) = claim_soon(&queue, "w", LONG).await;
    queue.fail(&lease, "broke", Failure::Permanent).await.unwrap();
    let (_, second) = claim_soon(&queue, "w", LONG).await;
    let count = async |filter: Filter| queue.list(&filter, None, 100).await.unwrap().jobs.len();
    let of_state = |state| Filter { state: Some(state), ..Filter::default() };
    assert_eq!(count(of_state(State::Failed)).await, 1);
    assert_eq!(count(of_state(State::Running)).await, 1);
    assert_eq!(count(of_state(State::Succeeded)).await, 0);
    let named = |name: &str| Filter { name: Some(name.into()), ..Filter::default() };
    assert_eq!((count(named("even-a")).await, count(named("even")).await), (5, 0));
    let prefix = |name: &str| Filter { name_prefix: Some(name.into()), ..Filter::default() };
    assert_eq!((count(prefix("even")).await, count(prefix("odd_")).await), (5, 5));
    assert_eq!((count(prefix("%")).await, count(prefix("even_")).await), (0, 0), "taken as written");
    assert_eq!(count(Filter { schedule, ..Filter::default() }).await, 3);
    let both = Filter { state: Some(State::Failed), ..prefix("odd") };
    assert_eq!(count(both).await, usize::from(first.name == "odd_b"));
    assert_eq!(second.schedule, schedule);
    let now = queue.now().await.unwrap();
    let since = |since| Filter { since: Some(since), ..Filter::default() };
    assert_eq!(count(since(now + TimeDelta::seconds(1))).await, 0);
    assert_eq!(count(since(first.created)).await, 13);
    let counts = Counts { queued: 11, running: 1, failed: 1, ..Counts::default() };
    assert_eq!(queue.counts().await.unwrap(), counts);
}

async fn retry_only_of_what_is_not_running_or_done(store: Store) {
    let queue = store.open().await;
    let new = NewJob { key: Some("k".into()), ..job("a") };
    let cancelled = queue.submit(&new).await.unwrap().job.id;
    queue.cancel(cancelled).await.unwrap();
    let live = queue.submit(&new).await.unwrap().job.id;
    match queue.retry(cancelled).await {
        Err(Error::KeyTaken { job, .. }) => assert_eq!(job, live),
        answer => panic!("{answer:?}"),
    }
    let (lease, _) = claim_soon(&queue, "w", LONG).await;
    assert!(matches!(queue.retry(live).await, Err(Error::WrongState { state: State::Running, .. })));
    queue.complete(&lease, json!({})).await.unwrap();
    assert!(matches!(queue.retry(live).await, Err(Error::WrongState { state: State::Succeeded, .. })));
    let again = queue.retry(cancelled).await.unwrap();
    assert_eq!((again.state, again.cancel_requested, again.finished), (State::Queued, None, None));
    assert_eq!(claim_soon(&queue, "w", LONG).await.1.id, cancelled);
}
