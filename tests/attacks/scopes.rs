//! Holders of tokens: what each may do is what the API's description says, for the datasets that it is
//! for, and within its quota.

use reqwest::Method;
use serde_json::{Value, json};

use crate::published::publish;
use crate::serving::spec;
use crate::{IDLE, Target, dpg, good, said, sent};

const SCOPES: [&str; 3] = ["read", "submit", "admin"];
/// Routes that readers of the hub use; they are not in the description.
const HUB: [&str; 4] = [
    "/api/datasets",
    "/api/datasets/dpg/six",
    "/api/datasets/dpg/six/tree/main",
    "/datasets/dpg/six/resolve/main/README.md",
];

/// Every operation of the description is tried without a token and with one of each scope. A route
/// without a decision about its scope fails here.
#[tokio::test]
async fn every_route_keeps_to_the_scope_that_its_description_names() {
    let target = Target::start(IDLE).await;
    let mut tokens = vec![];
    for scope in SCOPES {
        tokens.push((scope, target.token(scope, &[scope], json!({})).await));
    }
    let document = good(target.anonymous(Method::GET, "/v1/openapi.json")).await;
    let mut tried = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let security = operation["security"].as_array();
            let security = security.unwrap_or_else(|| panic!("{method} {path} says nothing of its scope"));
            let scopes = security.iter().find_map(|one| one["token"].as_array());
            // a token without a scope: any will do
            let needed = scopes.and_then(|scopes| scopes.first()?.as_str());
            assert!(needed.is_none_or(|needed| SCOPES.contains(&needed)), "{method} {path}: {security:?}");
            let method: Method = method.to_uppercase().parse().unwrap();
            // names that nothing has, so that nothing happens
            let address = path.replace(['{', '}'], "");
            let ask = async |token: Option<&str>| {
                let request = target.anonymous(method.clone(), &address).json(&json!({}));
                let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
                // the body may be a stream without an end
                request.send().await.unwrap().status().as_u16()
            };
            let status = ask(None).await;
            assert_eq!(status == 401, scopes.is_some(), "{method} {path} without a token: {status}");
            for (scope, token) in &tokens {
                let status = ask(Some(token)).await;
                let may = needed.is_none_or(|needed| needed == *scope || *scope == "admin");
                assert_eq!(![401, 403].contains(&status), may, "{method} {path} with `{scope}`: {status}");
                tried += 1;
            }
        }
    }
    assert!(tried >= 80, "{tried}");
    for path in HUB {
        assert_eq!(sent(target.anonymous(Method::GET, path)).await.0, 401, "{path}");
        for (scope, token) in &tokens {
            let status = sent(target.anonymous(Method::GET, path).bearer_auth(token)).await.0;
            assert_eq!(status == 403, *scope == "submit", "{path} with `{scope}`: {status}");
        }
    }
}

#[tokio::test]
async fn a_token_for_some_datasets_touches_no_others() {
    let target = Target::start(IDLE).await;
    for name in ["six", "nightly-a", "secret"] {
        publish(&target.data(), name, name).await;
        let body = json!({ "spec": spec(name, 1) });
        good(target.request(Method::POST, "/v1/jobs").json(&body)).await;
        let schedule = json!({ "spec": spec(name, 1), "cron": "0 2 * * *", "time_zone": "UTC" });
        good(target.request(Method::PUT, &format!("/v1/schedules/{name}")).json(&schedule)).await;
    }
    let only = json!({ "datasets": ["six", "nightly-*"] });
    let token = target.token("some", &["read", "submit", "admin"], only).await;
    let ask = |method: Method, path: &str, body: Value| {
        sent(target.anonymous(method, path).bearer_auth(&token).json(&body))
    };
    let submit = |name: &str| ask(Method::POST, "/v1/jobs", json!({ "spec": spec(name, 1) }));
    for (name, status) in
        [("six", 201), ("nightly-b", 201), ("nightly", 403), ("secret", 403), ("sixty", 403)]
    {
        assert_eq!(submit(name).await.0, status, "{name}");
    }
    let schedule = |name: &str| json!({ "spec": spec(name, 1), "cron": "0 2 * * *", "time_zone": "UTC" });
    for (method, path, body) in [
        (Method::GET, "/v1/datasets/NAME", json!(null)),
        (Method::GET, "/v1/datasets/NAME/versions/v1", json!(null)),
        (Method::GET, "/v1/datasets/NAME/versions/v1/files/README.md", json!(null)),
        (Method::PUT, "/v1/datasets/NAME/tags/best", json!({ "version": 1 })),
        (Method::POST, "/v1/datasets/NAME/versions/v1/yank", json!({ "reason": "why" })),
        (Method::POST, "/v1/datasets/NAME/versions/v1/attestations", json!({ "record": "{}" })),
        (Method::GET, "/api/datasets/dpg/NAME", json!(null)),
        (Method::GET, "/api/datasets/dpg/NAME/tree/v1", json!(null)),
        (Method::GET, "/datasets/dpg/NAME/resolve/v1/README.md", json!(null)),
        (Method::GET, "/v1/schedules/NAME", json!(null)),
        (Method::POST, "/v1/schedules/NAME/run", json!(null)),
        (Method::POST, "/v1/schedules/NAME/pause", json!(null)),
        (Method::POST, "/v1/schedules/NAME/resume", json!(null)),
        (Method::PUT, "/v1/schedules/NAME", schedule("six")),
        (Method::DELETE, "/v1/schedules/NAME", json!(null)),
    ] {
        let (status, body_of) = ask(method.clone(), &path.replace("NAME", "secret"), body.clone()).await;
        assert_eq!(status, 403, "{method} {path}: {body_of}");
        let (status, body_of) = ask(method.clone(), &path.replace("NAME", "six"), body).await;
        assert!(![401, 403].contains(&status), "{method} {path}: {status} {body_of}");
    }
    assert_eq!(ask(Method::PUT, "/v1/schedules/new", schedule("secret")).await.0, 403);
    // by name and by id, and in lists
    let secret =
        good(target.request(Method::GET, "/v1/jobs/secret")).await["id"].as_str().unwrap().to_owned();
    for job in ["secret", &secret] {
        for (method, rest) in [
            (Method::GET, ""),
            (Method::GET, "/events"),
            (Method::GET, "/logs"),
            (Method::POST, "/cancel"),
            (Method::POST, "/retry"),
        ] {
            let (status, body) = ask(method, &format!("/v1/jobs/{job}{rest}"), json!(null)).await;
            assert_eq!(status, 404, "{job}{rest}: {body}");
        }
    }
    for path in ["/v1/jobs", "/v1/datasets", "/v1/schedules", "/api/datasets", "/v1/datasets/nightly-none"] {
        let (_, body) = ask(Method::GET, path, json!(null)).await;
        assert!(!body.contains("secret"), "{path}: {body}");
    }
    // nor does it make itself another token, or look at all
    for (method, path) in [
        (Method::POST, "/v1/tokens"),
        (Method::GET, "/v1/tokens"),
        (Method::GET, "/v1/audit"),
        (Method::GET, "/v1/deliveries"),
        (Method::DELETE, "/v1/tokens/some"),
    ] {
        let body = json!({ "name": "more", "scopes": ["admin"] });
        assert_eq!(ask(method.clone(), path, body).await.0, 403, "{method} {path}");
    }
    for datasets in [json!(["*"]), json!([""]), json!(["a*b"]), json!(["a\nb"])] {
        let body = json!({ "name": "odd", "scopes": ["read"], "datasets": datasets });
        let (status, body) = sent(target.request(Method::POST, "/v1/tokens").json(&body)).await;
        assert!([400, 422].contains(&status), "{datasets}: {status} {body}");
    }
}

#[tokio::test]
async fn quotas_bound_what_waits() {
    let target = Target::start(IDLE).await;
    let folder = target.folder.path();
    let create = ["token", "create", "bounded", "--scope", "submit", "--datasets", "q-*,r", "--queued", "2"];
    let (fine, secret) = said(&mut dpg(folder, &create));
    assert!(fine && secret.starts_with("dpg_"), "{secret}");
    let (_, list) = said(&mut dpg(folder, &["token", "list"]));
    assert!(list.contains("for q-*,r, 2 queued"), "{list}");
    let submit = |name: &str, key: &str| {
        let request = target.anonymous(Method::POST, "/v1/jobs").bearer_auth(secret.trim());
        sent(request.header("idempotency-key", key).json(&json!({ "spec": spec(name, 1) })))
    };
    assert_eq!(submit("q-1", "one").await.0, 201);
    assert_eq!(submit("q-2", "two").await.0, 201);
    let (status, body) = submit("q-3", "three").await;
    assert!(status == 429 && body.contains("quota-used"), "{status} {body}");
    // one that is there already is no more
    assert_eq!(submit("q-1", "one").await.0, 200);
    good(target.request(Method::POST, "/v1/jobs/q-1/cancel")).await;
    assert_eq!(submit("q-3", "three").await.0, 201);
    // nor by queueing an ended one again
    let retry = target.anonymous(Method::POST, "/v1/jobs/q-1/retry").bearer_auth(secret.trim());
    assert_eq!(sent(retry).await.0, 429);
}

#[tokio::test]
async fn who_did_what_is_written_down() {
    let target = Target::start(IDLE).await;
    let submitter = target.token("ci", &["submit"], json!({})).await;
    let request = target.anonymous(Method::POST, "/v1/jobs").bearer_auth(&submitter);
    good(request.json(&json!({ "spec": spec("made", 1) }))).await;
    sent(target.anonymous(Method::DELETE, "/v1/schedules/none%0aforged").bearer_auth(&submitter)).await;
    sent(target.anonymous(Method::POST, "/v1/jobs").bearer_auth("nobody")).await;
    good(target.request(Method::DELETE, "/v1/tokens/ci")).await;
    let deeds = good(target.request(Method::GET, "/v1/audit?limit=3")).await;
    let told: Vec<_> = deeds["deeds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|deed| {
            (
                deed["name"].as_str().unwrap(),
                deed["action"].as_str().unwrap(),
                deed["status"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(told[1..], [("ci", "DELETE /v1/schedules/{name}", 403), ("ci", "POST /v1/jobs", 201),]);
    assert_eq!((told[0].1, told[0].2), ("DELETE /v1/tokens/{token}", 200));
    assert_eq!(deeds["deeds"][2]["object"], "/v1/jobs made");
    assert_eq!(deeds["deeds"][2]["address"], "127.0.0.1");
    let next = deeds["next"].as_str().unwrap();
    let rest = good(target.request(Method::GET, &format!("/v1/audit?before={next}"))).await;
    assert_eq!(rest["deeds"][0]["action"], "POST /v1/tokens", "{rest}");
    let (fine, text) = said(&mut dpg(target.folder.path(), &["activity"]));
    assert!(fine && text.contains("ci ") && text.contains("/v1/jobs made"), "{text}");
    assert!(!text.contains(&submitter) && !text.lines().any(|line| line.starts_with("forged")), "{text}");
}

/// What a filter takes is data: the tables are there afterwards, and nothing else is found.
#[tokio::test]
async fn filters_take_no_sql() {
    let target = Target::start(IDLE).await;
    good(target.request(Method::POST, "/v1/jobs").json(&json!({ "spec": spec("kept", 1) }))).await;
    let hostile = [
        "' or '1'='1",
        "'; drop table jobs; --",
        "\" or 1=1 --",
        "kept') or ('1'='1",
        "%",
        "_",
        "\\",
        "\u{0}",
    ];
    for text in hostile {
        for name in ["name", "state", "since", "cursor", "limit"] {
            let request = target.request(Method::GET, "/v1/jobs").query(&[(name, text)]);
            let (status, body) = sent(request).await;
            assert!((400..500).contains(&status) || !body.contains("kept"), "{name}={text}: {status} {body}");
        }
        let escaped: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for path in ["jobs", "schedules", "tokens", "datasets"] {
            for method in [Method::GET, Method::DELETE] {
                let (status, body) = sent(target.request(method, &format!("/v1/{path}/{escaped}"))).await;
                assert!((400..500).contains(&status), "{path}/{text}: {status} {body}");
            }
        }
        let key = target.request(Method::POST, "/v1/jobs").json(&json!({ "spec": spec("other", 1) }));
        if let Ok(value) = reqwest::header::HeaderValue::from_str(text) {
            let (status, _) = sent(key.header("idempotency-key", value)).await;
            assert!([200, 201, 400].contains(&status), "{text}: {status}");
        }
    }
    let jobs = good(target.request(Method::GET, "/v1/jobs?name=kept")).await;
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 1);
}
