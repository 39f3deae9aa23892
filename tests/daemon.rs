//! The daemon works on its queue: it is killed, stopped, told to cancel, and given specs it must
//! refuse; each job ends once.

mod serving;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use dpg_queue::{Job, Queue, State};
use dpg_registry::{Dataset, Registry, open_store};
use futures::StreamExt;
use object_store::path::Path as Prefix;
use serving::{Place, job, spec};
use tempfile::TempDir;
use uuid::Uuid;

fn place(config: &str) -> (TempDir, Place) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), config);
    (folder, place)
}

fn registry(folder: &Path) -> Registry {
    let (store, prefix) = open_store(&folder.join("data/registry").to_string_lossy()).unwrap();
    Registry::new(store, prefix, folder.join("data/signing-key.pem"))
}

async fn submit(queue: &Queue, spec: &str) -> Uuid {
    queue.submit(&job(spec, 3)).await.unwrap().job.id
}

async fn kinds(queue: &Queue, job: Uuid) -> Vec<String> {
    queue.events(job, 0, 1000).await.unwrap().into_iter().map(|event| event.kind).collect()
}

/// Asserts that the job is the one version of its dataset, and that it is sound.
async fn assert_published_once(folder: &Path, job: &Job) -> Dataset {
    assert_eq!(job.state, State::Succeeded, "{job:#?}");
    let registry = registry(folder);
    let dataset = registry.dataset(&job.name).await.unwrap();
    assert_eq!(dataset.versions.len(), 1, "{dataset:#?}");
    assert_eq!(dataset.versions[0].job, job.id.to_string());
    registry.verify(&dataset.versions[0]).await.unwrap();
    let result = job.result.as_ref().unwrap();
    assert_eq!(result["dataset"], dataset.versions[0].to_string());
    // what the run left is removed after the job has ended
    let (store, _) = open_store(&folder.join("data/registry").to_string_lossy()).unwrap();
    let (run, copies) = (folder.join("data/runs").join(job.id.to_string()), Prefix::from(".runs"));
    let started = Instant::now();
    while run.exists() || store.list(Some(&copies)).next().await.is_some() {
        assert!(started.elapsed() < Duration::from_mins(1), "the run's state is left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(registry.datasets().await.unwrap().len(), 1, "the copies' folder is no dataset");
    dataset
}

#[tokio::test]
async fn a_queued_spec_is_published() {
    let (folder, place) = place("");
    let queue = place.queue().await;
    let id = submit(&queue, &spec("plain", 2)).await;
    let mut daemon = place.start();
    let job = daemon.until(&queue, id, |job| job.state.has_ended()).await;
    assert_published_once(folder.path(), &job).await;
    let kinds = kinds(&queue, id).await;
    for kind in ["claimed", "started", "validation", "steps", "drawing", "published"] {
        assert!(kinds.iter().any(|other| other == kind), "`{kind}` is not in {kinds:?}");
    }
    assert_eq!(kinds.last().unwrap(), "succeeded");
    let progress = job.progress.unwrap();
    assert_eq!((progress["step"].as_u64(), progress["steps"].as_u64()), (Some(2), Some(2)));

    let token = folder.path().join("data/admin.token");
    assert_eq!(token.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(&token).unwrap();
    assert!(queue.authenticate(secret.trim()).await.is_ok());
    assert!(!daemon.log().contains(secret.trim()));
    assert!(daemon.terminate().await.success(), "{}", daemon.log());
    // another start keeps the token
    let mut daemon = place.start();
    let id = submit(&queue, &spec("plain", 2)).await;
    let job = daemon.until(&queue, id, |job| job.state.has_ended()).await;
    assert_eq!(job.result.unwrap()["version"], 2);
    assert_eq!(fs::read_to_string(&token).unwrap(), secret);
}

#[tokio::test]
async fn killed_in_the_middle_it_resumes() {
    let (folder, place) = place("");
    let queue = place.queue().await;
    let id = submit(&queue, &spec("killed", 12)).await;
    let mut daemon = place.start();
    daemon.until_event(&queue, id, "steps").await;
    daemon.kill();
    assert!(!kinds(&queue, id).await.contains(&"drawing".to_owned()), "it was too quick to be killed");
    // the run's folder is lost with its machine; the copy in the store is what is left
    fs::remove_dir_all(folder.path().join("data/runs")).unwrap();
    let mut daemon = place.start();
    let job = daemon.until(&queue, id, |job| job.state.has_ended()).await;
    assert_published_once(folder.path(), &job).await;
    let resumed = daemon.until_event(&queue, id, "resumed").await;
    assert!(resumed.detail["step"].as_u64().unwrap() > 0, "{resumed:?}");
    assert!(job.attempts >= 2, "{job:#?}");
    assert!(kinds(&queue, id).await.contains(&"lease_lost".to_owned()));
}

#[tokio::test]
async fn terminated_it_gives_the_job_back() {
    let (folder, place) = place("");
    let queue = place.queue().await;
    let id = submit(&queue, &spec("released", 12)).await;
    let mut daemon = place.start();
    daemon.until_event(&queue, id, "steps").await;
    assert!(daemon.terminate().await.success(), "{}", daemon.log());
    let job = queue.job(id).await.unwrap();
    assert_eq!((job.state, job.attempts), (State::Queued, 0), "{job:#?}\n{}", daemon.log());

    let mut daemon = place.start();
    let job = daemon.until(&queue, id, |job| job.state.has_ended()).await;
    assert_published_once(folder.path(), &job).await;
    assert!(kinds(&queue, id).await.contains(&"resumed".to_owned()));
    assert_eq!(job.attempts, 1);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (_folder, place) = place("");
    let queue = place.queue().await;
    let id = submit(&queue, &spec("twice", 500)).await;
    let mut daemon = place.start();
    daemon.until_event(&queue, id, "started").await;
    daemon.signal();
    daemon.signal();
    let status = daemon.wait().await;
    // between the two it may already have put the job away
    assert!(matches!(status.code(), Some(0 | 130)), "{status}\n{}", daemon.log());
}

#[tokio::test]
async fn a_cancelled_job_stops() {
    let (folder, place) = place("");
    let queue = place.queue().await;
    let id = submit(&queue, &spec("cancelled", 500)).await;
    let mut daemon = place.start();
    daemon.until_event(&queue, id, "steps").await;
    queue.cancel(id).await.unwrap();
    let job = daemon.until(&queue, id, |job| job.state.has_ended()).await;
    assert_eq!(job.state, State::Cancelled, "{job:#?}");
    assert!(registry(folder.path()).datasets().await.unwrap().is_empty());
    // the slot is free again
    let id = submit(&queue, &spec("next", 2)).await;
    let job = daemon.until(&queue, id, |job| job.state.has_ended()).await;
    assert_published_once(folder.path(), &job).await;
}

#[tokio::test]
async fn bad_specs_fail_for_good_and_block_nothing() {
    let (folder, place) = place("[allow]\nbuckets = [\"open\"]\n");
    let queue = place.queue().await;
    let plain = spec("bad", 2);
    let cases = [
        (
            plain.replace("embedded:target", "/etc/passwd"),
            vec!["target.model", "/etc/passwd", "allow.folders"],
        ),
        (
            plain.replace("embedded:prompts/articles.jsonl", "s3://closed/prompts.jsonl"),
            vec!["generator.prompts.path", "s3://closed/prompts.jsonl", "allow.buckets"],
        ),
        (
            plain.replace("embedded:held-out/es.jsonl", "../secrets.jsonl"),
            vec!["metric.data.path", "allow.folders"],
        ),
        (plain.replace("embedded:target", "hf:org/model"), vec!["target.model", "allow.hugging_face"]),
        (plain.replace("steps", "stpes"), vec!["policy.stpes", "did you mean"]),
        ("not a spec".to_owned(), vec!["not a spec"]),
        // a learning rate that no number survives
        (plain.replace("1e-4, eps_root", "1e38, eps_root"), vec!["finite", "learning rate"]),
    ];
    let mut daemon = place.start();
    for (spec, parts) in cases {
        let id = submit(&queue, &spec).await;
        let job = daemon.until(&queue, id, |job| job.state.has_ended()).await;
        assert_eq!((job.state, job.attempts), (State::Failed, 1), "{job:#?}");
        let error = job.error.unwrap();
        for part in parts {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }
    let id = submit(&queue, &spec("good", 2)).await;
    let job = daemon.until(&queue, id, |job| job.state.has_ended()).await;
    assert_published_once(folder.path(), &job).await;
}

#[tokio::test]
async fn a_job_that_kills_its_workers_ends() {
    let (folder, place) = place("");
    let queue = place.queue().await;
    let id = queue.submit(&job(&spec("poison", 500), 2)).await.unwrap().job.id;
    let mut daemon = place.start();
    for attempt in 1..=2 {
        daemon.until(&queue, id, |job| job.attempts == attempt && job.state == State::Running).await;
        daemon.replace();
    }
    let job = daemon.until(&queue, id, |job| job.state.has_ended()).await;
    assert_eq!((job.state, job.attempts), (State::Failed, 2), "{job:#?}");
    assert!(job.error.unwrap().contains("stopped renewing its lease"));
    assert!(registry(folder.path()).datasets().await.unwrap().is_empty());
}
