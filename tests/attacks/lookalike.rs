//! Somebody else at the daemon's port: whoever takes it after the daemon was killed gets no token.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::serving::spec;
use crate::{IDLE, PATIENCE, Target, dpg, good, said};

/// Listens at an address and keeps all it hears; answers everything with a proof that is none.
fn lookalike(address: &str) -> Arc<Mutex<String>> {
    let started = Instant::now();
    let listener = loop {
        match TcpListener::bind(address) {
            Ok(listener) => break listener,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let heard = Arc::<Mutex<String>>::default();
    let ear = Arc::clone(&heard);
    let url = format!("http://{address}");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, ear) = (stream.unwrap(), Arc::clone(&ear));
            let port = stream.local_addr().unwrap().port();
            let body = json!({ "url": url, "port": port, "proof": "00".repeat(32) }).to_string();
            std::thread::spawn(move || {
                let mut buffer = [0; 8192];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    ear.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
                    let _ = write!(stream, "{head}: {}\r\n\r\n{body}", body.len());
                }
            });
        }
    });
    heard
}

#[tokio::test]
async fn whoever_takes_the_port_gets_no_token() {
    let mut target = Target::start(IDLE).await;
    let folder = target.folder.path().to_owned();
    let (fine, text) = said(&mut dpg(&folder, &["list"]));
    assert!(fine && !text.contains("warning"), "{text}");
    let (fine, text) = said(&mut dpg(&folder, &["list", "--url", &target.url]));
    assert!(fine, "{text}");
    // killed, it leaves its address behind
    target.daemon.kill();
    let heard = lookalike(&target.address());
    let (fine, text) = said(&mut dpg(&folder, &["list"]));
    assert!(fine, "the data folder itself answers: {text}");
    let (fine, text) = said(&mut dpg(&folder, &["list", "--url", &target.url]));
    assert!(!fine && text.contains("did not prove"), "{text}");
    let (fine, text) = said(dpg(&folder, &["list"]).env("DPG_TOKEN", &target.token));
    assert!(fine, "{text}");
    let heard = heard.lock().unwrap().clone();
    assert!(heard.contains("/v1/proof?nonce="), "{heard}");
    assert!(!heard.contains(&target.token) && !heard.to_lowercase().contains("authorization"), "{heard}");
}

#[tokio::test]
async fn a_follower_does_not_take_another_for_the_daemon() {
    let mut target = Target::start(IDLE).await;
    let folder = target.folder.path().to_owned();
    let body = json!({ "spec": spec("followed", 1) });
    good(target.request(Method::POST, "/v1/jobs").json(&body)).await;
    let follower = dpg(&folder, &["logs", "followed", "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !target.daemon.log().contains("/v1/jobs/{job}/logs") {
        assert!(started.elapsed() < PATIENCE, "{}", target.daemon.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    target.daemon.kill();
    let heard = lookalike(&target.address());
    let output = follower.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("did not prove"), "{text}");
    assert!(!heard.lock().unwrap().contains(&target.token));
}

#[tokio::test]
async fn a_proof_names_its_address() {
    let target = Target::start(IDLE).await;
    let path = format!("/v1/proof?nonce={}", "ab".repeat(32));
    let proof = good(target.anonymous(Method::GET, &path)).await;
    assert_eq!(proof["url"], target.url.as_str());
    assert!(target.address().ends_with(&format!(":{}", proof["port"])), "{proof}");
    let other = good(target.anonymous(Method::GET, &path.replace("ab", "cd"))).await;
    assert_ne!(proof["proof"], other["proof"]);
    let response = target.anonymous(Method::GET, "/v1/proof?nonce=ab").send().await.unwrap();
    assert_eq!(response.status(), 400);
}
