//! A run that has published is not made again unless something changed or somebody asks; and what there is
//! to say against its dataset is said.

use std::fs;

use crate::{dpg, folder, json_of, serving, succeed};

#[test]
fn an_unchanged_spec_is_run_once() {
    let folder = folder(1);
    let path = folder.path();
    let prompts: String = (0..6).map(|n| format!("{{\"text\": \"Prompt number {n}.\"}}\n")).collect();
    fs::write(path.join("prompts.jsonl"), &prompts).unwrap();
    let spec = serving::spec("tiny", 1).replace("embedded:prompts/articles.jsonl", "prompts.jsonl");
    fs::write(path.join("spec.toml"), &spec).unwrap();

    let run = |more: &[&str]| json_of(dpg(path, &["run", "spec.toml"]).args(more));
    let first = run(&[]);
    assert_eq!(first["dataset"], "tiny@v1");
    assert_eq!(first["quality"]["rows"], 8);
    let (said, _) = succeed(&mut dpg(path, &["run", "spec.toml"]));
    assert!(said.contains("tiny@v1 was made from this spec") && said.contains("--again"), "{said}");
    let second = run(&[]);
    assert_eq!((&second["dataset"], &second["validation"]), (&first["dataset"], &first["validation"]));
    assert_eq!(run(&["--again"])["dataset"], "tiny@v2");
    // what the spec names counts as well
    fs::write(path.join("prompts.jsonl"), prompts.replace("number", "no.")).unwrap();
    assert_eq!(run(&[])["dataset"], "tiny@v3");
    assert_eq!(run(&[])["dataset"], "tiny@v3");
    // and a version that was withdrawn is none
    succeed(&mut dpg(path, &["datasets", "yank", "tiny@v3", "--reason", "wrong"]));
    assert_eq!(run(&[])["dataset"], "tiny@v4");
    assert_eq!(
        json_of(&mut dpg(path, &["datasets", "list", "tiny"]))["versions"].as_array().unwrap().len(),
        4
    );
}

/// Nobody can be asked by empty prompts.
#[test]
fn a_run_that_asked_nothing_says_so() {
    let folder = folder(1);
    let path = folder.path();
    fs::write(path.join("prompts.jsonl"), "{\"text\": \"\"}\n".repeat(6)).unwrap();
    let spec = serving::spec("still", 1)
        .replace("embedded:prompts/articles.jsonl", "prompts.jsonl")
        .replace("[policy]", "[policy]\nlearning_rate = 1e-30");
    fs::write(path.join("spec.toml"), &spec).unwrap();
    let (submitted, _) = succeed(&mut dpg(path, &["submit", "spec.toml", "--wait"]));
    assert!(submitted.contains("WARNING: ") && submitted.contains("prompts have no text"), "{submitted}");
    let job = json_of(&mut dpg(path, &["status", "still"]));
    let warnings = job["result"]["quality"]["warnings"].to_string();
    assert!(warnings.contains("prompts have no text"), "{warnings}");
    let (said, _) = succeed(&mut dpg(path, &["run", "spec.toml"]));
    assert!(said.contains("WARNING: ") && said.contains("prompts have no text"), "{said}");
    succeed(&mut dpg(path, &["fetch", "still", "fetched"]));
    let card = fs::read_to_string(path.join("fetched/README.md")).unwrap();
    assert!(card.contains("> **Warning.** 5 of 5 prompts"), "{card}");
}
