//! Webhooks are told of jobs' ends, whoever is killed meanwhile.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::serving::{Place, spec};
use crate::{place, submit};

/// Settings of a daemon that tells a listener, with a secret in the folder.
fn tells(listener: &TcpListener, folder: &Path) -> String {
    let secret = folder.join("secret");
    fs::write(&secret, "key\n").unwrap();
    format!(
        "allow = {{ webhook_hosts = [\"127.0.0.1\"] }}\n\
         webhooks = [{{ url = \"http://{}/ended\", secret_file = \"{}\" }}]\n",
        listener.local_addr().unwrap(),
        secret.display()
    )
}

/// A receiver that is down at first hears of a job's end, and can tell who speaks.
#[tokio::test]
async fn a_webhook_is_told_and_signed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), &tells(&listener, folder.path()));
    let queue = place.queue().await;
    let id = submit(&queue, &spec("told", 2)).await;
    let _daemon = place.start();
    for answer in ["503 Service Unavailable", "200 OK"] {
        let (mut socket, _) =
            tokio::time::timeout(Duration::from_mins(3), listener.accept()).await.unwrap().unwrap();
        let (head, body) = read_request(&mut socket).await;
        let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        socket.write_all(answer.as_bytes()).await.unwrap();

        let mut hmac = Hmac::<Sha256>::new_from_slice(b"key").unwrap();
        hmac.update(&body);
        let signature = format!("x-dpg-signature: sha256={}", hex::encode(hmac.finalize().into_bytes()));
        assert!(head.starts_with("POST /ended ") && head.contains(&signature), "{head}");
        assert!(head.contains(&format!("x-dpg-delivery: {id}")), "{head}");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["event"], &body["job"]["id"]), (&json!("job.succeeded"), &json!(id)));
        assert_eq!(body["job"]["result"]["dataset"], "told@v1");
    }
}

/// A receiver hears of the end of a job that no worker had, though the daemon is killed before it was told.
#[tokio::test]
#[ignore = "waits until the killed daemon's delivery is due again; .ci/run runs it"]
async fn a_webhook_is_told_after_the_daemon_was_killed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place = Place::idle(folder.path(), &tells(&listener, folder.path()));
    let queue = place.queue().await;
    let id = submit(&queue, &spec("untold", 2)).await;
    let mut daemon = place.start();
    let dpg = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_dpg"))
            .args(arguments)
            .args(["--json", "--data-dir"])
            .arg(folder.path().join("data"))
            .env_remove("DPG_URL")
            .env_remove("DPG_TOKEN")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    // the daemon knows the webhook, and the settings of the data folder do not
    daemon.listening().await;
    dpg(&["cancel", &id.to_string()]);
    let accept = async || {
        let (mut socket, _) =
            tokio::time::timeout(Duration::from_mins(3), listener.accept()).await.unwrap().unwrap();
        let request = read_request(&mut socket).await;
        (socket, request)
    };
    // it is called, and killed before there is an answer
    let (socket, first) = accept().await;
    daemon.kill();
    drop(socket);
    daemon.replace();
    let (mut socket, second) = accept().await;
    socket.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
    let header = |head: &str| {
        let line = head.lines().find(|line| line.starts_with("x-dpg-delivery: ")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{head}"))
    };
    assert_eq!((header(&first.0), &first.1), (header(&second.0), &second.1));
    let body: serde_json::Value = serde_json::from_slice(&second.1).unwrap();
    assert_eq!((&body["event"], &body["job"]["id"]), (&json!("job.cancelled"), &json!(id)));

    let started = Instant::now();
    loop {
        let told = dpg(&["deliveries", "untold"]);
        if told[0]["state"] == "delivered" {
            assert_eq!((&told[0]["attempts"], &told[0]["status"]), (&json!(2), &json!(204)), "{told}");
            assert_eq!(told.as_array().unwrap().len(), 1);
            break;
        }
        assert!(started.elapsed() < Duration::from_mins(1), "{told}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn read_request(socket: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes = vec![];
    loop {
        assert!(socket.read_buf(&mut bytes).await.unwrap() > 0, "the connection ended early");
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() == length.parse::<usize>().unwrap() {
            return (head.to_owned(), body.as_bytes().to_vec());
        }
    }
}

#[tokio::test]
async fn a_webhook_to_a_host_that_is_not_allowed_is_refused_at_start() {
    let (folder, place) =
        place("webhooks = [{ url = \"http://169.254.169.254/\", secret_file = \"dpg.toml\" }]\n");
    fs::create_dir_all(folder.path().join("data")).unwrap();
    let mut daemon = place.start();
    assert!(!daemon.wait().await.success());
    assert!(daemon.log().contains("allow.webhook_hosts"), "{}", daemon.log());
}
