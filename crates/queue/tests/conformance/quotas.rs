//! Quotas: what a token's jobs take is bounded when they are submitted and when they are claimed.

use dpg_queue::{Error, Lease, NewToken, Queue, Quota, Scope};
use uuid::Uuid;

use crate::{LONG, Store, job, on_both};

on_both! {
    jobs_wait_for_their_tokens_turn,
    no_more_wait_than_may,
    minutes_run_out,
}

async fn token(queue: &Queue, quota: Quota) -> Uuid {
    let new = NewToken { name: "t".into(), scopes: vec![Scope::Submit], quota, ..NewToken::default() };
    queue.create_token(&new).await.unwrap().0.id
}

async fn jobs_wait_for_their_tokens_turn(store: Store) {
    let queue = store.open().await;
    let token = token(&queue, Quota { running: Some(2), ..Quota::default() }).await;
    for number in 0..4 {
        queue.submit_for(&job(&format!("of-token-{number}")), token).await.unwrap();
    }
    queue.submit(&job("of-nobody")).await.unwrap();
    // many workers at once take two of the token's, and the other
    let claims = (0..8).map(|worker| {
        let queue = queue.clone();
        tokio::spawn(async move { queue.claim(&format!("w{worker}"), LONG).await.unwrap() })
    });
    let mut claimed: Vec<(Lease, String)> = vec![];
    for claim in claims.collect::<Vec<_>>() {
        claimed.extend(claim.await.unwrap().map(|(lease, job)| (lease, job.name)));
    }
    while let Some((lease, job)) = queue.claim("last", LONG).await.unwrap() {
        claimed.push((lease, job.name));
    }
    // workers that look at once may pass over each other's, so which two is open
    let of_token = claimed.iter().filter(|(_, name)| name.starts_with("of-token")).count();
    assert_eq!((claimed.len(), of_token), (3, 2), "{claimed:?}");
    let (lease, _) = claimed.iter().find(|(_, name)| name.starts_with("of-token")).unwrap();
    queue.complete(lease, serde_json::json!({})).await.unwrap();
    assert!(queue.claim("next", LONG).await.unwrap().unwrap().1.name.starts_with("of-token"));
    assert!(queue.claim("none", LONG).await.unwrap().is_none());
}

async fn no_more_wait_than_may(store: Store) {
    let queue = store.open().await;
    let token = token(&queue, Quota { queued: Some(3), ..Quota::default() }).await;
    let tries = (0..10).map(|number| {
        let queue = queue.clone();
        tokio::spawn(async move { queue.submit_for(&job(&format!("j{number}")), token).await })
    });
    let mut made = 0;
    for tried in tries.collect::<Vec<_>>() {
        match tried.await.unwrap() {
            Ok(_) => made += 1,
            Err(error) => assert!(matches!(error, Error::QuotaUsed { most: 3, used: 3, .. }), "{error:?}"),
        }
    }
    assert_eq!(made, 3);
    let (_, running) = queue.claim("w", LONG).await.unwrap().unwrap();
    queue.submit_for(&job("one more"), token).await.unwrap();
    assert!(matches!(queue.submit_for(&job("two more"), token).await, Err(Error::QuotaUsed { .. })));
    queue.cancel(running.id).await.unwrap();
}

async fn minutes_run_out(store: Store) {
    let queue = store.open().await;
    let token = token(&queue, Quota { minutes: Some(1), ..Quota::default() }).await;
    queue.submit_for(&job("first"), token).await.unwrap();
    queue.submit_for(&job("second"), token).await.unwrap();
    let (lease, first) = queue.claim("w", LONG).await.unwrap().unwrap();
    // as if it had begun two minutes ago
    store.sql(format!("update jobs set claimed = claimed - 120000 where id = '{}'", first.id)).await;
    assert!(queue.claim("w", LONG).await.unwrap().is_none(), "the running one used them up");
    queue.complete(&lease, serde_json::json!({})).await.unwrap();
    assert!(queue.claim("w", LONG).await.unwrap().is_none(), "and so it is after it ended");
    let refused = queue.submit_for(&job("third"), token).await;
    assert!(matches!(refused, Err(Error::QuotaUsed { most: 1, used: 2, .. })), "{refused:?}");
    // a day later
    store.sql(format!("update jobs set updated = updated - 86400000 where id = '{}'", first.id)).await;
    assert_eq!(queue.claim("w", LONG).await.unwrap().unwrap().1.name, "second");
}
