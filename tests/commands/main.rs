//! Commands beside a daemon and without one: what they write and what they leave alone, where they look,
//! and what they say. The program is the real one.

mod clock;
#[path = "../constant.rs"]
mod constant;
mod data_folder;
mod init;
mod messages;
mod once;
mod outputs;
#[path = "../serving.rs"]
mod serving;
#[path = "../skip.rs"]
mod skip;
mod twice;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// `dpg` in a folder, with its data in `data` unless `arguments` say otherwise.
fn dpg(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    if !arguments.contains(&"--data-dir") {
        command.args(["--data-dir", "data"]);
    }
    for variable in ["DPG_URL", "DPG_TOKEN", "DPG_CONFIG", "DPG_DATABASE", "DPG_STORE", "DPG_LISTEN"] {
        command.env_remove(variable);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn outcome(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), text(&stdout), text(&stderr))
}

/// Standard output and standard error of a command that succeeds.
fn succeed(command: &mut Command) -> (String, String) {
    let (code, stdout, stderr) = outcome(command);
    assert_eq!(code, Some(0), "{command:?}: {stdout}{stderr}");
    (stdout, stderr)
}

/// The standard error of a command that fails.
fn fail(command: &mut Command) -> String {
    let (code, stdout, stderr) = outcome(command);
    assert_eq!(code, Some(1), "{command:?}: {stdout}{stderr}");
    stderr
}

/// What a command prints with `--json`.
fn json_of(command: &mut Command) -> Value {
    serde_json::from_str(&succeed(command.arg("--json")).0).unwrap()
}

/// A folder with a spec of `steps` steps in `spec.toml`.
fn folder(steps: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("spec.toml"), serving::spec("tiny", steps)).unwrap();
    folder
}
