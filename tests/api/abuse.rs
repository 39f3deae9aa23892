//! Those who do it wrong: each is told so with the right status, and no secret gets into the log.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Daemon, IDLE, SPEC, problem};

/// Addresses that need no token.
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/v1/proof"];

#[tokio::test]
async fn every_address_wants_a_token() {
    let daemon = Daemon::start(IDLE).await;
    let document: Value =
        daemon.anonymous(Method::GET, "/v1/openapi.json").send().await.unwrap().json().await.unwrap();
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let path = path.replace(['{', '}'], "");
            let response = daemon.anonymous(method, &path).send().await.unwrap();
            if OPEN.contains(&path.as_str()) {
                let without_nonce = path == "/v1/proof";
                assert_eq!(response.status(), if without_nonce { 400 } else { 200 }, "{path}");
                continue;
            }
            assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"dpg\"");
            problem(response, 401, "unauthorized").await;
            asked += 1;
        }
    }
    assert!(asked >= 22, "{asked}");
}

#[tokio::test]
async fn bad_tokens_are_refused() {
    let daemon = Daemon::start(IDLE).await;
    let short = json!({"name": "short", "scopes": ["read"],
        "expires": chrono::Utc::now() + chrono::TimeDelta::milliseconds(800)});
    let short = daemon.request(Method::POST, "/v1/tokens").json(&short).send().await.unwrap();
    let short = short.json::<Value>().await.unwrap()["secret"].as_str().unwrap().to_owned();
    let revoked = daemon.token("revoked", &["read"]).await;
    daemon.request(Method::DELETE, "/v1/tokens/revoked").send().await.unwrap();
    let last = if daemon.token.ends_with('0') { '1' } else { '0' };
    let wrong = format!("{}{last}", &daemon.token[..daemon.token.len() - 1]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (token, why) in
        [("nonsense", "unknown"), (wrong.as_str(), "unknown"), (&short, "expired"), (&revoked, "revoked")]
    {
        let response = daemon.anonymous(Method::GET, "/v1/jobs").bearer_auth(token).send().await.unwrap();
        let refused = problem(response, 401, "unauthorized").await;
        assert!(refused["detail"].as_str().unwrap().contains(why), "{refused}");
    }
    for header in ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", &daemon.token] {
        let request = daemon.anonymous(Method::GET, "/v1/jobs").header("authorization", header);
        problem(request.send().await.unwrap(), 401, "unauthorized").await;
    }
}

#[tokio::test]
async fn a_scope_is_what_it_says() {
    let daemon = Daemon::start(IDLE).await;
    daemon.submit(SPEC).await;
    let reader = daemon.token("reader", &["read"]).await;
    let submitter = daemon.token("submitter", &["submit"]).await;
    let both = daemon.token("both", &["read", "submit"]).await;
    for (method, path, allowed) in [
        (Method::GET, "/v1/jobs", vec![&reader, &both]),
        (Method::POST, "/v1/jobs/tiny/cancel", vec![&submitter, &both]),
        (Method::GET, "/v1/tokens", vec![]),
        (Method::DELETE, "/v1/schedules/none", vec![]),
    ] {
        for token in [&reader, &submitter, &both] {
            let request = daemon.anonymous(method.clone(), path).bearer_auth(token);
            let response = request.send().await.unwrap();
            if allowed.contains(&token) {
                assert!(response.status().is_success(), "{path}");
            } else {
                problem(response, 403, "forbidden").await;
            }
        }
    }
}

#[tokio::test]
async fn bad_bodies_are_refused() {
    let daemon = Daemon::start("[worker]\nslots = 0\n[limits]\nbody_bytes = 5000\n").await;
    let spec = |spec: String| json!({ "spec": spec }).to_string().into_bytes();
    let json = "application/json";
    for (kind, body, status, problem_kind) in [
        (json, b"{\"spec\": ".to_vec(), 400, "malformed-body"),
        (json, b"\xff\xfe".to_vec(), 400, "malformed-body"),
        (json, b"[]".to_vec(), 422, "invalid-body"),
        (json, b"{}".to_vec(), 422, "invalid-body"),
        (json, b"{\"spec\": 7}".to_vec(), 422, "invalid-body"),
        (json, b"{\"spec\": {}, \"extra\": 1}".to_vec(), 422, "invalid-body"),
        (json, "[".repeat(4000).into_bytes(), 400, "malformed-body"),
        (json, spec("x".repeat(5000)), 413, "body-too-large"),
        (json, spec(String::new()), 422, "invalid-spec"),
        (json, spec("name = ".into()), 422, "invalid-spec"),
        (json, spec(SPEC.replace("tiny", "../../etc")), 422, "invalid-spec"),
        (json, spec(SPEC.replace("tiny", "a\\u0000b")), 422, "invalid-spec"),
        ("application/toml", vec![b'#'; 5001], 413, "body-too-large"),
        ("application/toml", vec![0xff], 400, "malformed-body"),
        ("application/toml", b"\0".to_vec(), 422, "invalid-spec"),
        ("text/plain", SPEC.into(), 415, "unsupported-media-type"),
        ("application/x-www-form-urlencoded", b"spec=1".to_vec(), 415, "unsupported-media-type"),
    ] {
        let request = daemon.request(Method::POST, "/v1/jobs").header("content-type", kind).body(body);
        problem(request.send().await.unwrap(), status, problem_kind).await;
    }
    let tokens = daemon.request(Method::POST, "/v1/tokens");
    problem(tokens.body("{}").send().await.unwrap(), 415, "unsupported-media-type").await;
    // of a length that the head does not tell; little more than allowed, so that it is sent by the time
    // the daemon hangs up
    let chunks = (0..6).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1000]));
    let unknown = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    let unknown = daemon.request(Method::POST, "/v1/jobs").header("content-type", json).body(unknown);
    problem(unknown.send().await.unwrap(), 413, "body-too-large").await;
    assert_eq!(daemon.get("/v1/jobs").await["jobs"], json!([]));
}

#[tokio::test]
async fn specs_read_only_what_they_may() {
    let daemon = Daemon::start(IDLE).await;
    let prompts = "embedded:prompts/articles.jsonl";
    for (from, to, key) in [
        (prompts, "/etc/passwd", "generator.prompts.path"),
        (prompts, "../../etc/passwd", "generator.prompts.path"),
        (prompts, "s3://private/a.jsonl", "generator.prompts.path"),
        (prompts, "http://169.254.169.254/latest/meta-data", "generator.prompts.path"),
        (prompts, "file:///etc/passwd", "generator.prompts.path"),
        (prompts, "embedded:../../../etc/passwd", "generator.prompts.path"),
        ("[target]\nmodel = \"embedded:target\"", "[target]\nmodel = \"hf:org/secret\"", "target.model"),
    ] {
        assert!(SPEC.contains(from));
        let body = json!({ "spec": SPEC.replace(from, to) });
        let response = daemon.request(Method::POST, "/v1/jobs").json(&body).send().await.unwrap();
        let refused = problem(response, 422, "invalid-spec").await;
        assert_eq!(refused["errors"][0]["path"], key, "{refused}");
    }
}

#[tokio::test]
async fn every_fault_of_a_spec_is_told() {
    let daemon = Daemon::start(IDLE).await;
    let spec = SPEC.replace("steps = 1", "stpes = 1").replace("batch_size = 8", "batch_size = 0");
    let request = daemon.request(Method::POST, "/v1/jobs").json(&json!({ "spec": spec }));
    let refused = problem(request.send().await.unwrap(), 422, "invalid-spec").await;
    let faults: Vec<_> =
        refused["errors"].as_array().unwrap().iter().map(|fault| (&fault["path"], &fault["line"])).collect();
    assert_eq!(
        faults,
        [(&json!("target.sft.batch_size"), &json!(8)), (&json!("policy.stpes"), &json!(17))],
        "{refused}"
    );
}

#[tokio::test]
async fn bad_addresses_are_refused() {
    let daemon = Daemon::start(IDLE).await;
    for (method, path, status, kind) in [
        (Method::GET, "/page/nothing.js", 404, "not-found"),
        (Method::GET, "/v1/nothing", 404, "not-found"),
        (Method::GET, "/v1/../etc/passwd", 404, "not-found"),
        (Method::GET, "/v1/jobs/..%2f..%2fetc%2fpasswd", 400, "invalid-name"),
        (Method::GET, "/v1/jobs/%00", 400, "invalid-name"),
        (Method::GET, "/v1/jobs/%ff", 400, "invalid-address"),
        (Method::GET, "/v1/jobs/a'%20or%201=1", 400, "invalid-name"),
        (Method::GET, "/v1/jobs/nothing", 404, "not-found"),
        (Method::GET, "/v1/jobs/01890000-0000-7000-8000-000000000000/logs", 404, "not-found"),
        (Method::GET, "/v1/jobs?state=lost", 400, "invalid-query"),
        (Method::GET, "/v1/jobs?limit=-1", 400, "invalid-query"),
        (Method::GET, "/v1/jobs?unknown=1", 400, "invalid-query"),
        (Method::GET, "/v1/jobs?name=%00", 400, "invalid-name"),
        (Method::GET, "/v1/jobs?cursor=x", 400, "invalid-query"),
        (Method::PATCH, "/v1/jobs", 405, "method-not-allowed"),
        (Method::POST, "/healthz", 405, "method-not-allowed"),
        (Method::POST, "/v1/schedules/a%2fb/pause", 400, "invalid-name"),
        (Method::DELETE, "/v1/tokens/nobody", 404, "not-found"),
    ] {
        let response = daemon.request(method, path).send().await.unwrap();
        if status == 405 {
            assert!(response.headers().contains_key("allow"), "{path}");
        }
        problem(response, status, kind).await;
    }
    let key = "k".repeat(256);
    let request = daemon.request(Method::POST, "/v1/jobs").header("idempotency-key", key);
    problem(request.json(&json!({ "spec": SPEC })).send().await.unwrap(), 400, "invalid-key").await;
    for body in [json!({"name": "a/b", "scopes": ["read"]}), json!({"name": "", "scopes": ["read"]})] {
        let response = daemon.request(Method::POST, "/v1/tokens").json(&body).send().await.unwrap();
        problem(response, 400, "invalid-name").await;
    }
    let none = json!({"name": "none", "scopes": []});
    let response = daemon.request(Method::POST, "/v1/tokens").json(&none).send().await.unwrap();
    problem(response, 422, "invalid-value").await;
    let past = json!({"name": "past", "scopes": ["read"], "expires": "2001-01-01T00:00:00Z"});
    let response = daemon.request(Method::POST, "/v1/tokens").json(&past).send().await.unwrap();
    problem(response, 422, "invalid-value").await;
}

#[tokio::test]
async fn a_token_used_too_often_waits_and_others_do_not() {
    let daemon = Daemon::start("[worker]\nslots = 0\n[limits]\nrequests_per_minute = 5\n").await;
    let other = daemon.token("other", &["read"]).await;
    let mut refused = None;
    for _ in 0..6 {
        let response = daemon.request(Method::GET, "/v1/jobs").send().await.unwrap();
        if response.status() == 429 {
            refused = Some(response);
        }
    }
    let refused = refused.expect("no request was refused");
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=12).contains(&wait), "{wait}");
    problem(refused, 429, "too-many-requests").await;
    let response = daemon.anonymous(Method::GET, "/v1/jobs").bearer_auth(&other).send().await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn no_secret_is_logged() {
    let daemon = Daemon::start(IDLE).await;
    let made = daemon.token("made", &["read"]).await;
    let pairs = [
        ("hidden-in-query", "/v1/jobs?token=hidden-in-query"),
        ("hidden-in-path", "/v1/tokens/hidden-in-path"),
    ];
    for (_, path) in pairs {
        daemon.request(Method::DELETE, path).send().await.unwrap();
        daemon.anonymous(Method::GET, path).bearer_auth("hidden-bearer").send().await.unwrap();
    }
    let spec = format!("{SPEC}\nsecret = \"hidden-in-spec\"\n");
    daemon.request(Method::POST, "/v1/jobs").json(&json!({ "spec": spec })).send().await.unwrap();
    daemon.anonymous(Method::GET, "/v1/jobs").header("x-api-key", "hidden-in-header").send().await.unwrap();
    let log = daemon.log();
    assert!(
        log.contains("DELETE") && log.contains("/v1/tokens/{token}") && log.contains("status=404"),
        "{log}"
    );
    let secrets = [
        daemon.token.as_str(),
        &made,
        "hidden-in-query",
        "hidden-in-path",
        "hidden-bearer",
        "hidden-in-spec",
        "hidden-in-header",
    ];
    for secret in secrets {
        assert!(!log.contains(secret), "`{secret}` is in the log");
    }
}
