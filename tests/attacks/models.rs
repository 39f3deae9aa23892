//! Model folders and data files: what they are, where they link to, and what they do when they are used.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dpg_queue::State;
use reqwest::Method;

use crate::numbers::{enqueue, worker};
use crate::serving::{Daemon, Place, spec};
use crate::{PATIENCE, Target, dpg, said, sent};

/// A copy of an embedded model in the folder `models/NAME`.
fn model(folder: &Path, name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/embedded/generator");
    let model = folder.join("models").join(name);
    fs::create_dir_all(&model).unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    model
}

/// Settings that allow the folder `models`.
fn allowing(folder: &Path) -> String {
    format!("allow = {{ folders = [\"{}\"] }}\n", folder.join("models").display())
}

/// A spec whose generator is this model, with its chat template.
fn chatting(name: &str, model: &Path) -> String {
    spec(name, 2)
        .replace("embedded:generator", &model.display().to_string())
        .replace("template = \"Rephrase the article.\\n{text}\\n\"", "template = \"chat\"")
}

/// A spec whose metric is a picture.
fn drawing(picture: &str) -> String {
    let spec = spec("picture", 2);
    let (start, end) = (spec.find("kind = \"held_out_loss\"").unwrap(), spec.find("[generator]").unwrap());
    let metric = format!("kind = \"weight_pattern\"\npattern = {{ image = \"{picture}\" }}\n");
    format!("{}{metric}{}", &spec[..start], &spec[end..])
}

/// Seconds of the processor that a process has taken, in hundredths.
fn ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().split(' ').nth(11).unwrap().parse().unwrap()
}

/// Waits until the daemon's worker computes, far longer than it takes to load what it needs.
async fn until_busy(daemon: &mut Daemon) -> u32 {
    let process = worker(daemon).await;
    let (begun, started) = (ticks(process), Instant::now());
    while ticks(process) < begun + 300 {
        assert!(started.elapsed() < PATIENCE, "it does not compute:\n{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    process
}

/// Asserts that a job fails at once, for good, with these words.
async fn assert_fails(daemon: &mut Daemon, place: &Place, spec: &str, parts: &[&str]) {
    let queue = place.queue().await;
    let id = enqueue(&queue, spec).await;
    let ended = daemon.until(&queue, id, |job| job.state.has_ended()).await;
    assert_eq!((ended.state, ended.attempts), (State::Failed, 1), "{ended:#?}");
    let error = ended.error.unwrap();
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[tokio::test]
async fn a_folder_that_links_outside_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    let inside = model(folder.path(), "inside");
    let settings = allowing(folder.path());
    let place = Place::new(folder.path(), &settings);
    let mut daemon = place.start();
    for (file, target) in [
        ("vocab.json", "../../secret"),
        ("model.safetensors", "/etc/passwd"),
        ("chat_template.jinja", "/etc/hostname"),
    ] {
        let linked = model(folder.path(), "linked");
        let _ = fs::remove_file(linked.join(file));
        symlink(target, linked.join(file)).unwrap();
        let spec = spec("linked", 2).replace("embedded:generator", &linked.display().to_string());
        assert_fails(&mut daemon, &place, &spec, &["generator.model", file, "does not read"]).await;
        fs::remove_dir_all(&linked).unwrap();
    }
    daemon.kill();

    // at submission as well; a link to a file inside is a file
    let outside = model(folder.path(), "outside");
    symlink("../../secret", outside.join("merges.txt")).unwrap();
    symlink("config.json", inside.join("vocab.json")).unwrap();
    let target = Target::start(&settings).await;
    for (model, status) in [(outside, 422), (inside, 201)] {
        let spec = spec("linked", 2).replace("embedded:generator", &model.display().to_string());
        let request = target.request(Method::POST, "/v1/jobs").header("content-type", "application/toml");
        let (found, body) = sent(request.body(spec)).await;
        assert_eq!(found, status, "{body}");
    }
}

#[tokio::test]
async fn a_pipe_or_a_device_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), &allowing(folder.path()));
    let mut daemon = place.start();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        let piped = model(folder.path(), "piped");
        fs::remove_file(piped.join(file)).unwrap();
        assert!(Command::new("mkfifo").arg(piped.join(file)).status().unwrap().success());
        let spec = spec("piped", 2).replace("embedded:generator", &piped.display().to_string());
        assert_fails(&mut daemon, &place, &spec, &[file, "a regular file is expected"]).await;
        fs::remove_dir_all(&piped).unwrap();
    }
    let pipe = folder.path().join("models/prompts.jsonl");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let pipe = pipe.display().to_string();
    let prompts = spec("piped", 2).replace("embedded:prompts/articles.jsonl", &pipe);
    assert_fails(&mut daemon, &place, &prompts, &["prompts.jsonl", "a regular file is expected"]).await;
    let drawn = drawing(&pipe);
    assert_fails(&mut daemon, &place, &drawn, &["prompts.jsonl", "a regular file is expected"]).await;
}

#[tokio::test]
async fn a_template_that_does_not_end_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), &allowing(folder.path()));
    let mut daemon = place.start();
    let looping = model(folder.path(), "looping");
    for (template, expected) in [
        ("{% for a in range(100000) %}".repeat(4) + &"{% endfor %}".repeat(4), "fuel"),
        ("{% for a in range(100000) %}".to_owned() + &"x".repeat(9000) + "{% endfor %}", "16777216 bytes"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(), "recursion"),
    ] {
        fs::write(looping.join("chat_template.jinja"), template).unwrap();
        let parts = ["chat_template.jinja", expected];
        assert_fails(&mut daemon, &place, &chatting("looping", &looping), &parts).await;
    }
    fs::write(
        looping.join("chat_template.jinja"),
        "{% for a in range(100000) %}".repeat(4) + &"{% endfor %}".repeat(4),
    )
    .unwrap();
    fs::write(folder.path().join("spec.toml"), chatting("looping", &looping)).unwrap();
    let (good, message) = said(&mut dpg(folder.path(), &["plan", "spec.toml"]));
    assert!(!good && message.contains("fuel"), "{message}");
}

/// A template that takes few steps and hours: nothing asks whether to go on, so its process is ended.
const SLOW: &str = "{% set many = range(100000) | list %}{% for a in range(100000) %}{% set b = many | sort | list %}{% endfor %}";

#[tokio::test]
#[ignore = "waits for a run that hangs; .ci/run runs it"]
async fn a_run_that_does_not_stop_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut place = Place::new(folder.path(), &allowing(folder.path()));
    place.config = place.config.replace("shutdown_seconds = 30", "shutdown_seconds = 1");
    let slow = model(folder.path(), "slow");
    fs::write(slow.join("chat_template.jinja"), SLOW).unwrap();
    let queue = place.queue().await;
    let mut daemon = place.start();
    let id = enqueue(&queue, &chatting("slow", &slow)).await;
    daemon.until(&queue, id, |job| job.state == State::Running).await;
    let before = until_busy(&mut daemon).await;
    queue.cancel(id).await.unwrap();
    let ended = daemon.until(&queue, id, |job| job.state.has_ended()).await;
    assert_eq!(ended.state, State::Cancelled, "{ended:#?}");
    // another process does the next
    let id = enqueue(&queue, &spec("next", 2)).await;
    let ended = daemon.until(&queue, id, |job| job.state.has_ended()).await;
    assert_eq!(ended.state, State::Succeeded, "{ended:#?}");
    assert_ne!(worker(&mut daemon).await, before);

    let id = enqueue(&queue, &chatting("slow", &slow)).await;
    daemon.until(&queue, id, |job| job.state == State::Running).await;
    until_busy(&mut daemon).await;
    assert!(daemon.terminate().await.success(), "{}", daemon.log());
    let given_back = queue.job(id).await.unwrap();
    assert_eq!((given_back.state, given_back.attempts), (State::Queued, 0), "{given_back:#?}");
}

/// A template that doubles a text ends its process when that may have no more memory.
#[tokio::test]
async fn a_template_that_takes_all_memory_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), &allowing(folder.path()));
    let greedy = model(folder.path(), "greedy");
    let template =
        "{% set n = namespace(x='aaaaaaaa') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}";
    fs::write(greedy.join("chat_template.jinja"), template).unwrap();
    let mut daemon = place.start();
    let process = worker(&mut daemon).await;
    let queue = place.queue().await;
    // it has loaded what it will
    let id = enqueue(&queue, &spec("first", 2)).await;
    daemon.until(&queue, id, |job| job.state.has_ended()).await;
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let size: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
    let limit = format!("--as={}", size * 1024 + (1 << 29));
    let limited = Command::new("prlimit").args(["--pid", &process.to_string(), &limit]).status();
    assert!(limited.unwrap().success());
    assert_fails(&mut daemon, &place, &chatting("greedy", &greedy), &["ended its worker process"]).await;
    let id = enqueue(&queue, &spec("next", 2)).await;
    let ended = daemon.until(&queue, id, |job| job.state.has_ended()).await;
    assert_eq!(ended.state, State::Succeeded, "{ended:#?}");
}

#[test]
fn a_picture_is_small_and_a_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("spec.toml"), drawing("a.png")).unwrap();
    let picture = folder.path().join("a.png");
    // a head that says 11000 x 11000 grey pixels, and nothing after it
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x2a\xf8\0\0\x2a\xf8\x08\0\0\0\0".to_vec();
    png.extend(0xeb44_c556_u32.to_be_bytes());
    fs::write(&picture, &png).unwrap();
    let plan = || said(&mut dpg(folder.path(), &["plan", "spec.toml"]));
    let (good, message) = plan();
    assert!(!good && message.contains("a.png") && message.contains("exceed"), "{message}");
    fs::remove_file(&picture).unwrap();
    symlink("/dev/zero", &picture).unwrap();
    let (good, message) = plan();
    assert!(!good && message.contains("a regular file is expected"), "{message}");
}
