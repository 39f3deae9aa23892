//! Retention: which versions go, what remains readable, and what readers of the others are told.

use chrono::TimeDelta;

use super::{Place, objects};
use crate::{Error, Withdrawal};

#[tokio::test]
async fn retired_versions_go_and_the_latest_and_tagged_stay() {
    for place in [Place::memory(), Place::local()] {
        let registry = &place.registry;
        for job in ["a", "b", "c", "d", "e", "f"] {
            registry.publish(&place.snapshot(job, 1)).await.unwrap();
        }
        registry.tag("sixseven", "gold", 2).await.unwrap();
        registry.yank("sixseven", 6, "wrong prompts").await.unwrap();
        // v5 is the latest and v2 tagged; of v1, v3, v4 and v6 the newest two stay.
        assert!(registry.retire("sixseven", 0).await.unwrap().is_empty());
        assert_eq!(registry.retire("sixseven", 2).await.unwrap(), [1, 3]);
        assert!(registry.retire("sixseven", 2).await.unwrap().is_empty());

        // Whoever is reading has as long as garbage is left alone.
        assert!(registry.gc("sixseven", TimeDelta::days(1), |_| false).await.unwrap().is_empty());
        let first = registry.resolve("sixseven", "v1").await.unwrap();
        registry.verify(&first).await.unwrap();
        let removed = registry.gc("sixseven", TimeDelta::zero(), |_| false).await.unwrap();
        let removed: Vec<_> = removed.iter().map(|garbage| (garbage.version, &*garbage.snapshot)).collect();
        assert_eq!(removed, [(Some(1), "a-1"), (Some(3), "c-1")]);
        assert!(!objects(registry).await.iter().any(|path| path.contains("a-1") || path.contains("c-1")));

        for reference in ["v2", "gold", "v4", "v5", "v6"] {
            let version = registry.resolve("sixseven", reference).await.unwrap();
            registry.verify(&version).await.unwrap();
        }
        let first = registry.resolve("sixseven", "v1").await.unwrap();
        assert_eq!(first.withdrawn, Some(Withdrawal::Retired));
        let error = registry.verify(&first).await.unwrap_err();
        assert!(matches!(error, Error::Retired { .. }), "{error}");
        assert!(matches!(registry.tag("sixseven", "silver", 1).await, Err(Error::Retired { .. })));

        // A job that is repeated is still published once, and numbers go on.
        assert_eq!(registry.publish(&place.snapshot("a", 2)).await.unwrap().number, 1);
        assert_eq!(registry.publish(&place.snapshot("g", 1)).await.unwrap().number, 7);
    }
}

#[tokio::test]
async fn a_tag_keeps_a_version_until_it_is_removed() {
    let place = Place::memory();
    let registry = &place.registry;
    for job in ["a", "b", "c"] {
        registry.publish(&place.snapshot(job, 1)).await.unwrap();
    }
    registry.tag("sixseven", "gold", 1).await.unwrap();
    assert!(registry.retire("sixseven", 1).await.unwrap().is_empty());
    let error = registry.untag("sixseven", "silver").await.unwrap_err();
    assert!(matches!(error, Error::NoVersion { .. }), "{error}");
    registry.untag("sixseven", "gold").await.unwrap();
    assert!(registry.dataset("sixseven").await.unwrap().tags.is_empty());
    assert_eq!(registry.retire("sixseven", 1).await.unwrap(), [1]);
}
