//! Publishing, naming versions, races, and what a damaged or dirty store does.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use dpg_dataset::Split;
use dpg_spec::Hint;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Place, add_large_shard, objects};
use crate::{Error, Manifest, Registry, Version, Withdrawal, open_store, probe_conditional_put};

async fn json(registry: &Registry, path: &str) -> Value {
    let bytes = registry.store.get(&Path::from(path)).await.unwrap().bytes().await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn number(version: &Version) -> u64 {
    version.number
}

#[tokio::test]
async fn a_snapshot_has_the_layout_and_the_hashes() {
    let place = Place::local();
    let version = place.registry.publish(&place.snapshot("job-a", 7)).await.unwrap();
    assert_eq!((version.to_string().as_str(), version.rows, version.fence), ("sixseven@v1", 300, 7));
    let root = "sixseven/snapshots/job-a-7";
    let files = [
        "README.md",
        "croissant.json",
        "data/train-00000-of-00001.parquet",
        "data/validation-00000-of-00001.parquet",
        "manifest.json",
        "pictures/decoded.png",
        "provenance.dsse.json",
        "rewards/train-00000-of-00001.parquet",
        "rewards/validation-00000-of-00001.parquet",
        "spec.toml",
    ];
    let mut expected = vec!["sixseven/log/000000000000.json".to_string()];
    expected.extend(files.map(|file| format!("{root}/{file}")));
    assert_eq!(objects(&place.registry).await, expected);

    let manifest = place.registry.manifest(&version).await.unwrap();
    assert_eq!(manifest.files.len(), files.len() - 1);
    for file in &manifest.files {
        let path = Path::from(format!("{root}/{}", file.path));
        let bytes = place.registry.store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!((file.size, &file.sha256), (bytes.len() as u64, &hex::encode(Sha256::digest(&bytes))));
    }
    let croissant = json(&place.registry, &format!("{root}/croissant.json")).await;
    for file in croissant["distribution"].as_array().unwrap() {
        if file["@type"] == "cr:FileObject" {
            let listed = manifest.files.iter().find(|listed| file["@id"] == listed.path.as_str()).unwrap();
            assert_eq!(file["sha256"], listed.sha256.as_str());
        }
    }
    let entry = json(&place.registry, "sixseven/log/000000000000.json").await;
    assert_eq!(
        (&entry["op"], &entry["job"], &entry["version"]),
        (&"publish".into(), &"job-a".into(), &1.into())
    );
    assert_eq!(entry["manifest_sha256"], version.manifest_sha256.as_str());
    place.registry.verify(&version).await.unwrap();
}

#[tokio::test]
async fn versions_are_named_by_number_tag_and_latest() {
    for place in [Place::memory(), Place::local()] {
        let registry = &place.registry;
        for (index, job) in ["a", "b", "c"].into_iter().enumerate() {
            let version = registry.publish(&place.snapshot(job, 1)).await.unwrap();
            assert_eq!(version.number, index as u64 + 1);
        }
        // A repeated job is the version it was, even with another fence and other rows.
        assert_eq!(registry.publish(&place.snapshot("a", 2)).await.unwrap().number, 1);

        let resolve =
            async |reference| registry.resolve("sixseven", reference).await.map(|version| version.number);
        assert_eq!(resolve("v2").await.unwrap(), 2);
        assert_eq!(resolve("2").await.unwrap(), 2);
        assert_eq!(resolve("latest").await.unwrap(), 3);
        registry.tag("sixseven", "gold", 1).await.unwrap();
        assert_eq!(resolve("gold").await.unwrap(), 1);
        registry.tag("sixseven", "gold", 2).await.unwrap();
        registry.tag("sixseven", "gold", 2).await.unwrap();
        assert_eq!(resolve("gold").await.unwrap(), 2);

        registry.yank("sixseven", 3, "wrong prompts").await.unwrap();
        registry.yank("sixseven", 3, "again").await.unwrap();
        assert_eq!(resolve("latest").await.unwrap(), 2);
        let yanked = registry.resolve("sixseven", "v3").await.unwrap();
        assert_eq!(yanked.withdrawn, Some(Withdrawal::Yanked("wrong prompts".into())));

        let datasets = registry.datasets().await.unwrap();
        assert_eq!(datasets.len(), 1);
        assert_eq!(datasets[0].versions.iter().map(number).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(datasets[0].tags, [("gold".to_string(), 2)].into());
        // Three publishes, two moves of the tag, one yank: repetitions wrote nothing.
        let log = objects(registry).await.into_iter().filter(|path| path.contains("/log/"));
        assert_eq!(log.count(), 6);
    }
}

#[tokio::test]
async fn absent_names_are_told_what_exists() {
    let place = Place::memory();
    let registry = &place.registry;
    let error = registry.dataset("sixseven").await.unwrap_err().told();
    assert_eq!(error, "there is no dataset `sixseven`; nothing is published yet");
    registry.publish(&place.snapshot("a", 1)).await.unwrap();
    registry.tag("sixseven", "gold", 1).await.unwrap();

    let error = registry.resolve("sixsven", "latest").await.unwrap_err().told();
    assert_eq!(error, "there is no dataset `sixsven`; there is `sixseven`");
    for reference in ["v2", "0", "silver", "v99999999999999999999999", ""] {
        let error = registry.resolve("sixseven", reference).await.unwrap_err().told();
        assert_eq!(error, format!("dataset `sixseven` has no version `{reference}`; it has `v1`, `gold`"));
    }
    assert!(matches!(registry.tag("sixseven", "gold", 2).await, Err(Error::NoVersion { .. })));
    assert!(matches!(registry.yank("sixseven", 0, "").await, Err(Error::NoVersion { .. })));
    for tag in ["latest", "v3", "3", "", "-a", "a/b", "é"] {
        assert!(matches!(registry.tag("sixseven", tag, 1).await, Err(Error::BadTag(_))), "{tag}");
    }
    for name in ["", "Six", "-a", "a/b", "..", &"a".repeat(64)] {
        let mut snapshot = place.snapshot("b", 1);
        snapshot.card.name = name.into();
        assert!(matches!(registry.publish(&snapshot).await, Err(Error::BadName { .. })), "{name}");
        assert!(matches!(registry.dataset(name).await, Err(Error::NoDataset { .. })), "{name}");
    }
    let mut snapshot = place.snapshot("b", 1);
    snapshot.shards.retain(|shard| shard.split == Split::Validation);
    assert!(matches!(registry.publish(&snapshot).await, Err(Error::Empty(_))));
    for job in ["", "..", "a/b", "a b"] {
        let mut snapshot = place.snapshot("b", 1);
        snapshot.job = job.into();
        assert!(matches!(registry.publish(&snapshot).await, Err(Error::BadName { .. })), "{job}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_jobs_get_distinct_versions() {
    for place in [Place::memory(), Place::local()] {
        let tasks = (0..16).map(|job| {
            let (registry, snapshot) = (place.registry.clone(), place.snapshot(&format!("job{job}"), 1));
            tokio::spawn(async move { registry.publish(&snapshot).await.unwrap().number })
        });
        let numbers: BTreeSet<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(numbers, (1..=16).collect());
        let dataset = place.registry.dataset("sixseven").await.unwrap();
        assert_eq!(dataset.versions.len(), 16);
        for version in &dataset.versions {
            place.registry.verify(version).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_job_racing_itself_is_one_version() {
    for place in [Place::memory(), Place::local()] {
        for same_fence in [false, true] {
            let job = if same_fence { "a" } else { "b" };
            let mut snapshot = place.snapshot(job, 1);
            let tasks: Vec<_> = (0..16)
                .map(|fence| {
                    snapshot.fence = if same_fence { 0 } else { fence };
                    let (registry, snapshot) = (place.registry.clone(), snapshot.clone());
                    tokio::spawn(async move { registry.publish(&snapshot).await.unwrap() })
                })
                .collect();
            let versions: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
            assert!(versions.iter().all(|version| version == &versions[0]));
            place.registry.verify(&versions[0]).await.unwrap();
        }
        assert_eq!(place.registry.dataset("sixseven").await.unwrap().versions.len(), 2);
    }
}

#[tokio::test]
async fn large_files_go_in_parts_and_only_if_unchanged() {
    for place in [Place::memory(), Place::local()] {
        let mut snapshot = place.snapshot("a", 1);
        add_large_shard(&mut snapshot);
        let file = snapshot.folder.join("data/large.parquet");
        let right = std::fs::read(&file).unwrap();
        let mut wrong = right.clone();
        *wrong.last_mut().unwrap() ^= 1;
        std::fs::write(&file, wrong).unwrap();
        assert!(matches!(place.registry.publish(&snapshot).await, Err(Error::Changed { .. })));
        assert!(!objects(&place.registry).await.iter().any(|path| path.ends_with("large.parquet")));

        std::fs::write(&file, right).unwrap();
        let version = place.registry.publish(&snapshot).await.unwrap();
        place.registry.verify(&version).await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_log_is_refused() {
    let place = Place::memory();
    let registry = &place.registry;
    for job in ["a", "b"] {
        registry.publish(&place.snapshot(job, 1)).await.unwrap();
    }
    let path = Path::from("sixseven/log/000000000002.json");
    let put = async |text: String| registry.store.put(&path, text.into()).await.unwrap();
    let good = r#"{"seq":2,"at":"2026-03-01T00:00:00Z","nonce":"x","op":"tag","tag":"t","version":2}"#;
    put(good.into()).await;
    assert_eq!(registry.resolve("sixseven", "t").await.unwrap().number, 2);
    for (from, to) in [
        ("\"seq\":2", "\"seq\":3"),
        ("version\":2", "version\":3"),
        ("version\":2", "version\":0"),
        ("}", ""),
    ] {
        put(good.replace(from, to)).await;
        let error = registry.dataset("sixseven").await.unwrap_err();
        assert!(matches!(&error, Error::DamagedLog { path, .. } if path.ends_with("02.json")), "{error}");
    }
    put(good.into()).await;
    registry.store.delete(&Path::from("sixseven/log/000000000001.json")).await.unwrap();
    let error = registry.dataset("sixseven").await.unwrap_err().to_string();
    assert!(error.contains("000000000001.json`: it is missing"), "{error}");
}

#[tokio::test]
async fn manifests_stay_inside_their_folder() {
    for path in ["../x", "/x", "a/../../x", "a\\b", "c:x", "", "a//b", "./a"] {
        let file = crate::ManifestFile { path: path.into(), size: 0, sha256: String::new() };
        let manifest = Manifest {
            format: 1,
            dataset: "d".into(),
            job: "j".into(),
            fence: 0,
            validation: vec![],
            files: vec![file],
        };
        assert!(Manifest::parse(&serde_json::to_vec(&manifest).unwrap()).is_err(), "{path}");
    }
}

#[tokio::test]
async fn gc_removes_what_dead_publishers_left() {
    for place in [Place::memory(), Place::local()] {
        let registry = &place.registry;
        registry.publish(&place.snapshot("a-1", 1)).await.unwrap();
        for (job, fence) in [("dead-job", 2), ("live", 3), ("a-1", 9)] {
            registry.upload(&place.snapshot(job, fence)).await.unwrap();
        }
        let before = objects(registry).await;
        let live = |job: &str| job == "live";
        assert!(registry.gc("sixseven", TimeDelta::days(1), live).await.unwrap().is_empty());
        assert_eq!(objects(registry).await, before);
        let found = registry.garbage("sixseven", TimeDelta::zero(), live).await.unwrap();
        assert_eq!(objects(registry).await, before);
        let removed = registry.gc("sixseven", TimeDelta::zero(), live).await.unwrap();
        assert_eq!(removed, found);
        assert!(removed.iter().all(|garbage| garbage.version.is_none() && garbage.bytes > 1000));
        let removed: Vec<_> = removed.into_iter().map(|garbage| garbage.snapshot).collect();
        assert_eq!(removed, ["a-1-9", "dead-job-2"]);
        let after: Vec<_> =
            before.into_iter().filter(|path| !removed.iter().any(|gone| path.contains(gone))).collect();
        assert_eq!(objects(registry).await, after);
        registry.verify(&registry.resolve("sixseven", "latest").await.unwrap()).await.unwrap();
        assert!(registry.gc("sixseven", TimeDelta::zero(), live).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_probe_accepts_memory_and_folders_and_leaves_nothing() {
    for place in [Place::memory(), Place::local()] {
        probe_conditional_put(&place.registry.store, &place.registry.prefix).await.unwrap();
        assert!(objects(&place.registry).await.is_empty());
    }
}

#[tokio::test]
async fn addresses_that_are_no_store_are_refused() {
    for uri in ["", "gs://bucket/x", "s3://", "s3:///prefix"] {
        let error = open_store(uri).unwrap_err().told();
        assert!(error.contains("expected a folder, `s3://bucket/prefix` or `memory:`"), "{error}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(open_store(file.path().to_str().unwrap()).is_err());
}

#[tokio::test]
async fn two_registries_share_a_store_under_two_prefixes() {
    let place = Place::memory();
    let other = Registry::new(place.registry.store.clone(), Path::from("team/b"), &place.registry.key_file);
    place.registry.publish(&place.snapshot("a", 1)).await.unwrap();
    assert!(other.datasets().await.unwrap().is_empty());
    other.publish(&place.snapshot("a", 1)).await.unwrap();
    // Objects that are not the registry's do not disturb it.
    let stray = Path::from("team/b/sixseven/log/note.txt");
    other.store.put_opts(&stray, "x".into(), PutMode::Create.into()).await.unwrap();
    assert_eq!(other.dataset("sixseven").await.unwrap().versions.len(), 1);
    assert!(objects(&other).await.contains(&"team/b/sixseven/log/000000000000.json".to_string()));
    assert_eq!(place.registry.datasets().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_withheld_version_never_is_the_latest() {
    let place = Place::memory();
    let registry = &place.registry;
    registry.publish(&place.snapshot("job-a", 1)).await.unwrap();
    let mut worse = place.snapshot("job-b", 1);
    let outdone = Withdrawal::Outdone("worse than v1".into());
    worse.withheld = Some(outdone.clone());
    let withheld = registry.publish(&worse).await.unwrap();
    assert_eq!((withheld.number, &withheld.withdrawn), (2, &Some(outdone)));
    assert_eq!(registry.resolve("sixseven", "latest").await.unwrap().number, 1);
    assert_eq!(registry.resolve("sixseven", "v2").await.unwrap(), withheld);
    assert_eq!(registry.publish(&place.snapshot("job-c", 1)).await.unwrap().number, 3);
    assert_eq!(registry.resolve("sixseven", "latest").await.unwrap().number, 3);
    let mut failed = place.snapshot("job-d", 1);
    failed.withheld = Some(Withdrawal::Failed("it teaches nothing".into()));
    let published = registry.publish(&failed).await.unwrap();
    assert_eq!(published.withdrawn, failed.withheld);
    // somebody's words make no failure of it
    registry.yank("sixseven", 3, "it teaches nothing").await.unwrap();
    let yanked = registry.resolve("sixseven", "v3").await.unwrap();
    assert_eq!(yanked.withdrawn, Some(Withdrawal::Yanked("it teaches nothing".into())));
}
