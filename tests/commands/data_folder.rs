//! A data folder has one truth: one daemon, one store, one queue; and what is left of another daemon, or
//! was copied from another folder, is known for that.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::serving::{Daemon, Place};
use crate::{dpg, fail, folder, json_of, succeed};

/// A daemon that leaves jobs in the queue, in a folder with `spec.toml`.
fn start(folder: &Path, settings: &str) -> Daemon {
    let mut place = Place::new(folder, settings);
    place.config = place.config.replace("[worker]", "[worker]\nslots = 0");
    let daemon = place.start();
    let started = Instant::now();
    while !folder.join("data/daemon.url").exists() {
        assert!(started.elapsed() < Duration::from_mins(1), "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon
}

fn url(folder: &Path) -> String {
    fs::read_to_string(folder.join("data/daemon.url")).unwrap()
}

fn signal(daemon: &Daemon, signal: &str) {
    assert!(Command::new("kill").args([signal, &daemon.id().to_string()]).status().unwrap().success());
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_the_first_is_found() {
    let folder = folder(1);
    let mut daemon = start(folder.path(), "");
    let refused = fail(&mut dpg(folder.path(), &["serve", "--listen", "127.0.0.1:0"]));
    for part in [&format!("pid {}", daemon.id()), &url(folder.path()), "--data-dir"] {
        assert!(refused.contains(part), "`{part}` is not in: {refused}");
    }
    let (submitted, said) = succeed(&mut dpg(folder.path(), &["submit", "spec.toml"]));
    assert!(submitted.contains("dpg logs -f") && said.is_empty(), "{submitted}{said}");
    let (_, daemon_said) = (daemon.terminate().await, daemon.log());
    assert!(!folder.path().join("data/daemon.url").exists(), "{daemon_said}");
    let (_, said) = succeed(&mut dpg(folder.path(), &["list"]));
    assert_eq!(said, "", "a daemon that ended in order leaves nothing to say");
}

#[test]
fn nothing_is_sent_to_what_a_dead_daemon_left() {
    let folder = folder(1);
    // somebody else has the port now, and never answers
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    let address = format!("http://{}", other.local_addr().unwrap());
    fs::write(folder.path().join("data/daemon.url"), &address).unwrap();
    let (submitted, said) = succeed(&mut dpg(folder.path(), &["submit", "spec.toml"]));
    assert!(submitted.contains("no daemon is running"), "{submitted}");
    assert!(said.contains(&address) && said.contains("does not run in this folder any more"), "{said}");
    assert!(other.accept().is_err(), "the other program was called");
    let (listed, said) = succeed(&mut dpg(folder.path(), &["list"]));
    assert!(listed.contains("tiny") && said.is_empty(), "{said}");

    let mut daemon = start(folder.path(), "");
    daemon.kill();
    let (_, said) = succeed(&mut dpg(folder.path(), &["datasets"]));
    assert!(said.contains("does not run in this folder any more"), "{said}");
    start(folder.path(), "");
}

#[test]
#[ignore = "waits until patience ends; .ci/run runs it"]
fn a_daemon_that_does_not_answer_is_not_passed_over() {
    let folder = folder(1);
    let daemon = start(folder.path(), "");
    signal(&daemon, "-STOP");
    let refused = fail(&mut dpg(folder.path(), &["list"]));
    signal(&daemon, "-CONT");
    assert!(
        refused.contains(&format!("pid {}", daemon.id())) && refused.contains("does not answer"),
        "{refused}"
    );
    succeed(&mut dpg(folder.path(), &["list"]));
}

#[test]
fn a_copy_has_no_daemon_and_says_that_it_is_one() {
    let folder = folder(1);
    let daemon = start(folder.path(), "");
    let copied = Command::new("cp").args(["-a", "data", "copy"]).current_dir(folder.path()).status().unwrap();
    assert!(copied.success());
    for round in 0..2 {
        let (listed, said) = succeed(&mut dpg(folder.path(), &["submit", "spec.toml", "--data-dir", "copy"]));
        assert!(listed.contains("no daemon is running"), "{listed}");
        assert!(said.contains("is a copy of"), "{said}");
        assert_eq!(said.contains("does not run in this folder"), round == 0, "{said}");
    }
    assert_eq!(json_of(&mut dpg(folder.path(), &["list"])), serde_json::json!([]), "{}", daemon.log());
}

#[test]
fn another_store_than_the_daemons_is_told() {
    let folder = folder(1);
    let daemon = start(folder.path(), "store = \"elsewhere\"\n");
    let (listed, said) = succeed(&mut dpg(folder.path(), &["datasets"]));
    assert!(listed.contains("no datasets yet"), "{listed}");
    assert!(said.contains("elsewhere") && said.contains("data/registry"), "{said}");
    let (_, said) = succeed(&mut dpg(folder.path(), &["datasets", "--store", "third"]));
    assert!(said.contains("elsewhere`, not to") && said.contains("third"), "{said}");
    let (_, said) = succeed(&mut dpg(folder.path(), &["datasets", "--store", "elsewhere"]));
    assert_eq!(said, "");
    let refused = fail(dpg(folder.path(), &["datasets", "gc"]).env("DPG_DATABASE", "sqlite:other.db"));
    assert!(refused.contains("other.db") && refused.contains("data/queue.db"), "{refused}");
    let doctor = dpg(folder.path(), &["doctor"]).output().unwrap();
    let doctor = crate::text(&doctor.stdout);
    assert!(doctor.contains("its store is `"), "{doctor}");
    drop(daemon);
}

#[test]
fn the_environment_names_the_queue_without_a_daemon_too() {
    let folder = folder(1);
    let submit =
        |arguments: &[&str]| succeed(dpg(folder.path(), arguments).env("DPG_DATABASE", "sqlite:other.db")).0;
    submit(&["submit", "spec.toml"]);
    assert!(submit(&["list"]).contains("tiny"));
    assert!(!folder.path().join("data/queue.db").exists());
}

#[test]
fn a_token_that_the_daemon_does_not_know_is_told() {
    let folder = folder(1);
    let _daemon = start(folder.path(), "");
    let secret = format!("dpg_{}_{}", "0".repeat(32), "1".repeat(64));
    fs::write(folder.path().join("data/admin.token"), &secret).unwrap();
    let refused = fail(&mut dpg(folder.path(), &["list"]));
    assert!(refused.contains("admin.token") && refused.contains("unknown"), "{refused}");
    assert!(!refused.contains("Authorization") && !refused.contains(&secret), "{refused}");
    let refused = fail(dpg(folder.path(), &["list"]).env("DPG_TOKEN", &secret));
    assert!(refused.contains("that of DPG_TOKEN"), "{refused}");
}
