//! What is said when something goes wrong: each cause once, in the words of commands, with a way out that is
//! there.

use std::fs;
use std::process::Stdio;

use crate::serving::spec;
use crate::{dpg, fail, folder, json_of, outcome, succeed};

#[test]
fn a_cause_is_said_once_in_words_of_commands() {
    let folder = folder(1);
    let path = folder.path();
    fs::write(path.join("broken.toml"), "name = \"a\"\nname = \"b\"\n").unwrap();
    fs::write(path.join("broken.jsonl"), "{\"text\": 1}\n").unwrap();
    fs::write(path.join("broken.parquet"), "PAR1 and nothing else").unwrap();
    fs::write(path.join("lost.toml"), spec("lost", 1).replace("embedded:prompts/articles", "lost")).unwrap();
    fs::write(path.join("not.db"), "this is no database, but a text that is long enough to be read as one")
        .unwrap();
    fs::create_dir(path.join("folder")).unwrap();
    let score = |data| ["score", "spec.toml", "--data", data, "--out", "out.parquet"];
    let commands: [&[&str]; 18] = [
        &score("none.jsonl"),
        &score("broken.jsonl"),
        &score("broken.parquet"),
        &score("folder"),
        &["plan", "none.toml"],
        &["plan", "broken.toml"],
        &["plan", "lost.toml"],
        &["run", "lost.toml"],
        &["submit", "broken.toml"],
        &["status", "nothing"],
        &["schedule", "show", "nothing"],
        &["token", "revoke", "nothing"],
        &["schedule", "add", "often", "spec.toml", "--cron", "@noon"],
        &["fetch", "nothing", "to"],
        &["fetch", "nothing", "to", "--store", "spec.toml"],
        &["config", "check", "none.toml"],
        &["datasets", "--store", "s3://"],
        &["list", "--url", "http://127.0.0.1:1"],
    ];
    for arguments in commands {
        let said = fail(&mut dpg(path, arguments));
        assert_once(&said, arguments);
    }
    let said = fail(dpg(path, &["list"]).env("DPG_DATABASE", "sqlite:not.db"));
    assert_once(&said, &["list"]);
    assert!(said.contains("file is not a database"), "{said}");
    let said = fail(&mut dpg(path, &["status", "nothing"]));
    assert!(said.contains("`dpg list`"), "{said}");
}

/// No clause of a message stands in it twice, and no word is one of libraries or of the API.
fn assert_once(said: &str, arguments: &[&str]) {
    let clauses: Vec<_> = said.split(": ").map(str::trim).filter(|clause| clause.len() > 8).collect();
    for (number, clause) in clauses.iter().enumerate() {
        let again = clauses[number + 1..].iter().any(|other| other.contains(clause));
        assert!(!again, "{arguments:?}: `{clause}` is said twice in: {said}");
    }
    for word in
        ["sqlx", "reqwest", "hyper", "object_store", "tcp connect", "GET /v1", "Authorization", "panicked"]
    {
        assert!(!said.contains(word), "{arguments:?}: `{word}` is in: {said}");
    }
}

/// Displays that write their source out as well as having it say it twice.
#[test]
fn no_error_repeats_its_source() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders = vec![root.join("crates"), root.join("registry"), root.join("daemon")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                for attribute in text.split("#[error(").skip(1) {
                    seen += 1;
                    let display = attribute.split(")]").next().unwrap();
                    let variant = attribute.split(")]").nth(1).unwrap_or_default();
                    let variant = variant.split("#[error").next().unwrap_or_default();
                    let is_repeated = display.contains("{source")
                        || display.contains("{0}")
                            && variant.split(',').next().is_some_and(|field| field.contains("#[from]"));
                    assert!(!is_repeated, "{}: {display}", path.display());
                }
            }
        }
    }
    assert!(seen > 80, "{seen} errors were looked at");
}

#[test]
fn a_run_without_a_step_has_nothing_to_go_on_from() {
    let folder = folder(1);
    let path = folder.path();
    // a learning rate that no number survives
    fs::write(path.join("spec.toml"), spec("tiny", 1).replace("1e-4, eps_root", "1e38, eps_root")).unwrap();
    let said = fail(&mut dpg(path, &["run", "spec.toml"]));
    assert!(said.contains("the run of `tiny` failed: "), "{said}");
    assert!(!said.contains("goes on"), "{said}");
}

#[test]
fn nicknames_of_times_and_standard_input_are_taken() {
    let folder = folder(1);
    let path = folder.path();
    let input = || Stdio::from(fs::File::open(path.join("spec.toml")).unwrap());
    for name in ["hourly", "daily", "midnight", "weekly", "monthly", "yearly"] {
        let cron = format!("@{name}");
        succeed(dpg(path, &["schedule", "add", name, "-", "--cron", &cron]).stdin(input()));
    }
    let next = |name| json_of(&mut dpg(path, &["schedule", "show", name]))["upcoming"].clone();
    assert_eq!(next("midnight"), next("daily"));
    succeed(dpg(path, &["submit", "-"]).stdin(input()));
    assert!(fail(dpg(path, &["plan", "-"]).stdin(Stdio::null())).contains("standard input"));
    let both = ["score", "-", "--data", "-", "--out", "out.parquet"];
    assert!(fail(&mut dpg(path, &both)).contains("can be read once"));
    let (plan, _) = succeed(dpg(path, &["plan", "-"]).stdin(input()));
    assert!(plan.contains("`tiny` is valid"), "{plan}");
}

#[test]
fn who_follows_a_job_hears_of_its_end_by_the_exit_code() {
    let folder = folder(1);
    let path = folder.path();
    succeed(&mut dpg(path, &["submit", "spec.toml", "--wait"]));
    succeed(&mut dpg(path, &["logs", "-f", "tiny"]));
    succeed(&mut dpg(path, &["submit", "spec.toml"]));
    succeed(&mut dpg(path, &["cancel", "tiny"]));
    let (code, stdout, stderr) = outcome(&mut dpg(path, &["logs", "--follow", "tiny"]));
    assert_eq!(code, Some(1));
    assert!(stdout.contains("cancelled") && stderr.contains("is cancelled"), "{stdout}{stderr}");
    succeed(&mut dpg(path, &["logs", "tiny"]));
}
