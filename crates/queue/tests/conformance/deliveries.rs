//! Who is told of jobs' ends: written with the end, kept until it is settled.

use std::collections::BTreeSet;
use std::time::Duration;

use dpg_queue::{Delivery, DeliveryState, Failure, Queue};
use serde_json::{Value, json};

use crate::{LONG, SHORT, Store, claim_soon, job, on_both};

on_both! {
    every_end_is_told_once_to_each,
    a_job_that_goes_on_is_not_told_of,
    what_is_not_settled_comes_again,
    what_was_settled_is_forgotten_with_time,
}

const ONE: &str = "https://name:secret@one.example/hook?key=secret";
const TWO: &str = "http://two.example:8080/";

async fn telling(store: &Store) -> Queue {
    store.open().await.telling([ONE.to_owned(), TWO.to_owned()])
}

async fn pending(queue: &Queue) -> Vec<Delivery> {
    queue.deliveries(None, None, 100).await.unwrap()
}

async fn every_end_is_told_once_to_each(store: Store) {
    let queue = telling(&store).await;
    let done = queue.submit(&job("done")).await.unwrap().job.id;
    let (lease, _) = claim_soon(&queue, "w", LONG).await;
    queue.complete(&lease, json!({"dataset": "done@v1"})).await.unwrap();
    // said again, since the first answer may have been lost
    queue.complete(&lease, json!({"dataset": "done@v1"})).await.unwrap();

    // without a worker: cancelled while it waits, and out of attempts when its lease ran out
    let cancelled = queue.submit(&job("cancelled")).await.unwrap().job.id;
    queue.cancel(cancelled).await.unwrap();
    let mut new = job("lost");
    new.max_attempts = 1;
    let lost = queue.submit(&new).await.unwrap().job.id;
    claim_soon(&queue, "dead", SHORT).await;
    while queue.job(lost).await.unwrap().finished.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(queue.claim("other", LONG).await.unwrap().is_none());
    }

    let told = pending(&queue).await;
    let ends: BTreeSet<_> = told.iter().map(|one| (one.job, one.host.clone())).collect();
    let hosts = ["one.example", "two.example:8080"];
    let expected = [done, cancelled, lost].into_iter().flat_map(|id| hosts.map(|host| (id, host.to_owned())));
    assert_eq!((told.len(), ends), (6, expected.collect()), "and no secret of an address is told");

    let mut events = vec![];
    while let Some((delivery, body)) = queue.take_delivery(ONE, LONG).await.unwrap() {
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["job"]["id"], json!(delivery.job));
        assert_eq!(delivery.event, queue.job(delivery.job).await.unwrap().last_event);
        events.push(body["event"].as_str().unwrap().to_owned());
    }
    assert_eq!(events, ["job.succeeded", "job.cancelled", "job.failed"]);
    assert_eq!(queue.deliveries(Some(lost), None, 100).await.unwrap().len(), 2);
}

async fn a_job_that_goes_on_is_not_told_of(store: Store) {
    let queue = telling(&store).await;
    let id = queue.submit(&job("a")).await.unwrap().job.id;
    let (lease, _) = claim_soon(&queue, "w", LONG).await;
    queue.fail(&lease, "not yet", Failure::Transient { delay: Duration::ZERO }).await.unwrap();
    let (lease, _) = claim_soon(&queue, "w", LONG).await;
    queue.release(&lease).await.unwrap();
    assert_eq!(pending(&queue).await, []);
    // each time that it ends
    for ends in 1..=2 {
        queue.cancel(id).await.unwrap();
        queue.cancel(id).await.unwrap();
        assert_eq!(pending(&queue).await.len(), 2 * ends);
        queue.retry(id).await.unwrap();
    }
    let silent = store.open().await;
    silent.cancel(id).await.unwrap();
    assert_eq!(pending(&silent).await.len(), 4, "nobody listens to this program's ends");
}

async fn what_is_not_settled_comes_again(store: Store) {
    let queue = telling(&store).await;
    let id = queue.submit(&job("a")).await.unwrap().job.id;
    queue.cancel(id).await.unwrap();
    let (first, body) = queue.take_delivery(ONE, LONG).await.unwrap().unwrap();
    assert_eq!((first.state, first.attempts), (DeliveryState::Pending, 1));
    let other = store.open().await;
    assert!(other.take_delivery(ONE, LONG).await.unwrap().is_none(), "it is left to whoever took it");

    other.not_delivered(first.id, Some(503), "the answer was 503", Some(Duration::ZERO)).await.unwrap();
    // the job goes on meanwhile, and what is told stays as it was
    queue.retry(id).await.unwrap();
    let (second, again) = soon(&other, ONE, SHORT).await;
    assert_eq!((second.id, second.attempts, &again), (first.id, 2, &body));
    assert_eq!((second.status, second.error.as_deref()), (Some(503), Some("the answer was 503")));
    // whoever took it was killed
    let (third, _) = soon(&queue, ONE, LONG).await;
    assert_eq!((third.id, third.attempts), (first.id, 3));
    queue.delivered(third.id, 204).await.unwrap();
    let (gone, _) = queue.take_delivery(TWO, LONG).await.unwrap().unwrap();
    queue.not_delivered(gone.id, Some(410), "the answer was 410 Gone", None).await.unwrap();
    let settled: Vec<_> =
        pending(&queue).await.into_iter().map(|one| (one.host, one.state, one.status, one.due)).collect();
    assert!(
        settled.contains(&("one.example".into(), DeliveryState::Delivered, Some(204), None)),
        "{settled:?}"
    );
    assert!(settled.contains(&("two.example:8080".into(), DeliveryState::GivenUp, Some(410), None)));
    for url in [ONE, TWO] {
        assert!(queue.take_delivery(url, LONG).await.unwrap().is_none());
    }
}

async fn what_was_settled_is_forgotten_with_time(store: Store) {
    let queue = telling(&store).await;
    let id = queue.submit(&job("a")).await.unwrap().job.id;
    queue.cancel(id).await.unwrap();
    let (one, _) = queue.take_delivery(ONE, LONG).await.unwrap().unwrap();
    queue.delivered(one.id, 200).await.unwrap();
    store.sql("update deliveries set updated = updated - 7200000".into()).await;
    queue.forget_deliveries(Duration::from_hours(3)).await.unwrap();
    assert_eq!(pending(&queue).await.len(), 2);
    queue.forget_deliveries(Duration::from_hours(1)).await.unwrap();
    let left: Vec<_> = pending(&queue).await.into_iter().map(|one| one.host).collect();
    assert_eq!(left, ["two.example:8080"], "what is still to be told stays");
}

async fn soon(queue: &Queue, url: &str, lease: Duration) -> (Delivery, String) {
    for _ in 0..1000 {
        if let Some(taken) = queue.take_delivery(url, lease).await.unwrap() {
            return taken;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nothing is due for {url}");
}
