//! What people read, word for word: help texts, errors and a plan. The texts lie in `snapshots/`;
//! `INSTA_UPDATE=always cargo test --workspace --test snapshots` writes them anew.

use std::fs;
use std::path::Path;
use std::process::Command;

const SPEC: &str = r#"
name = "snapshot"
[target]
model = "embedded:target"
[target.sft]
optimizer = { kind = "adamw", learning_rate = 1e-4, eps_root = 1e-9 }
sequence_length = 32
batch_size = 4
[metric]
kind = "weight_norm"
[generator]
model = "embedded:generator"
prompts = { path = "embedded:prompts/articles.jsonl" }
template = "Rephrase the article.\n{text}\n"
max_new_tokens = 8
[policy]
steps = 2
prompts_per_step = 2
group_size = 2
[output]
examples = 8
"#;

/// What `dpg` says in a folder, and how it ends. Paths of the folder are `FOLDER`.
fn said(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg"));
    command.current_dir(folder).args(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DPG_")) {
        command.env_remove(name);
    }
    let output = command.env("DPG_DATA_DIR", "data").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let said = text(output.stdout) + &text(output.stderr);
    let said = said.replace(folder.to_str().unwrap(), "FOLDER").replace("=data]", "]");
    format!("$ dpg {}\n{said}{}\n", arguments.join(" "), output.status)
}

/// Compares a text with the snapshot of a name.
fn assert_snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<&str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let names =
        listed.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").collect()
}

/// The help of a command and of all below it.
fn help(folder: &Path, command: &[&str]) -> String {
    let own = said(folder, &[command, &["--help"]].concat());
    let below = commands(&own).into_iter().map(|name| help(folder, &[command, &[name]].concat()));
    let below: Vec<_> = below.collect();
    [own.clone()].into_iter().chain(below).collect::<Vec<_>>().join("\n")
}

#[test]
fn help_texts() {
    let folder = tempfile::tempdir().unwrap();
    let root = said(folder.path(), &["--help"]);
    assert_snapshot("help", &root);
    let names = commands(&root);
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert_snapshot(&format!("help-{name}"), &help(folder.path(), &[name]));
    }
}

#[test]
fn errors() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("empty")).unwrap();
    let mut all = vec![];
    for (name, from, to) in [
        ("key.toml", "steps = 2", "stpes = 2"),
        ("value.toml", "steps = 2", "steps = \"many\""),
        ("kind.toml", "\"weight_norm\"", "\"weight_nrom\""),
        ("range.toml", "batch_size = 4", "batch_size = 0"),
        ("syntax.toml", "steps = 2", "steps = "),
        ("model.toml", "model = \"embedded:target\"", "model = \"empty\""),
        ("no-model.toml", "model = \"embedded:target\"", "model = \"absent\""),
        ("embedded.toml", "model = \"embedded:target\"", "model = \"embedded:tagret\""),
        ("prompts.toml", "embedded:prompts/articles.jsonl", "articles.jsonl"),
        ("precision.toml", "max_new_tokens = 8", "max_new_tokens = 8\nprecision = \"bf16\""),
    ] {
        assert!(SPEC.contains(from), "{from}");
        fs::write(folder.join(name), SPEC.replace(from, to)).unwrap();
        all.push(said(folder, &["plan", name]));
    }
    fs::write(folder.join("spec.toml"), SPEC).unwrap();
    let commands: [&[&str]; 6] = [
        &["plan", "absent.toml"],
        &["plan", "spec.toml", "--device", "gpu"],
        &["plan", "spec.toml", "--device", "cpu,cuda:0"],
        &["score", "spec.toml", "--data", "absent.jsonl", "--out", "scored.parquet"],
        &["fetch", "absent", "fetched"],
        &["paln", "spec.toml"],
    ];
    all.extend(commands.map(|arguments| said(folder, arguments)));
    assert_snapshot("errors", &all.join("\n"));
}

/// Hides numbers with a fraction or an exponent, and how many times something is: times, memory, and what rounding
/// depends on.
fn without_measures(text: &str) -> String {
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let next = words.iter().skip(1).copied().chain([""]);
        let word = |(word, next): (&&str, &str)| {
            let digits = word.trim_end_matches([',', ';', '.']);
            let measured = digits.contains(['.', 'e']) || next == "times";
            if measured && digits.parse::<f64>().is_ok() {
                word.replace(digits, "#")
            } else {
                (*word).to_owned()
            }
        };
        words.iter().zip(next).map(word).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn plan() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("spec.toml"), SPEC).unwrap();
    for (name, flags) in [("plan", &[][..]), ("plan-in-full", &["--signal", "--precision", "--reweigh", "1"])]
    {
        let said = said(folder.path(), &[&["plan", "spec.toml"], flags].concat());
        let (head, measures) = said.split_once("a step").unwrap();
        assert_snapshot(name, &format!("{head}a step{}", without_measures(measures)));
    }
}
