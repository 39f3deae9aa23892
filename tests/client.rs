//! The Python package of deploy/python against a daemon, and its example from the first line to the last.

mod python;
mod serving;
mod skip;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serving::{Daemon, Place, spec};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A daemon in `folder`, its address and its token.
fn serve(folder: &Path) -> (Daemon, String, String) {
    let daemon = Place::new(folder, "").start();
    let read = |name: &str| {
        let started = Instant::now();
        loop {
            match fs::read_to_string(folder.join("data").join(name)) {
                Ok(text) if !text.is_empty() => return text.trim().to_owned(),
                _ => assert!(started.elapsed() < Duration::from_mins(1), "no {name}:\n{}", daemon.log()),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let (url, token) = (read("daemon.url"), read("admin.token"));
    (daemon, url, token)
}

/// A Python that finds the package, and this build's `dpg`, against that daemon.
fn python_with(python: &str, folder: &Path, url: &str, token: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_dpg"));
    let path =
        format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(python);
    command
        .arg("-B")
        .current_dir(folder)
        .env("PYTHONPATH", repository().join("deploy/python"))
        .env("PATH", path)
        .env("DPG_URL", url)
        .env("DPG_TOKEN", token)
        .env("DPG_DATA_DIR", folder.join("own"))
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .env("HF_HOME", folder.join("hf"));
    command
}

fn assert_runs(mut command: Command, daemon: &Daemon) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}\n{}", daemon.log());
    said
}

#[test]
fn the_package_does_what_it_says() {
    let Some(python) = python::python("datasets, pyarrow") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (daemon, url, token) = serve(folder.path());
    fs::write(folder.path().join("spec.toml"), spec("from-python", 2)).unwrap();
    let mut command = python_with(&python, folder.path(), &url, &token);
    command.arg(repository().join("tests/client.py"));
    let said = assert_runs(command, &daemon);
    assert!(said.ends_with("all is as it should be\n"), "{said}");
}

/// `DPG_TEST_PYTHON_TORCH=/path/to/python cargo test --test client -- --ignored --nocapture`, with a Python that has
/// torch, transformers, datasets and trl.
#[test]
#[ignore = "needs a Python with PyTorch and TRL in DPG_TEST_PYTHON_TORCH"]
fn the_example_ends_with_a_better_model() {
    let python = std::env::var("DPG_TEST_PYTHON_TORCH")
        .expect("DPG_TEST_PYTHON_TORCH names a Python with PyTorch and TRL");
    let folder = tempfile::tempdir().unwrap();
    let (daemon, url, token) = serve(folder.path());
    let mut command = python_with(&python, folder.path(), &url, &token);
    command.arg(repository().join("deploy/python/example.py"));
    let said = assert_runs(command, &daemon);
    println!("{said}");
    let loss = |of: &str| -> f64 {
        let line = said.lines().find(|line| line.starts_with(of)).unwrap_or_else(|| panic!("{said}"));
        line.split_whitespace().last().unwrap().parse().unwrap()
    };
    assert!(loss("the dataset") < loss("nothing"), "{said}");
    assert!(loss("the dataset") < loss("its prompts"), "{said}");
}
