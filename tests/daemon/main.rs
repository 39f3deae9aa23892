//! The daemon works on its queue: it is killed, stopped, told to cancel, and given specs it must
//! refuse; each job ends once.

#[path = "../serving.rs"]
mod serving;
mod webhooks;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use dpg_queue::cron::{Catchup, Overlap};
use dpg_queue::{Filter, Job, NewJob, NewSchedule, Queue, State};
use dpg_registry::{Dataset, Registry, Withdrawal, open_store};
use dpg_spec::{Spec, Syntax};
use futures::StreamExt;
use object_store::path::Path as Prefix;
use serde_json::json;
use serving::{Place, job, spec};
use sqlx::{AnyConnection, AssertSqlSafe, Connection};
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
    assert_eq!(job.result.as_ref().unwrap()["dataset"], dataset.versions[0].to_string());
    // what the run left is removed after the job has ended
    let (store, _) = open_store(&folder.join("data/registry").to_string_lossy()).unwrap();
    let (run, copies) = (folder.join("data/runs").join(job.id.to_string()), Prefix::from(".runs"));
    let started = Instant::now();
    while run.exists() || store.list(Some(&copies)).next().await.is_some() {
        assert!(started.elapsed() < Duration::from_mins(1), "the run's state is left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(registry.datasets().await.unwrap().len(), 1, "the copies' folder is not a dataset");
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
    // what TensorBoard shows stays
    let events = fs::read_dir(folder.path().join("data/tensorboard/plain").join(id.to_string())).unwrap();
    let events = events.map(|file| fs::read(file.unwrap().path()).unwrap()).collect::<Vec<_>>().concat();
    for tag in ["train/phi", "train/reward_std", "policy/kl", "validation/phi", "validation/loss"] {
        assert!(events.windows(tag.len()).any(|part| part == tag.as_bytes()), "no `{tag}`");
    }
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

/// The spec that runs is the one that was shown, whatever the program would read in the text by now.
#[tokio::test]
async fn the_spec_that_was_shown_runs() {
    let (folder, place) = place("");
    let queue = place.queue().await;
    let written = spec("shown", 1);
    let shown = Spec::parse(&written.replace("examples = 8", "examples = 4"), Syntax::Toml).unwrap();
    let new = NewJob { resolved: serde_json::to_string(&shown).unwrap(), ..job(&written, 3) };
    let id = queue.submit(&new).await.unwrap().job.id;
    // it cleans up after the job has ended
    let mut daemon = place.start();
    let job = daemon.until(&queue, id, |job| job.state.has_ended()).await;
    let dataset = assert_published_once(folder.path(), &job).await;
    assert_eq!(dataset.versions[0].rows, 4);
}

#[tokio::test]
async fn killed_in_the_middle_it_resumes() {
    let (folder, place) = place("");
    let queue = place.queue().await;
    let id = submit(&queue, &spec("killed", 12)).await;
    let mut daemon = place.start();
    daemon.until_event(&queue, id, "started").await;
    let (store, _) = open_store(&folder.path().join("data/registry").to_string_lossy()).unwrap();
    while store.list(Some(&Prefix::from(".runs"))).next().await.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
            vec!["metric.data.path", "relative"],
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
#[ignore = "waits for workers to start again; .ci/run runs it"]
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

/// Two daemons share a queue and a store, and find three due times that were missed.
#[tokio::test]
async fn missed_due_times_are_made_up_for_once() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let database = format!("sqlite:{}", shared.join("queue.db").display());
    let store = shared.join("store");
    let queue = Queue::open(&database).await.unwrap();
    let schedule = NewSchedule {
        name: "nightly".into(),
        cron: "30 2 * * *".into(),
        time_zone: "Europe/Berlin".into(),
        spec: spec("nightly", 2),
        overlap: Overlap::Queue,
        catchup: Catchup::All,
        jitter: Duration::ZERO,
        priority: 0,
        max_attempts: 3,
    };
    let made = queue.put_schedule(&schedule).await.unwrap();
    let mut connection = AnyConnection::connect(&database).await.unwrap();
    let day = i64::try_from(Duration::from_hours(24).as_millis()).unwrap();
    let statement = format!("update schedules set cursor_at = cursor_at - {}", 3 * day);
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();

    let config = format!("database = \"{database}\"\nstore = \"{}\"\n", store.display());
    let mut daemons: Vec<_> =
        (0..2).map(|number| Place::new(&folder.path().join(number.to_string()), &config).start()).collect();
    let started = Instant::now();
    let of_schedule = Filter { schedule: Some(made.id), ..Filter::default() };
    let jobs = loop {
        let jobs = queue.list(&of_schedule, None, 100).await.unwrap().jobs;
        if jobs.len() >= 3 && jobs.iter().all(|job| job.state.has_ended()) {
            break jobs;
        }
        assert!(started.elapsed() < Duration::from_mins(3), "{jobs:#?}\n{}", daemons[0].log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    for daemon in &mut daemons {
        assert!(daemon.terminate().await.success(), "{}", daemon.log());
    }
    assert_eq!(jobs.len(), 3, "{jobs:#?}");
    let due: BTreeSet<_> = jobs.iter().map(|job| job.due.unwrap()).collect();
    assert_eq!(due.len(), 3, "{due:?}");
    assert!(jobs.iter().all(|job| job.state == State::Succeeded), "{jobs:#?}");
    let (store, prefix) = open_store(&store.to_string_lossy()).unwrap();
    let dataset =
        Registry::new(store, prefix, folder.path().join("key.pem")).dataset("nightly").await.unwrap();
    assert_eq!(dataset.versions.len(), 3);
}

/// Three runs of a schedule, the second with another policy: whichever of the two is better on
/// validation is the latest in the end, and one of the others was withheld.
#[tokio::test]
async fn a_scheduled_version_that_is_worse_is_not_the_latest() {
    let (folder, place) = place("");
    let queue = place.queue().await;
    let plain = spec("contest", 2);
    let schedule = NewSchedule {
        name: "contest".into(),
        cron: "0 0 29 2 *".into(),
        time_zone: "UTC".into(),
        spec: plain.clone(),
        overlap: Overlap::Queue,
        catchup: Catchup::None,
        jitter: Duration::ZERO,
        priority: 0,
        max_attempts: 3,
    };
    let schedule = queue.put_schedule(&schedule).await.unwrap();
    let other = plain.replace("[policy]", "[policy]\nlearning_rate = 3e-3");
    let mut daemon = place.start();
    let mut comparisons = vec![];
    for spec in [&plain, &other, &plain] {
        let id = queue.run_schedule(&schedule, &job(spec, 3)).await.unwrap().id;
        let job = daemon.until(&queue, id, |job| job.state.has_ended()).await;
        assert_eq!(job.state, State::Succeeded, "{job:#?}");
        let events = queue.events(id, 0, 1000).await.unwrap();
        comparisons
            .extend(events.into_iter().find(|event| event.kind == "compared").map(|event| event.detail));
    }
    assert_eq!(comparisons.len(), 2, "the first has nothing to be compared with");
    let (first, second) = (&comparisons[0], &comparisons[1]);
    assert_eq!(first["champion"], "contest@v1");
    let better = first["phi"].as_f64().unwrap() >= first["champion_phi"].as_f64().unwrap();
    assert_ne!(first["phi"], first["champion_phi"], "the policies make no difference");
    assert_eq!((&first["latest"], &second["latest"]), (&json!(better), &json!(!better)));
    assert_eq!(second["champion"], if better { "contest@v2" } else { "contest@v1" });
    let dataset = registry(folder.path()).dataset("contest").await.unwrap();
    assert_eq!(dataset.versions.len(), 3);
    let withheld: Vec<_> = dataset.versions.iter().filter(|version| version.withdrawn.is_some()).collect();
    assert_eq!(withheld.len(), 1, "{dataset:#?}");
    assert_eq!(withheld[0].number, if better { 3 } else { 2 });
    let reason = withheld[0].withdrawn.as_ref().unwrap();
    assert!(matches!(reason, Withdrawal::Outdone(why) if why.contains("worse than")), "{reason}");
    assert_eq!(dataset.latest().unwrap().number, if better { 2 } else { 3 });
}

#[tokio::test]
async fn a_warm_start_goes_on_with_the_last_generator() {
    let (folder, place) = place("");
    let queue = place.queue().await;
    let mut daemon = place.start();
    let plain = spec("cold", 2);
    let warm = spec("warm", 2).replace("[policy]", "[policy]\nlearning_rate = 3e-3\nwarm_start = true");
    let mut starts = vec![];
    for spec in [&plain, &plain, &warm, &warm] {
        let id = submit(&queue, spec).await;
        let job = daemon.until(&queue, id, |job| job.state.has_ended()).await;
        assert_eq!(job.state, State::Succeeded, "{job:#?}");
        let events = queue.events(id, 0, 1000).await.unwrap();
        let validation = events.iter().find(|event| event.kind == "validation").unwrap();
        assert_eq!(validation.detail["step"], 0);
        starts.push(validation.detail["phi"].as_f64().unwrap());
    }
    assert_eq!(starts[0], starts[1]);
    assert_eq!(starts[0], starts[2], "the first of a dataset has nothing to start from");
    assert_ne!(starts[2], starts[3]);
    let (store, _) = open_store(&folder.path().join("data/registry").to_string_lossy()).unwrap();
    let kept: Vec<_> = store.list(Some(&Prefix::from(".generators"))).collect().await;
    assert_eq!(kept.len(), 1, "{kept:?}");
}
