//! Jobs and schedules by HTTP.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Daemon, IDLE, SPEC, good, problem};

#[tokio::test]
async fn a_spec_is_submitted_in_each_form() {
    let daemon = Daemon::start(IDLE).await;
    let as_object = json!({"name": "object", "target": {"model": "embedded:target"},
        "metric": {"kind": "weight_norm"}, "generator": {"model": "embedded:target"}});
    for (name, body) in [
        ("object", json!({ "spec": as_object, "priority": 7 })),
        ("text", json!({ "spec": SPEC.replace("tiny", "text") })),
        ("json-text", json!({ "spec": as_object.to_string().replace("object", "json-text") })),
    ] {
        let response = daemon.request(Method::POST, "/v1/jobs").json(&body).send().await.unwrap();
        assert_eq!(response.status(), 201);
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        let submitted: Value = response.json().await.unwrap();
        assert_eq!(submitted["created"], true);
        let job = daemon.get(&location).await;
        assert_eq!((&job["id"], &job["state"]), (&submitted["job"]["id"], &json!("queued")));
        assert_eq!(
            (&job["name"], &job["priority"]),
            (&json!(name), &json!(body["priority"].as_i64().unwrap_or(0)))
        );
        assert_eq!(job["resolved"]["name"], name);
        assert_eq!(job["resolved"]["target"]["sft"]["epochs"], 1);
    }
    let request = daemon.request(Method::POST, "/v1/jobs?priority=-3");
    let submitted = good(request.header("content-type", "application/toml; charset=utf-8").body(SPEC)).await;
    assert_eq!(submitted["job"]["priority"], -3);
    assert_eq!(daemon.get("/v1/jobs/tiny").await["spec"], SPEC, "the spec is kept as it was written");
}

#[tokio::test]
async fn a_key_makes_one_job() {
    let daemon = Daemon::start(IDLE).await;
    let submit = |spec: String| {
        let request = daemon.request(Method::POST, "/v1/jobs").header("idempotency-key", "nightly 1");
        request.json(&json!({ "spec": spec })).send()
    };
    let first: Value = submit(SPEC.into()).await.unwrap().json().await.unwrap();
    let again = submit(format!("# the same\n{SPEC}")).await.unwrap();
    assert_eq!(again.status(), 200);
    let again: Value = again.json().await.unwrap();
    assert_eq!((&again["created"], &again["job"]["id"]), (&json!(false), &first["job"]["id"]));
    let other = submit(SPEC.replace("tiny", "other")).await.unwrap();
    let refused = problem(other, 409, "conflict").await;
    assert!(refused["hint"].as_str().unwrap().contains("use another key"), "{refused}");
}

#[tokio::test]
async fn jobs_are_listed_by_filter_and_page() {
    let daemon = Daemon::start(IDLE).await;
    for number in 0..5 {
        daemon.submit(&SPEC.replace("tiny", &format!("set-{}", number % 2))).await;
    }
    daemon.post("/v1/jobs/set-1/cancel").await;
    let ids = |page: &Value| -> Vec<String> {
        page["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().into()).collect()
    };
    let all = ids(&daemon.get("/v1/jobs").await);
    assert_eq!(all.len(), 5);
    assert!(all.is_sorted_by(|newer, older| newer > older), "{all:?}");
    let (mut paged, mut path) = (vec![], "/v1/jobs?limit=2".to_owned());
    loop {
        let page = daemon.get(&path).await;
        paged.extend(ids(&page));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/jobs?limit=2&cursor={next}");
    }
    assert_eq!(paged, all);
    assert_eq!(ids(&daemon.get("/v1/jobs?name=set-0").await).len(), 3);
    assert_eq!(ids(&daemon.get("/v1/jobs?state=cancelled").await), [all[1].clone()]);
    assert_eq!(ids(&daemon.get("/v1/jobs?since=2100-01-01T00:00:00Z").await).len(), 0);
}

#[tokio::test]
async fn a_job_is_cancelled_and_tried_again() {
    let daemon = Daemon::start(IDLE).await;
    daemon.submit(SPEC).await;
    let cancelled = daemon.post("/v1/jobs/tiny/cancel").await;
    assert_eq!(cancelled["state"], "cancelled");
    let id = cancelled["id"].as_str().unwrap();
    assert_eq!(daemon.post(&format!("/v1/jobs/{id}/retry")).await["state"], "queued");
    let events = daemon.get("/v1/jobs/tiny/events").await;
    let kinds: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["submitted", "cancelled", "retried"]);
    let rest = daemon.get("/v1/jobs/tiny/events?after=1&limit=1").await;
    assert_eq!(rest["events"][0]["seq"], 2);
    assert_eq!(rest["events"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_follower_hears_everything_once_until_the_end() {
    let daemon = Daemon::start(IDLE).await;
    daemon.submit(SPEC).await;
    let logs = |last: Option<&str>| {
        let request = daemon.request(Method::GET, "/v1/jobs/tiny/logs");
        match last {
            Some(last) => request.header("last-event-id", last.to_owned()),
            None => request,
        }
    };
    let mut stream = logs(None).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut heard = String::new();
    while !heard.contains("\n\n") {
        heard += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
    }
    assert!(heard.contains("\"submitted\"") && heard.contains("id: 1"), "{heard}");
    daemon.post("/v1/jobs/tiny/cancel").await;
    while let Some(bytes) = stream.chunk().await.unwrap() {
        heard += std::str::from_utf8(&bytes).unwrap();
    }
    assert_eq!(heard.matches("event: event").count(), 2, "{heard}");
    assert!(heard.trim_end().lines().rev().nth(1).unwrap().contains("event: end"), "{heard}");

    let resumed = logs(Some("1")).send().await.unwrap().text().await.unwrap();
    assert_eq!(resumed.matches("event: event").count(), 1, "{resumed}");
    assert!(resumed.contains("id: 2") && resumed.contains("event: end"), "{resumed}");
}

#[tokio::test]
async fn a_schedule_lives() {
    let daemon = Daemon::start(IDLE).await;
    let body = json!({"cron": "0 2 * * *", "time_zone": "Europe/Berlin", "spec": SPEC, "overlap": "queue",
        "jitter_seconds": 60, "priority": 2});
    let put = good(daemon.request(Method::PUT, "/v1/schedules/nightly").json(&body)).await;
    assert_eq!(put["upcoming"].as_array().unwrap().len(), 5);
    assert_eq!((&put["overlap"], &put["catchup"]), (&json!("queue"), &json!("one")));
    assert_eq!(put["next"], put["upcoming"][0]);

    let again = good(daemon.request(Method::PUT, "/v1/schedules/nightly").json(&body)).await;
    assert_eq!(again["id"], put["id"]);
    assert!(daemon.post("/v1/schedules/nightly/pause").await["paused"].is_string());
    let list = daemon.get("/v1/schedules").await;
    assert_eq!(
        (list["schedules"][0]["next"].clone(), &list["schedules"][0]["name"]),
        (json!(null), &json!("nightly"))
    );
    let job = daemon.post("/v1/schedules/nightly/run").await;
    assert_eq!((&job["schedule"], &job["priority"]), (&put["id"], &json!(2)));
    assert!(daemon.post("/v1/schedules/nightly/resume").await["paused"].is_null());

    let gone = daemon.request(Method::DELETE, "/v1/schedules/nightly").send().await.unwrap();
    assert_eq!(gone.status(), 204);
    let gone = daemon.request(Method::GET, "/v1/schedules/nightly").send().await.unwrap();
    problem(gone, 404, "not-found").await;

    for (member, value, said) in [
        ("cron", "61 * * * *", "61 * * * *"),
        ("cron", "0 0 30 2 *", "never falls due"),
        ("time_zone", "Mars/Base", "Mars/Base"),
    ] {
        let mut wrong = body.clone();
        wrong[member] = json!(value);
        let refused = daemon.request(Method::PUT, "/v1/schedules/wrong").json(&wrong).send().await.unwrap();
        let refused = problem(refused, 422, "invalid-value").await;
        assert!(refused["detail"].as_str().unwrap().contains(said), "{refused}");
    }
}
