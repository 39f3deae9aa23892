//! What README.md shows of its first run is what a first run says.

mod python;
mod skip;

use std::path::Path;
use std::process::Command;

/// The fenced blocks of README.md that show what commands say.
fn shown() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let fenced = text.split("\n```").skip(1).step_by(2);
    let plain = fenced.filter_map(|block| block.strip_prefix('\n').map(str::to_owned));
    // of the last one nothing is shown but what is typed
    plain.filter(|block| block.lines().any(|line| !is_typed(line))).collect()
}

fn is_typed(line: &str) -> bool {
    line.starts_with("$ ") || line.starts_with("    ")
}

/// Asserts that the lines of a block that are not typed are lines of `said`, in that order. Columns may be wider:
/// a block shows some of the rows.
fn assert_said(block: &str, said: &str) {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines = said.lines().map(words);
    for line in block.lines().filter(|line| !is_typed(line) && *line != "...") {
        assert!(
            lines.any(|other| other == words(line)),
            "README shows `{line}`, which is not said here:\n{said}"
        );
    }
}

/// What a command says on both streams.
fn said(folder: &Path, program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .current_dir(folder)
        .args(arguments)
        .env("DPG_DATA_DIR", folder.join("data"))
        .output()
        .unwrap();
    let text = [output.stderr, output.stdout].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
#[ignore = "the first run of README.md, of some minutes; .ci/run runs it"]
fn a_first_run_says_what_the_readme_shows() {
    let blocks = shown();
    let [run, rows, verification] = &blocks[..] else { panic!("other blocks than these: {blocks:#?}") };
    let Some(python) = python::python("duckdb") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let dpg = Path::new(env!("CARGO_BIN_EXE_dpg"));
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/specs/spanish.toml");
    assert_said(run, &said(folder, dpg, &["run", spec.to_str().unwrap()]));

    said(folder, dpg, &["fetch", "spanish@latest", "spanish"]);
    let query = rows.split('"').nth(1).expect("a query between quotes");
    let script = format!("import duckdb\nduckdb.sql(\"{query}\").show(max_width=200)");
    assert_said(rows, &said(folder, python.as_ref(), &["-c", &script]));

    assert_said(verification, &said(folder, dpg, &["verify", "spanish"]));
}
