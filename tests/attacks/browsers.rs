//! Browsers and proxies: pages of others, old TLS, and redirects.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use reqwest::Method;
use serde_json::json;

use crate::serving::{Place, job, spec};
use crate::{IDLE, PATIENCE, Target};

#[tokio::test]
async fn a_page_of_somebody_else_gets_nothing() {
    let target = Target::start(IDLE).await;
    for path in ["/v1/jobs", "/v1/tokens", "/metrics", "/api/datasets"] {
        for method in [Method::OPTIONS, Method::GET, Method::POST] {
            let request = target
                .anonymous(method.clone(), path)
                .header("origin", "https://evil.example")
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "authorization");
            let answer = request.send().await.unwrap();
            let allowed = answer.headers().keys().find(|name| name.as_str().starts_with("access-control"));
            assert_eq!(allowed, None, "{method} {path}");
        }
    }
    // what a form can send, with what a browser adds by itself
    let cookie = format!("token={0}; authorization=Bearer {0}", target.token);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json"] {
        let body = json!({ "spec": spec("forged", 1) }).to_string();
        let request = target.anonymous(Method::POST, "/v1/jobs").header("cookie", &cookie);
        let answer = request.header("content-type", kind).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{kind}");
    }
    let path = format!("/v1/jobs?token={0}&access_token={0}", target.token);
    assert_eq!(target.anonymous(Method::GET, &path).send().await.unwrap().status(), 401);
}

/// A ClientHello of this version with one suite that it has.
fn hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]); // random
    body.extend([0, 0, 4, 0xc0, 0x13, 0x00, 0x2f, 1, 0]); // no session, two suites, no compression
    let length = body.len() as u16;
    let mut record = vec![22, 3, 1];
    record.extend((length + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend(length.to_be_bytes());
    record.extend(body);
    record
}

#[tokio::test]
async fn old_versions_of_tls_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (pem, key) = (folder.path().join("localhost.pem"), folder.path().join("localhost.key"));
    fs::write(&pem, include_str!("../api/tls/localhost.pem")).unwrap();
    fs::write(&key, include_str!("../api/tls/localhost.key")).unwrap();
    let place = Place::idle(folder.path(), &format!("[tls]\ncertificate = {pem:?}\nkey = {key:?}\n"));
    let mut daemon = place.start();
    let noted = folder.path().join("data/daemon.url");
    let started = std::time::Instant::now();
    while !noted.exists() {
        assert!(!daemon.has_ended() && started.elapsed() < PATIENCE, "{}", daemon.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let url = fs::read_to_string(noted).unwrap();
    for version in [[3, 0], [3, 1], [3, 2]] {
        let mut stream = TcpStream::connect(url.trim_start_matches("https://")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&hello(version)).unwrap();
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer);
        // an alert, and no ServerHello
        assert_eq!(answer.first(), Some(&21), "{version:?}: {answer:?}");
    }
}

/// Answers every request with a redirect to `to` and tells of it.
fn redirecting(to: String) -> (String, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (asked, was_asked) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(
                stream,
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"
            );
            let _ = asked.send(());
        }
    });
    (address, was_asked)
}

#[tokio::test]
async fn a_webhook_is_not_sent_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let inside = TcpListener::bind("127.0.0.1:0").unwrap();
    inside.set_nonblocking(true).unwrap();
    let (hook, was_asked) = redirecting(format!("http://{}/metadata", inside.local_addr().unwrap()));
    fs::write(folder.path().join("secret"), "s").unwrap();
    let settings = format!(
        "[allow]\nwebhook_hosts = [\"127.0.0.1\"]\n[[webhooks]]\nurl = \"http://{hook}/\"\nsecret_file = {:?}\n",
        folder.path().join("secret")
    );
    let place = Place::new(folder.path(), &settings);
    let queue = place.queue().await;
    // it fails at once
    queue.submit(&job("name = \"x\"", 1)).await.unwrap();
    let mut daemon = place.start();
    let told = tokio::task::spawn_blocking(move || was_asked.recv_timeout(PATIENCE)).await.unwrap();
    assert!(told.is_ok() && !daemon.has_ended(), "{}", daemon.log());
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(inside.accept().is_err(), "the redirect was followed");
}
