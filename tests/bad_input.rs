//! Bad input: each message names the place and the remedy.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const SPEC: &str = r#"
name = "bad"
[target]
model = "embedded:target"
[target.sft]
optimizer = { kind = "sgd", learning_rate = 0.1 }
sequence_length = 64
batch_size = 8
[metric]
kind = "weight_norm"
[generator]
model = "embedded:target"
prompts = { path = "embedded:prompts/articles.jsonl" }
template = "Rephrase the article.\n{text}\n"
max_new_tokens = 16
[policy]
steps = 1
prompts_per_step = 2
group_size = 2
"#;

fn dpg(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dpg"))
        .current_dir(folder)
        .args(arguments)
        .args(["--data-dir", "data"])
        .output()
        .unwrap()
}

/// The message of `dpg plan` on a spec in which `from` is replaced by `to`.
fn refusal(from: &str, to: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    assert!(SPEC.contains(from), "{from}");
    fs::write(folder.path().join("spec.toml"), SPEC.replace(from, to)).unwrap();
    let output = dpg(folder.path(), &["plan", "spec.toml"]);
    assert!(!output.status.success(), "{to} was accepted");
    String::from_utf8(output.stderr).unwrap()
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn keys_and_types() {
    assert_says(&refusal("steps = 1", "stpes = 1"), &["policy.stpes", "did you mean `steps`"]);
    assert_says(&refusal("steps = 1", "steps = \"many\""), &["policy.steps", "many"]);
    assert_says(
        &refusal("kind = \"weight_norm\"", "kind = \"weight_nrom\""),
        &["metric.kind", "weight_norm"],
    );
}

#[test]
fn files_that_are_not_there() {
    assert_says(
        &refusal("embedded:prompts/articles.jsonl", "nowhere.jsonl"),
        &["generator.prompts.path", "nowhere.jsonl"],
    );
    assert_says(
        &refusal("[target]\nmodel = \"embedded:target\"", "[target]\nmodel = \"embedded:targt\""),
        &["target.model", "targt", "target"],
    );
}

#[test]
fn model_folder_without_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    fs::create_dir(&model).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/embedded/target");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(source.join(file), model.join(file)).unwrap();
    }
    fs::write(folder.path().join("spec.toml"), SPEC.replacen("embedded:target", "model", 1)).unwrap();
    let output = dpg(folder.path(), &["plan", "spec.toml"]);
    assert!(!output.status.success());
    assert_says(&String::from_utf8(output.stderr).unwrap(), &["tokenizer.json", "model"]);
}

#[test]
fn truncated_weights() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    fs::create_dir(&model).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/embedded/target");
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    let weights = model.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    fs::write(folder.path().join("spec.toml"), SPEC.replacen("embedded:target", "model", 1)).unwrap();
    let output = dpg(folder.path(), &["plan", "spec.toml"]);
    assert!(!output.status.success());
    assert_says(&String::from_utf8(output.stderr).unwrap(), &["model.safetensors"]);
}

#[test]
fn sizes_that_do_not_fit() {
    assert_says(
        &refusal("max_new_tokens = 16", "max_new_tokens = 1000"),
        &["generator.prompts", "max_new_tokens", "256"],
    );
    assert_says(
        &refusal("sequence_length = 64", "sequence_length = 4000"),
        &["target.sft.sequence_length", "256"],
    );
    let pattern = "kind = \"weight_pattern\"\npattern = \"67\"\ncolumns = 4092";
    assert_says(&refusal("kind = \"weight_norm\"", pattern), &["metric.pattern", "outside", "[64, 4096]"]);
}

#[test]
fn precision_that_the_cpu_does_not_gain_from() {
    let message = refusal("max_new_tokens = 16", "max_new_tokens = 16\nprecision = \"bf16\"");
    assert_says(&message, &["precision = \"bf16\"", "--device cuda:0"]);
    let message = refusal("max_new_tokens = 16", "max_new_tokens = 16\nprecision = \"fp8\"");
    assert_says(&message, &["generator.precision", "bf16"]);
}

#[test]
fn empty_dataset() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("spec.toml"), SPEC).unwrap();
    fs::write(folder.path().join("empty.jsonl"), "").unwrap();
    let output = dpg(folder.path(), &["score", "spec.toml", "--data", "empty.jsonl", "--out", "out.parquet"]);
    assert!(!output.status.success());
    assert_says(&String::from_utf8(output.stderr).unwrap(), &["empty.jsonl"]);
}
