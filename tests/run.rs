//! A run is killed, cancelled, or finds the disk full, and still ends with the same dataset.

mod python;
mod skip;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

const SPEC: &str = r#"
name = "story"
seed = 5
[target]
model = "embedded:target"
[target.sft]
optimizer = { kind = "adamw", learning_rate = 1e-4, eps_root = 1e-4 }
sequence_length = 64
batch_size = 8
[metric]
kind = "held_out_loss"
data = { path = "embedded:held-out/es.jsonl", column = "text", limit = 16 }
[generator]
model = "embedded:generator"
prompts = { path = "embedded:prompts/articles.jsonl" }
template = "Rephrase the article.\n{text}\n"
max_new_tokens = 16
[policy]
steps = 6
prompts_per_step = 4
group_size = 4
advantage = "group_mean"
learning_rate = 5e-4
kl = 0.05
minibatch_prompts = 2
validate_every = 2
[output]
examples = 48
"#;

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg"));
    command.current_dir(folder).args(arguments).args(["--data-dir", "data"]);
    command
}

fn start(folder: &Path) -> Child {
    let log = fs::File::create(folder.join("log")).unwrap();
    command(folder, &["run", "spec.toml"]).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn run(folder: &Path) -> Output {
    command(folder, &["run", "spec.toml", "--json"]).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("spec.toml"), SPEC).unwrap();
    folder
}

/// The Parquet files of the published dataset, fetched.
fn dataset(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let fetched = command(folder, &["fetch", "story@latest", "fetched"]).output().unwrap();
    assert!(fetched.status.success(), "{}", stderr(&fetched));
    let mut files = BTreeMap::new();
    for part in ["data", "rewards"] {
        for entry in fs::read_dir(folder.join("fetched").join(part)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{part}/{}", path.file_name().unwrap().to_str().unwrap());
            files.insert(name, fs::read(path).unwrap());
        }
    }
    assert_eq!(files.len(), 2, "{:?}", files.keys());
    files
}

/// Every spec that comes with the program is one whose rewards tell good examples from bad ones.
#[test]
#[ignore = "plans every spec with its signal: a minute"]
fn the_specs_at_hand_are_sound() {
    let specs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/specs");
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(specs).unwrap() {
        let spec = entry.unwrap().path();
        if fs::read_to_string(&spec).unwrap().contains("teacher = ") {
            // asks somebody who is not here
            continue;
        }
        let plan = command(folder.path(), &["plan", "--signal", spec.to_str().unwrap()]).output().unwrap();
        assert!(plan.status.success(), "{}", stderr(&plan));
        let said = String::from_utf8(plan.stdout).unwrap();
        assert!(said.contains("the rewards tell good examples from bad ones"), "{said}");
    }
}

/// The tools that people read datasets with.
#[test]
fn its_dataset_is_read_by_other_tools() {
    let Some(python) = python::python("pyarrow, duckdb, polars, datasets") else { return };
    let folder = folder();
    let output = run(folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    dataset(folder.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/readers.py");
    let read = Command::new(python).arg(script).arg(folder.path().join("fetched")).output().unwrap();
    assert!(read.status.success(), "{}", stderr(&read));
}

/// An undisturbed run, made once: its dataset, and how long it took.
static UNDISTURBED: LazyLock<(BTreeMap<String, Vec<u8>>, Duration)> = LazyLock::new(|| {
    let folder = folder();
    let started = Instant::now();
    let output = run(folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    (dataset(folder.path()), started.elapsed())
});

/// Devices that share a run add up in a fixed order.
#[test]
#[ignore = "a story of two runs; .ci/run runs it"]
fn a_run_on_two_devices_is_repeated_to_the_bit() {
    let made = || {
        let folder = folder();
        let output =
            command(folder.path(), &["run", "spec.toml", "--json", "--device", "cpu,cpu"]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        dataset(folder.path())
    };
    assert!(made() == made());
}

/// Three kills of a run, each somewhere in what the run would still have to do.
#[test]
#[ignore = "a story of several runs; .ci/run runs it"]
fn killed_at_any_point_a_run_ends_with_the_same_dataset() {
    let (expected, time) = &*UNDISTURBED;
    let folder = folder();
    let random = u64::from(std::process::id()).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11;
    for kill in 0..3u32 {
        let share = f64::from((random >> (kill * 16)) as u16) / 65536.0;
        let delay = time.mul_f64(0.1 + 0.5 * share);
        println!("kill {kill} after {delay:?} of {time:?}");
        let mut child = start(folder.path());
        std::thread::sleep(delay);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let output = run(folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(dataset(folder.path()) == *expected, "the dataset differs from that of an undisturbed run");
}

#[cfg(unix)]
#[test]
#[ignore = "a story of two runs; .ci/run runs it"]
fn an_interrupted_run_says_how_to_go_on() {
    let (expected, _) = &*UNDISTURBED;
    let folder = folder();
    let mut child = start(folder.path());
    let log = folder.path().join("log");
    let deadline = Instant::now() + Duration::from_mins(2);
    while !fs::read_to_string(&log).unwrap().contains("step 2/6") {
        assert!(Instant::now() < deadline, "{}", fs::read_to_string(&log).unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert!(!child.wait().unwrap().success());
    let message = fs::read_to_string(&log).unwrap();
    assert!(message.contains("`dpg run spec.toml` goes on"), "{message}");

    let output = run(folder.path());
    assert!(output.status.success() && stderr(&output).contains("resuming at step"), "{}", stderr(&output));
    assert!(dataset(folder.path()) == *expected, "the dataset differs from that of an undisturbed run");
}

/// The registry lies on a file system of 16 KiB at first. Needs user namespaces; without them the
/// registry's own tests are what covers a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_nothing() {
    let in_namespace = |folder: &Path, script: &str| {
        Command::new("unshare").args(["-rm", "sh", "-c", script]).current_dir(folder).output()
    };
    let folder = folder();
    let registry = folder.path().join("data/registry");
    fs::create_dir_all(&registry).unwrap();
    let mount = "mount -t tmpfs -o size=16k tmpfs data/registry";
    if !in_namespace(folder.path(), mount).is_ok_and(|output| output.status.success()) {
        skip::skip("this machine allows no user namespaces");
        return;
    }
    let script = format!("{mount} && exec {} run spec.toml --data-dir data", env!("CARGO_BIN_EXE_dpg"));
    let output = in_namespace(folder.path(), &script).unwrap();
    let message = stderr(&output);
    assert!(!output.status.success());
    assert!(message.contains("cannot publish") && message.contains("no space left"), "{message}");

    // with room, nothing is computed again but the final draw
    let output = run(folder.path());
    assert!(output.status.success() && stderr(&output).contains("resuming at step 6"), "{}", stderr(&output));
    assert_eq!(dataset(folder.path()).len(), 2);
}

#[test]
fn one_run_at_a_time() {
    let folder = folder();
    let mut child = start(folder.path());
    let log = folder.path().join("log");
    while fs::read_to_string(&log).unwrap().is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = run(folder.path());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!second.status.success());
    assert!(stderr(&second).contains("another process"), "{}", stderr(&second));
}
