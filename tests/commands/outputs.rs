//! What commands write: never over what they read or what is another's, whole or not at all; and without a
//! panic to an output that takes no more.

use std::fs::{self, File};
use std::io::pipe;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::{dpg, fail, folder, json_of, succeed};

const ROWS: &str =
    "{\"text\": \"one two three\", \"source\": 1}\n{\"text\": \"a longer row of words\", \"source\": 2}\n";

fn score(folder: &Path, data: &str, out: &str, more: &[&str]) -> std::process::Command {
    let mut command = dpg(folder, &["score", "spec.toml", "--data", data, "--out", out]);
    command.args(more);
    command
}

fn rows_of(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn score_keeps_its_data_and_other_peoples_files() {
    let folder = folder(1);
    let path = |name: &str| folder.path().join(name);
    fs::write(path("rows.jsonl"), ROWS).unwrap();
    fs::write(path("mine.parquet"), "mine").unwrap();
    symlink("rows.jsonl", path("link.parquet")).unwrap();
    fs::hard_link(path("rows.jsonl"), path("hard.parquet")).unwrap();
    for (out, more) in [
        ("rows.jsonl", &[][..]),
        ("./data/../rows.jsonl", &["--overwrite"]),
        ("link.parquet", &["--overwrite"]),
        ("hard.parquet", &["--overwrite"]),
        ("spec.toml", &["--overwrite"]),
    ] {
        let refused = fail(&mut score(folder.path(), "rows.jsonl", out, more));
        assert!(refused.contains("which this command reads"), "{out}: {refused}");
    }
    let refused = fail(&mut score(folder.path(), "rows.jsonl", "mine.parquet", &[]));
    assert!(refused.contains("`--out mine.parquet` is there already (4 bytes"), "{refused}");
    assert!(refused.contains("--overwrite"), "{refused}");
    assert_eq!(fs::read_to_string(path("rows.jsonl")).unwrap(), ROWS);
    assert_eq!(fs::read_to_string(path("mine.parquet")).unwrap(), "mine");

    // its own Parquet it replaces, and what it is told to
    for _ in 0..2 {
        succeed(&mut score(folder.path(), "rows.jsonl", "out.parquet", &[]));
    }
    succeed(&mut score(folder.path(), "rows.jsonl", "mine.parquet", &["--overwrite"]));
    succeed(&mut score(folder.path(), "rows.jsonl", "out.jsonl", &[]));
    let rows = rows_of(&path("out.jsonl"));
    assert_eq!((&rows[0]["text"], &rows[1]["source"]), (&"one two three".into(), &2.into()));
    assert!(rows.iter().all(|row| row["reward"].is_f64() && row["example_id"].is_string()), "{rows:?}");
    // what was scored is scored again, from standard input
    let (_, said) =
        succeed(score(folder.path(), "-", "again.jsonl", &[]).stdin(File::open(path("out.jsonl")).unwrap()));
    assert!(said.contains("`reward` is `input_reward` in `again.jsonl`"), "{said}");
    assert_eq!(rows_of(&path("again.jsonl"))[1]["input_reward"], rows[1]["reward"]);
    let refused = fail(&mut score(folder.path(), "mine.parquet", "mine.parquet", &["--overwrite"]));
    assert!(refused.contains("which this command reads"), "{refused}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 9, "nothing half is left");
}

#[test]
fn a_fetched_file_that_was_changed_is_kept() {
    let folder = folder(1);
    succeed(&mut dpg(folder.path(), &["run", "spec.toml"]));
    let fetch = ["fetch", "tiny", "fetched"];
    succeed(&mut dpg(folder.path(), &fetch));
    succeed(&mut dpg(folder.path(), &fetch));
    let card = folder.path().join("fetched/README.md");
    let published = fs::read_to_string(&card).unwrap();
    assert!(published.contains("8 rows, ") && published.contains(" duplicates, "), "{published}");
    fs::write(&card, "mine").unwrap();
    let refused = fail(&mut dpg(folder.path(), &fetch));
    assert!(refused.contains("fetched/README.md") && refused.contains("--overwrite"), "{refused}");
    assert_eq!(fs::read_to_string(&card).unwrap(), "mine");
    succeed(dpg(folder.path(), &fetch).arg("--overwrite"));
    assert_eq!(fs::read_to_string(&card).unwrap(), published);

    let generate =
        ["generate", "embedded-model", "--examples", "2", "--max-new-tokens", "4", "--out", "new.jsonl"];
    symlink(
        fs::read_dir(folder.path().join("data/embedded"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path()
            .join("target"),
        folder.path().join("embedded-model"),
    )
    .unwrap();
    succeed(&mut dpg(folder.path(), &generate));
    let drawn = rows_of(&folder.path().join("new.jsonl"));
    assert!(fail(&mut dpg(folder.path(), &generate)).contains("is there already"));
    succeed(dpg(folder.path(), &generate).arg("--overwrite"));
    assert_eq!(rows_of(&folder.path().join("new.jsonl")), drawn);
}

const PRINTING: [&[&str]; 8] = [
    &["--help"],
    &["config", "show"],
    &["datasets"],
    &["datasets", "public-key"],
    &["completions", "bash"],
    &["man"],
    &["list"],
    &["list", "--json"],
];

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let folder = folder(1);
    for arguments in PRINTING {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let output = dpg(folder.path(), arguments).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{arguments:?}");
        assert_eq!(crate::text(&output.stderr), "", "{arguments:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_an_output_is_an_error() {
    let folder = folder(1);
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    for arguments in PRINTING {
        let output = dpg(folder.path(), arguments).stdout(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = crate::text(&output.stderr);
        assert!(said.contains("cannot write to standard output: No space left"), "{arguments:?}: {said}");
        // and nobody can be told
        let output = dpg(folder.path(), arguments).stdout(full()).stderr(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    }
    let output = dpg(folder.path(), &["status", "nothing"]).stderr(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    // a command does what else it has to do
    let output = dpg(folder.path(), &["submit", "spec.toml"]).stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json_of(&mut dpg(folder.path(), &["list"])).as_array().unwrap().len(), 1);
}
