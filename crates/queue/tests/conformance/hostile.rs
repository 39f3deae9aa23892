//! Values that would be SQL if they were pasted into a statement, through every call that takes text.

use dpg_queue::{Error, Filter, NewDeed, NewToken, Scope};

use crate::{Store, job, on_both};

on_both! {
    texts_are_data,
    who_did_what_is_kept_in_order,
}

const HOSTILE: [&str; 7] =
    ["' or '1'='1", "'; drop table jobs; --", "\" or 1=1 --", "a') or ('1'='1", "%", "{now}", "$1"];

async fn texts_are_data(store: Store) {
    let queue = store.open().await;
    queue.submit(&job("kept")).await.unwrap();
    for text in HOSTILE {
        for filter in [
            Filter { name: Some(text.into()), ..Filter::default() },
            Filter { name_prefix: Some(text.into()), ..Filter::default() },
        ] {
            assert_eq!(queue.list(&filter, None, 10).await.unwrap().jobs, [], "{text}");
        }
        assert!(matches!(queue.find(text).await, Err(Error::NotFound { .. })), "{text}");
        assert!(matches!(queue.schedule(text).await, Err(Error::NotFound { .. })), "{text}");
        assert!(matches!(queue.revoke_token(text).await, Err(Error::NotFound { .. })), "{text}");
        assert!(matches!(queue.authenticate(text).await, Err(Error::TokenRefused { .. })), "{text}");
        let named = NewToken {
            name: text.into(),
            scopes: vec![Scope::Read],
            datasets: vec![text.into()],
            ..NewToken::default()
        };
        let (token, secret) = queue.create_token(&named).await.unwrap();
        assert_eq!(queue.authenticate(&secret).await.unwrap(), token);
        assert_eq!((token.name.as_str(), &token.datasets[..]), (text, &[text.to_owned()][..]));
        let mut new = job(text);
        new.key = Some(text.into());
        let submitted = queue.submit_for(&new, token.id).await.unwrap();
        assert!(submitted.created && submitted.job.name == text);
        assert!(!queue.submit_for(&new, token.id).await.unwrap().created);
        let found = queue.find(text).await.unwrap();
        assert_eq!((found.id, found.spec.as_str()), (submitted.job.id, new.spec.as_str()));
        queue.cancel(found.id).await.unwrap();
    }
    let kept = Filter { name: Some("kept".into()), ..Filter::default() };
    assert_eq!(queue.list(&kept, None, 10).await.unwrap().jobs.len(), 1);
}

async fn who_did_what_is_kept_in_order(store: Store) {
    let queue = store.open().await;
    let deed = |object: &str| NewDeed {
        token: uuid::Uuid::new_v4(),
        name: "ci".into(),
        action: "POST /v1/jobs".into(),
        object: object.into(),
        status: 201,
        address: "::1".into(),
    };
    for object in HOSTILE {
        queue.note(deed(object)).await.unwrap();
    }
    let newest = queue.deeds(None, 3).await.unwrap();
    let older = queue.deeds(Some(newest[2].id), 100).await.unwrap();
    let told: Vec<_> = newest.iter().chain(&older).rev().map(|deed| deed.object.as_str()).collect();
    assert_eq!(told, HOSTILE);
    assert_eq!((newest[0].status, newest[0].address.as_str()), (201, "::1"));
}
