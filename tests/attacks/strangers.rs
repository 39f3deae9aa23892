//! Strangers: they have an address and no token, or a token and no good intent.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::Method;
use serde_json::json;

use crate::serving::spec;
use crate::{IDLE, PATIENCE, Target, good, sent};

/// How a connection ends that sends `bytes` and then nothing: what it hears, once it is hung up on.
fn heard(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // hung up on already
    let _ = stream.write_all(bytes);
    let mut answer = vec![];
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("it is not hung up on: {error}"),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

async fn metrics(target: &Target) -> String {
    sent(target.anonymous(Method::GET, "/metrics")).await.1
}

#[tokio::test]
async fn methods_and_paths_are_no_labels() {
    let target = Target::start(IDLE).await;
    let before = metrics(&target).await.len();
    for number in 0..200 {
        let method = Method::from_bytes(format!("METHOD{number}").as_bytes()).unwrap();
        target.anonymous(method.clone(), &format!("/nowhere/{number}")).send().await.unwrap();
        target.anonymous(method, "/v1/jobs").send().await.unwrap();
        target.anonymous(Method::GET, &format!("/v1/jobs/job{number}")).send().await.unwrap();
    }
    let text = metrics(&target).await;
    assert!(text.contains("method=\"other\"") && text.contains("route=\"unknown\""), "{text}");
    assert!(!text.contains("METHOD") && !text.contains("nowhere") && !text.contains("job1"), "{text}");
    assert!(text.len() < before + 20_000, "{} after {before}", text.len());
    assert!(!target.daemon.log().contains("METHOD"));
}

#[tokio::test]
async fn half_a_request_is_hung_up_on() {
    let target = Target::start("limits = { head_seconds = 1, request_seconds = 1 }\n").await;
    let address = target.address();
    for head in ["", "GET /v1/jobs HTT", "GET /v1/jobs HTTP/1.1\r\nhost: x\r\n"] {
        assert!(!heard(&address, head.as_bytes()).contains("200 OK"), "{head}");
    }
    // a body that does not come, of a caller who may send one and of one who may not
    let head =
        "POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 500\r\n";
    let answer = heard(&address, format!("{head}\r\n{{\"spec\"").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let known = format!("{head}authorization: Bearer {}\r\n\r\n{{\"spec\"", target.token);
    let answer = heard(&address, known.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    // a head without an end
    let endless = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}", "y".repeat(1 << 20));
    let answer = heard(&address, endless.as_bytes());
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn connections_are_counted() {
    let target = Target::start("limits = { connections_per_address = 8 }\n").await;
    let mut held: Vec<_> = (0..40).map(|_| TcpStream::connect(target.address()).unwrap()).collect();
    // those over the limit are hung up on; those under it wait for a request
    let started = Instant::now();
    let mut open = held.len();
    while open > 8 {
        assert!(started.elapsed() < PATIENCE, "{open} are open");
        tokio::time::sleep(Duration::from_millis(50)).await;
        held.retain_mut(|stream| {
            stream.set_nonblocking(true).unwrap();
            matches!(stream.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        });
        open = held.len();
    }
    drop(held);
    // and the places are given back
    while target.anonymous(Method::GET, "/healthz").send().await.is_err() {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let text = metrics(&target).await;
    assert!(text.contains("dpg_connections_refused_total 3"), "{text}");
}

#[tokio::test]
async fn guessing_tokens_is_slow() {
    let target = Target::start("limits = { failures_per_minute = 5 }\n").await;
    good(target.request(Method::GET, "/v1/jobs")).await;
    let guess = |number: usize| {
        let guess = format!("{}{number:04}", &target.token[..target.token.len() - 4]);
        sent(target.anonymous(Method::GET, "/v1/jobs").bearer_auth(guess))
    };
    let mut statuses = vec![];
    for number in 0..10 {
        statuses.push(guess(number).await.0);
    }
    assert_eq!((statuses[0], statuses[9]), (401, 429), "{statuses:?}");
    // from the same address, with a token that was good before
    good(target.request(Method::GET, "/v1/jobs")).await;
}

#[tokio::test]
async fn what_is_answered_without_a_token_is_limited() {
    let target = Target::start("limits = { requests_per_minute = 5 }\n").await;
    for path in ["/metrics", "/readyz"] {
        let mut last = 0;
        for _ in 0..10 {
            last = sent(target.anonymous(Method::GET, path)).await.0;
        }
        assert_eq!(last, 429, "{path}");
    }
    assert_eq!(sent(target.anonymous(Method::GET, "/healthz")).await.0, 200);
}

#[tokio::test]
#[ignore = "waits for a token to expire; .ci/run runs it"]
async fn a_follower_ends_with_its_token_and_followers_are_counted() {
    let target = Target::start("limits = { streams_per_token = 2 }\n").await;
    let body = json!({ "spec": spec("followed", 1) });
    good(target.request(Method::POST, "/v1/jobs").json(&body)).await;
    let reader = target.token("reader", &["read"], json!({})).await;
    let expires = chrono::Utc::now() + chrono::TimeDelta::seconds(10);
    let short = target.token("short", &["read"], json!({ "expires": expires })).await;
    let follow = async |token: &str| {
        let request = target.anonymous(Method::GET, "/v1/jobs/followed/logs").bearer_auth(token);
        request.send().await.unwrap()
    };
    let (one, two, third) = (follow(&reader).await, follow(&reader).await, follow(&reader).await);
    assert_eq!((one.status().as_u16(), third.status().as_u16()), (200, 429));
    let expiring = follow(&short).await;
    assert_eq!(expiring.status(), 200);
    good(target.request(Method::DELETE, "/v1/tokens/reader")).await;
    for stream in [one, two, expiring] {
        let ended = tokio::time::timeout(PATIENCE, stream.bytes_stream().collect::<Vec<_>>()).await;
        let text = ended.unwrap().into_iter().flat_map(|part| part.unwrap()).collect::<Vec<u8>>();
        assert!(!String::from_utf8(text).unwrap().contains("event: end"));
    }
    // the job goes on, for whoever may look
    assert_eq!(follow(&target.token).await.status(), 200);
}
