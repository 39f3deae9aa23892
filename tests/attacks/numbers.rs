//! The numbers of a spec: more than the machine has. They are refused, or end one worker process and the
//! job that asked for it; the daemon goes on.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use dpg_queue::{Queue, State};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::serving::{Daemon, Place, job, spec};
use crate::{IDLE, PATIENCE, Target, sent};

/// Processes that this one started.
pub(crate) fn children(process: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent = |number: &u32| {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        stat.rsplit(") ").next()?.split(' ').nth(1)?.parse::<u32>().ok()
    };
    numbers.filter(|number| parent(number) == Some(process)).collect()
}

/// The daemon's one worker process.
pub(crate) async fn worker(daemon: &mut Daemon) -> u32 {
    let started = Instant::now();
    loop {
        if let [worker] = children(daemon.id())[..] {
            return worker;
        }
        assert!(started.elapsed() < PATIENCE && !daemon.has_ended(), "no worker process:\n{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// Submits a spec past the daemon's own checks.
pub(crate) async fn enqueue(queue: &Queue, spec: &str) -> Uuid {
    queue.submit(&job(spec, 3)).await.unwrap().job.id
}

/// Every number of the schema, by its path and the spec that it stands in.
fn numbers(schema: &Value, definitions: &Value, path: &str, found: &mut Vec<(String, f64)>) {
    if let Some(name) = schema["$ref"].as_str() {
        return numbers(&definitions[name.trim_start_matches("#/$defs/")], definitions, path, found);
    }
    let is_number = ["integer", "number"].iter().any(|kind| match &schema["type"] {
        Value::Array(names) => names.iter().any(|name| name == kind),
        one => one == kind,
    });
    if is_number && let Some(most) = schema["maximum"].as_f64() {
        found.push((path.to_owned(), most));
    }
    for inside in schema["anyOf"].as_array().into_iter().flatten() {
        numbers(inside, definitions, path, found);
    }
    for (key, inside) in schema["properties"].as_object().into_iter().flatten() {
        numbers(inside, definitions, format!("{path}/{key}").as_str(), found);
    }
}

#[tokio::test]
async fn a_number_over_its_bound_is_refused_by_its_key() {
    let daemon = Target::start(IDLE).await;
    let schema = dpg_spec::Spec::json_schema();
    let mut found = vec![];
    numbers(&schema, &schema["$defs"], "", &mut found);
    assert!(found.len() > 20, "{found:?}");
    let whole: Value =
        serde_json::to_value(dpg_spec::Spec::parse(&spec("large", 2), dpg_spec::Syntax::Toml).unwrap())
            .unwrap();
    let mut taught = whole.clone();
    taught["generator"] =
        json!({ "kind": "api", "teacher": "a", "model": "m", "prompts": whole["generator"]["prompts"] });
    let mut instructed = whole.clone();
    instructed["generator"] = json!({
        "kind": "rubric",
        "writer": whole["generator"],
        "teacher": { "kind": "api", "teacher": "a", "model": "m", "max_completion_tokens": 8 },
    });
    for (path, most) in found {
        for value in [json!((most as u64).saturating_add(1)), json!(u64::MAX), json!(1e300)] {
            // a real number has a bound that whole ones do not reach
            if most > 1e30 && value.is_u64() {
                continue;
            }
            let key = path.trim_start_matches('/').replace('/', ".");
            let mut answers = vec![];
            // a key of a generator is one of some kind
            for whole in [&whole, &taught, &instructed] {
                let mut spec = whole.clone();
                let mut place = Some(&mut spec);
                for part in key.split('.') {
                    place = place.filter(|at| at.is_object() || at.is_null()).map(|at| &mut at[part]);
                }
                // another kind has a text where this key would stand
                let Some(place) = place else { continue };
                *place = value.clone();
                let request = daemon.request(Method::POST, "/v1/jobs").json(&json!({ "spec": spec }));
                answers.push(sent(request).await);
            }
            let refused = |(status, body): &(u16, String)| *status == 422 && body.contains(&key);
            assert!(answers.iter().any(refused), "{key}: {answers:?}");
        }
    }
}

/// Each number is within its bound, and what they ask for together no machine has.
const TOGETHER: [(&str, &str, &str); 2] = [
    (
        "prompts_per_step = 2\ngroup_size = 2",
        "prompts_per_step = 1000000\ngroup_size = 1000000",
        "prompts_per_step",
    ),
    ("batch_size = 8", "batch_size = 8\nepochs = 1000000", "target.sft.epochs"),
];

#[tokio::test]
async fn more_memory_than_there_is_is_refused_and_again_before_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), "");
    let queue = place.queue().await;
    let mut daemon = place.start();
    let mut jobs = vec![];
    for (from, to, key) in TOGETHER {
        let mut text = spec("large", 2).replace(from, to);
        if key == "target.sft.epochs" {
            text = text.replace("examples = 8", "examples = 10000000");
        }
        jobs.push((enqueue(&queue, &text).await, text, key));
    }
    for (id, text, key) in jobs {
        let ended = daemon.until(&queue, id, |job| job.state.has_ended()).await;
        assert_eq!((ended.state, ended.attempts), (State::Failed, 1), "{ended:#?}");
        let error = ended.error.unwrap();
        for part in [key, "the job needs about", "this machine has", "lower it"] {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
        let url = fs::read_to_string(folder.path().join("data/daemon.url")).unwrap();
        let token = fs::read_to_string(folder.path().join("data/admin.token")).unwrap();
        let request = client().post(format!("{url}/v1/jobs")).bearer_auth(token.trim());
        let (status, body) = sent(request.json(&json!({ "spec": text }))).await;
        assert!(status == 422 && body.contains(key) && body.contains("this machine has"), "{status} {body}");
    }
    let good = enqueue(&queue, &spec("still-here", 2)).await;
    let ended = daemon.until(&queue, good, |job| job.state.has_ended()).await;
    assert_eq!(ended.state, State::Succeeded, "{ended:#?}");
}

/// A process that is gone takes its job with it, and nothing else: the next one works, the daemon has
/// counted it, and nobody tries it again.
#[tokio::test]
async fn a_job_that_ends_its_process_fails_for_good_and_alone() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), "");
    let queue = place.queue().await;
    let mut daemon = place.start();
    for (signal, said) in [("ABRT", "signal 6"), ("ILL", "signal 4"), ("KILL", "memory runs out")] {
        let id = enqueue(&queue, &spec("poison", 500)).await;
        daemon.until_event(&queue, id, "started").await;
        let before = worker(&mut daemon).await;
        let sent = Command::new("kill").args([format!("-{signal}"), before.to_string()]).status().unwrap();
        assert!(sent.success());
        let ended = daemon.until(&queue, id, |job| job.state.has_ended()).await;
        assert_eq!((ended.state, ended.attempts), (State::Failed, 1), "{ended:#?}");
        let error = ended.error.unwrap();
        assert!(error.contains("ended its worker process") && error.contains(said), "{error}");
    }
    let good = enqueue(&queue, &spec("good", 2)).await;
    let ended = daemon.until(&queue, good, |job| job.state.has_ended()).await;
    assert_eq!(ended.state, State::Succeeded, "{ended:#?}");
    let url = fs::read_to_string(folder.path().join("data/daemon.url")).unwrap();
    let started = Instant::now();
    for line in [
        "dpg_errors_total{kind=\"crashed\"} 3",
        "dpg_published_total{dataset=\"good\"} 1",
        "dpg_run_step{dataset=\"good\"} 2",
        "dpg_step_seconds_count{dataset=\"good\"} 2",
    ] {
        loop {
            let metrics = sent(client().get(format!("{url}/metrics"))).await.1;
            if metrics.contains(line) {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "`{line}` is not in {metrics}");
        }
    }
    assert!(daemon.terminate().await.success(), "{}", daemon.log());
}

#[tokio::test]
async fn a_worker_ends_with_its_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), "");
    let queue = place.queue().await;
    let id = enqueue(&queue, &spec("orphan", 500)).await;
    let mut daemon = place.start();
    daemon.until_event(&queue, id, "started").await;
    let worker = worker(&mut daemon).await;
    daemon.kill();
    let started = Instant::now();
    while fs::read_to_string(format!("/proc/{worker}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(started.elapsed() < PATIENCE, "process {worker} works on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
