//! Other users of the machine: what the data folder lets them read.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::{IDLE, Target, dpg};

const SECRETS: [&str; 3] = ["admin.token", "daemon.secret", "signing-key.pem"];

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Secrets and databases in the folder that another user could read.
fn open_to_others(data: &Path) -> Vec<String> {
    let names = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_secret = |name: &String| SECRETS.contains(&name.as_str()) || name.starts_with("queue.db");
    names.filter(|name| is_secret(name) && mode(&data.join(name)) & 0o077 != 0).collect()
}

#[test]
fn no_umask_opens_the_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_dpg");
    let script = format!("umask 000; '{program}' list && '{program}' datasets public-key");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script])
        .current_dir(folder.path())
        .env("DPG_DATA_DIR", "data")
        .env_remove("DPG_URL");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let data = folder.path().join("data");
    assert_eq!(mode(&data), 0o700);
    assert_eq!(open_to_others(&data), Vec::<String>::new());
    assert!(data.join("queue.db").exists() && data.join("signing-key.pem").exists());
}

#[tokio::test]
async fn a_folder_that_was_open_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    assert!(dpg(folder.path(), &["list"]).status().unwrap().success());
    for (name, mode) in [("", 0o755), ("queue.db", 0o644), ("admin.token", 0o644)] {
        fs::set_permissions(data.join(name), Permissions::from_mode(mode)).unwrap();
    }
    let target = Target::start_in(folder, IDLE).await;
    let data = target.data();
    assert_eq!(mode(&data), 0o700);
    assert_eq!(open_to_others(&data), Vec::<String>::new());
    assert!(data.join("queue.db-wal").exists() && data.join("daemon.secret").exists());
    let log = target.daemon.log();
    assert_eq!(log.matches("to other users").count(), 3, "{log}");
}
