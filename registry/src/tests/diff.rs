//! What is said of the difference between two versions.

use dpg_dataset::{Figure, Row, Split, write_split};
use dpg_spec::Format;

use super::{Place, example};
use crate::{Change, Error, MetricChange, Snapshot};

/// A snapshot whose rows are these numbers, with the rewards.
fn of_rows(place: &Place, job: &str, rows: &[(u64, f64)]) -> Snapshot {
    let mut snapshot = place.snapshot(job, 1);
    let rows = rows.iter().map(|&(number, reward)| Row {
        example: example(Format::Text, &format!("row {number}")),
        reward,
        group_id: 0,
        step: 0,
        advantage: 0.0,
        logprob: Some(0.0),
        n_tokens: Some(1),
        arm: None,
        prompt: String::new(),
        seed: 0,
    });
    snapshot.folder = place.folder.path().join(format!("rows-{job}"));
    snapshot.shards = write_split(&snapshot.folder, Split::Train, Format::Text, rows).unwrap();
    snapshot
}

#[tokio::test]
async fn rows_rewards_metrics_and_the_spec_are_compared() {
    let place = Place::local();
    let registry = &place.registry;
    // Row 2 stands twice in the first version, row 3 in both, and each has its own reward.
    let mut from = of_rows(&place, "a", &[(1, 1.0), (2, -1.0), (2, -1.0), (3, 3.0)]);
    from.spec = "name = \"six\"\nseed = 1\n[policy]\nsteps = 2\nkl = 0.1\n".into();
    from.card.validation = vec![
        Figure { name: "Phi".into(), before: 0.0, after: 0.5 },
        Figure { name: "gone".into(), before: 0.0, after: f64::NAN },
    ];
    let mut to = of_rows(&place, "b", &[(2, 2.0), (3, 5.0), (4, -4.0)]);
    to.spec =
        "name = \"six\"\nseed = 1\n[policy]\nsteps = 3\n[output]\nselect = { top_fraction = 0.5 }\n".into();
    to.card.validation = vec![
        Figure { name: "Phi".into(), before: 0.0, after: 0.75 },
        Figure { name: "new".into(), before: 0.0, after: 1.0 },
    ];
    let (from, to) = (registry.publish(&from).await.unwrap(), registry.publish(&to).await.unwrap());
    let diff = registry.diff(&from, &to).await.unwrap();
    assert_eq!((&*diff.from, &*diff.to), ("sixseven@v1", "sixseven@v2"));
    assert_eq!((diff.rows_added, diff.rows_removed, diff.rows_kept), (1, 2, 2));

    let compared = registry.compare(&from, &to).await.unwrap();
    assert_eq!((compared.gone, compared.came), (vec![0], vec![2]));
    // two contents are in both, and two make any line
    assert_eq!(compared.correlation, None);

    let (old, new) = (diff.rewards_from, diff.rewards_to);
    assert_eq!(
        (old.rows, old.mean, old.min, old.median, old.max, old.positive),
        (4, 0.5, -1.0, 0.0, 3.0, 0.5)
    );
    assert!((old.std - 2.75_f64.sqrt()).abs() < 1e-15, "{old:?}");
    assert_eq!((new.rows, new.mean, new.median), (3, 1.0, 2.0));

    let metric = |name: &str, from, to| MetricChange { name: name.into(), from, to };
    let expected =
        [metric("Phi", Some(0.5), Some(0.75)), metric("gone", None, None), metric("new", None, Some(1.0))];
    assert_eq!(diff.metrics, expected);
    let change = |key: &str, from: Option<&str>, to: Option<&str>| Change {
        key: key.into(),
        from: from.map(Into::into),
        to: to.map(Into::into),
    };
    let expected = [
        change("output.select.top_fraction", None, Some("0.5")),
        change("policy.kl", Some("0.1"), None),
        change("policy.steps", Some("2"), Some("3")),
    ];
    assert_eq!(diff.spec, expected);

    let same = registry.diff(&to, &to).await.unwrap();
    assert_eq!((same.rows_added, same.rows_removed, same.rows_kept), (0, 0, 3));
    assert!(same.spec.is_empty());
}

#[tokio::test]
async fn a_shard_that_cannot_be_read_is_named() {
    let place = Place::local();
    let version = place.registry.publish(&of_rows(&place, "a", &[(1, 1.0)])).await.unwrap();
    let shard = "rewards/train-00000-of-00001.parquet";
    let path = place.folder.path().join("store/sixseven/snapshots/a-1").join(shard);
    std::fs::write(path, "no Parquet").unwrap();
    let error = place.registry.diff(&version, &version).await.unwrap_err();
    assert!(matches!(&error, Error::Damaged { damages, .. } if damages[0].contains(shard)), "{error}");
}
