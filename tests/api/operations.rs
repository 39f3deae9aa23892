//! Health, metrics, the description of the API, TLS, and going down.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use reqwest::Method;
use serde_json::Value;

use crate::{Daemon, IDLE, SPEC, dpg, fail, folder, succeed};

#[tokio::test]
async fn the_description_lists_every_route() {
    let daemon = Daemon::start(IDLE).await;
    let document: Value =
        daemon.anonymous(Method::GET, "/v1/openapi.json").send().await.unwrap().json().await.unwrap();
    let mut found = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            found.insert(format!("{} {path}", method.to_uppercase()));
            assert!(operation["responses"].as_object().is_some_and(|answers| !answers.is_empty()), "{path}");
        }
    }
    let expected = [
        "DELETE /v1/schedules/{name}",
        "DELETE /v1/session",
        "DELETE /v1/tokens/{token}",
        "GET /healthz",
        "GET /metrics",
        "GET /readyz",
        "GET /v1/audit",
        "GET /v1/datasets",
        "GET /v1/datasets/{dataset}",
        "GET /v1/datasets/{dataset}/versions/{reference}",
        "GET /v1/datasets/{dataset}/versions/{reference}/compare",
        "GET /v1/datasets/{dataset}/versions/{reference}/evidence",
        "GET /v1/datasets/{dataset}/versions/{reference}/files/{path}",
        "GET /v1/datasets/{dataset}/versions/{reference}/rewards",
        "GET /v1/datasets/{dataset}/versions/{reference}/rows",
        "GET /v1/deliveries",
        "GET /v1/jobs",
        "GET /v1/jobs/{job}",
        "GET /v1/jobs/{job}/events",
        "GET /v1/jobs/{job}/logs",
        "GET /v1/jobs/{job}/series",
        "GET /v1/overview",
        "GET /v1/overview/live",
        "GET /v1/proof",
        "GET /v1/schedules",
        "GET /v1/schedules/{name}",
        "GET /v1/session",
        "GET /v1/specs/schema",
        "GET /v1/specs/templates",
        "GET /v1/tokens",
        "POST /v1/datasets/{dataset}/versions/{reference}/attestations",
        "POST /v1/datasets/{dataset}/versions/{reference}/yank",
        "POST /v1/jobs",
        "POST /v1/jobs/{job}/cancel",
        "POST /v1/jobs/{job}/retry",
        "POST /v1/schedules/{name}/pause",
        "POST /v1/schedules/{name}/resume",
        "POST /v1/schedules/{name}/run",
        "POST /v1/session",
        "POST /v1/specs/check",
        "POST /v1/specs/plan",
        "POST /v1/tokens",
        "PUT /v1/datasets/{dataset}/tags/{tag}",
        "PUT /v1/jobs/{job}/priority",
        "PUT /v1/schedules/{name}",
    ];
    assert_eq!(found, expected.map(str::to_owned).into());
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "`{name}` is referred to and not described");
    }
}

#[tokio::test]
async fn metrics_tell_the_queue_and_the_requests() {
    let daemon = Daemon::start(IDLE).await;
    daemon.submit(SPEC).await;
    assert_eq!(
        daemon.anonymous(Method::GET, "/readyz").send().await.unwrap().text().await.unwrap(),
        "ready\n"
    );
    let metrics = daemon.anonymous(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    for line in [
        "dpg_jobs{state=\"queued\"} 1",
        "dpg_jobs{state=\"running\"} 0",
        "dpg_http_requests_total{method=\"POST\",route=\"/v1/jobs\",status=\"201\"} 1",
        "dpg_http_request_seconds_count{method=\"POST\",route=\"/v1/jobs\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn tls_is_spoken_if_there_is_a_certificate() {
    let folder = folder();
    let (pem, key) = (folder.path().join("localhost.pem"), folder.path().join("localhost.key"));
    fs::write(&pem, include_str!("tls/localhost.pem")).unwrap();
    fs::write(&key, include_str!("tls/localhost.key")).unwrap();
    let settings = format!("{IDLE}[tls]\ncertificate = {pem:?}\nkey = {key:?}\n");
    let daemon = Daemon::start_in(folder, &settings).await;
    assert!(daemon.url.starts_with("https://"), "{}", daemon.url);
    assert!(daemon.log().contains(&format!("dpg serves {}\n", daemon.url)), "{}", daemon.log());
    daemon.submit(SPEC).await;
    let mut list = dpg(daemon.path(), &["list"]);
    assert!(succeed(list.env("SSL_CERT_FILE", &pem)).contains("tiny"));
    let plain = daemon.url.replace("https://", "http://");
    assert!(daemon.http.get(format!("{plain}/healthz")).send().await.is_err());
}

#[test]
fn an_open_address_needs_tls_or_consent() {
    let refused = fail(&mut dpg(folder().path(), &["serve", "--listen", "0.0.0.0:0"]));
    assert!(refused.contains("[tls]") && refused.contains("insecure = true"), "{refused}");
}

#[tokio::test]
async fn a_daemon_goes_down_although_somebody_follows() {
    let daemon = Daemon::start(IDLE).await;
    daemon.submit(SPEC).await;
    let mut stream = daemon.request(Method::GET, "/v1/jobs/tiny/logs").send().await.unwrap();
    stream.chunk().await.unwrap().expect("the first event");
    let folder = daemon.terminate();
    let rest = stream.text().await.unwrap();
    assert!(!rest.contains("event: end"), "{rest}");
    assert!(!folder.path().join("data/daemon.url").exists());
    // the folder answers for itself now
    assert!(succeed(&mut dpg(folder.path(), &["list"])).contains("tiny"));
}

#[tokio::test]
async fn a_follower_outlives_its_daemon() {
    let daemon = Daemon::start(IDLE).await;
    daemon.submit(SPEC).await;
    let url = daemon.url.clone();
    let mut follower = dpg(daemon.path(), &["logs", "tiny", "-f", "--url", &url, "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let folder = daemon.terminate();
    let daemon = Daemon::start_at(url.strip_prefix("http://").unwrap(), folder, IDLE).await;
    daemon.post("/v1/jobs/tiny/cancel").await;
    let heard: Vec<Value> = std::iter::once(first)
        .chain(lines.map(Result::unwrap))
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect();
    let kinds: Vec<_> = heard.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["submitted", "cancelled"]);
    // whoever follows a job hears from the exit code how it ended
    assert_eq!(follower.wait().unwrap().code(), Some(1));
}

#[tokio::test]
async fn a_request_that_does_not_come_is_given_up() {
    let daemon = Daemon::start("[worker]\nslots = 0\n[limits]\nrequest_seconds = 1\n").await;
    let address = daemon.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST /v1/jobs HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{{",
        daemon.token
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("urn:dpg:problem:timeout"), "{answer}");
}
