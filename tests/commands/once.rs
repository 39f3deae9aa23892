//! `dpg work --once`: one job of the queue, whose success is the exit code.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{dpg, fail, folder, json_of, serving, succeed, text};

#[test]
fn one_job_is_worked_on_at_a_time() {
    let folder = folder(1);
    let path = folder.path();
    fs::write(path.join("prompts.jsonl"), "{\"text\": \"A prompt.\"}\n").unwrap();
    let gone = serving::spec("gone", 1).replace("embedded:prompts/articles.jsonl", "prompts.jsonl");
    fs::write(path.join("gone.toml"), gone).unwrap();
    // a job for another machine, which comes first
    let asking = serving::spec("asking", 1) + "[resources]\ngpu_memory = 40\n";
    fs::write(path.join("asking.toml"), asking).unwrap();
    for spec in ["asking.toml", "spec.toml", "gone.toml"] {
        succeed(&mut dpg(path, &["submit", spec]));
    }
    fs::remove_file(path.join("prompts.jsonl")).unwrap();
    let state = |name: &str| json_of(&mut dpg(path, &["status", name]))["state"].clone();

    let worked = json_of(&mut dpg(path, &["work", "--once"]));
    assert_eq!((&worked["name"], &worked["result"]["dataset"]), (&"tiny".into(), &"tiny@v1".into()));
    assert_eq!((state("tiny"), state("gone")), ("succeeded".into(), "queued".into()));
    let error = fail(&mut dpg(path, &["work", "--once"]));
    assert!(error.contains("`gone` failed") && error.contains("prompts.jsonl"), "{error}");
    let (_, said) = succeed(&mut dpg(path, &["work", "--once"]));
    assert!(said.contains("no job waits that this machine can run"), "{said}");
    assert_eq!(state("asking"), "queued");
}

/// What a batch system does when the time is up.
#[test]
fn a_job_that_is_told_to_stop_goes_back_to_the_queue() {
    let folder = folder(10_000);
    let path = folder.path();
    succeed(&mut dpg(path, &["submit", "spec.toml"]));
    let mut worker = dpg(path, &["work", "--once"]);
    let worker = worker.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let job = || json_of(&mut dpg(path, &["status", "tiny"]));
    while job()["state"] != "running" {
        std::thread::sleep(Duration::from_millis(100));
    }
    let told = Command::new("kill").args(["-TERM", &worker.id().to_string()]).status().unwrap();
    assert!(told.success());
    let output = worker.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("`tiny` went back to the queue"), "{said}");
    assert_eq!(job()["state"], "queued");
}
