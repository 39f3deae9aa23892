//! The program with a bucket that misbehaves, or that the daemon alone reaches.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dpg_registry::Registry;
use object_store::path::Path;
use tempfile::TempDir;

use super::server::{Answer, Condition, Server};
use super::snapshot::snapshot;

fn dpg(folder: &TempDir, endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg"));
    for variable in ["DPG_STORE", "DPG_DATABASE", "DPG_URL", "DPG_TOKEN", "HTTP_PROXY", "http_proxy"] {
        command.env_remove(variable);
    }
    command
        .current_dir(folder.path())
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_ACCESS_KEY_ID", "access")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .args(["--data-dir", "data"])
        .args(arguments);
    command
}

/// The server answers on the test's runtime.
async fn run(mut command: Command) -> Output {
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
    tokio::time::timeout(Duration::from_mins(2), ended).await.expect("it does not end").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_and_doctor_say_that_conditional_puts_are_missing() {
    let (server, folder) = (Server::start().await, tempfile::tempdir().unwrap());
    server.state().condition = Condition::Refused(501, "NotImplemented");
    let endpoint = format!("http://{}", server.address);
    let store = ["--store", "s3://bucket/reg"];
    for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["doctor"]] {
        let output = run(dpg(&folder, &endpoint, &[command, &store].concat())).await;
        assert!(!output.status.success());
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(said.matches("has no conditional puts").count(), 1, "{said}");
        assert!(said.contains("use a store that has them"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_stops_while_it_tries_the_store() {
    let (server, folder) = (Server::start().await, tempfile::tempdir().unwrap());
    server.plan(None, "", usize::MAX, Answer::Never);
    let endpoint = format!("http://{}", server.address);
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--store", "s3://bucket/reg"];
    let mut daemon = dpg(&folder, &endpoint, &arguments).stderr(Stdio::null()).spawn().unwrap();
    while server.state().log.is_empty() {
        assert!(daemon.try_wait().unwrap().is_none(), "it ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(Command::new("kill").arg(daemon.id().to_string()).status().unwrap().success());
    let ended = tokio::task::spawn_blocking(move || daemon.wait().unwrap());
    let status = tokio::time::timeout(Duration::from_secs(30), ended).await.expect("it goes on").unwrap();
    assert!(status.success(), "{status}");
}

/// As in `deploy/compose.yaml`: the name of the store means something to the daemon, and nothing to
/// whoever fetches from it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_daemon_alone_reaches_is_fetched_through_it() {
    let (server, folder) = (Server::start().await, tempfile::tempdir().unwrap());
    let store = dpg_store::s3(server.settings(), "bucket").unwrap();
    let registry = Registry::new(Arc::new(store), Path::from("reg"), folder.path().join("key.pem"));
    let version = registry.publish(&snapshot(folder.path(), 1)).await.unwrap();

    let endpoint = "http://store.invalid:9000";
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--store", "s3://bucket/reg"];
    let mut command = dpg(&folder, endpoint, &arguments);
    // this is what resolves the name, for the daemon
    command.env("HTTP_PROXY", format!("http://{}", server.address)).env("NO_PROXY", "127.0.0.1");
    let (mut daemon, url) = tokio::task::spawn_blocking(move || {
        let mut daemon = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(daemon.stderr.take().unwrap()).lines().map_while(Result::ok);
        let url = lines.find_map(|line| line.strip_prefix("dpg serves ").map(str::to_owned));
        // what it says later must go somewhere
        std::thread::spawn(move || lines.for_each(drop));
        (daemon, url.expect("the daemon ended"))
    })
    .await
    .unwrap();
    // it is written once the daemon answers, and after its first token
    while !folder.path().join("data/daemon.url").exists() {
        assert!(daemon.try_wait().unwrap().is_none(), "it ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let fetched = run(dpg(&folder, endpoint, &["fetch", "six", "fetched", "--url", &url])).await;
    let said = String::from_utf8_lossy(&fetched.stderr).into_owned();
    assert!(fetched.status.success(), "{said}");
    let whole = registry.fetch(&version, &folder.path().join("fetched")).await.unwrap();
    assert_eq!(whole.downloaded, 0, "every file is there and right");

    // who can reach the store may ask for its address
    let token = std::fs::read_to_string(folder.path().join("data/admin.token")).unwrap();
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let address = format!("{url}/v1/datasets/six/versions/v1/files/README.md");
    for (query, status) in [("", 200), ("?redirect=false", 200), ("?redirect=true", 307)] {
        let request = client.get(format!("{address}{query}")).bearer_auth(token.trim());
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{query}");
        let location = answer.headers().get("location").map(|location| location.to_str().unwrap());
        assert_eq!(location.is_some_and(|location| location.starts_with(endpoint)), status == 307);
    }
    let _ = daemon.kill();
    let _ = daemon.wait();
}
