//! The rewards that metagradients are compared with, and early stops.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const SPEC: &str = r#"
name = "arm"
[target]
model = "embedded:target"
[target.sft]
optimizer = { kind = "adamw", learning_rate = 1e-4, eps_root = 1e-4 }
sequence_length = 64
batch_size = 16
[metric]
METRIC
[generator]
model = "embedded:generator"
prompts = { path = "embedded:prompts/articles.jsonl" }
template = "Rephrase the article.\n{text}\n"
max_new_tokens = 12
[policy]
steps = 2
prompts_per_step = 4
group_size = 4
validate_every = 1
validation_examples = 8
POLICY
[output]
examples = 8
"#;

const HELD_OUT: &str = r#"kind = "held_out_loss"
data = { path = "embedded:held-out/es.jsonl", column = "text", limit = 8 }"#;

fn run(folder: &Path, metric: &str, policy: &str) -> Output {
    fs::write(folder.join("arm.toml"), SPEC.replace("METRIC", metric).replace("POLICY", policy)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg"));
    command.current_dir(folder).args(["run", "arm.toml", "--json", "--data-dir", "data"]).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn every_reward_trains_a_generator() {
    let folder = tempfile::tempdir().unwrap();
    for (version, policy) in [
        "reward = \"metagradient\"",
        "cross_group_batching = false",
        "reward = \"dataset_metric\"\nadvantage = \"global\"\ndatasets_per_step = 2",
        "reward = \"levenshtein\"",
        "reward = \"embedding\"",
        "reward = \"language_id\"\nadvantage = \"global\"",
    ]
    .into_iter()
    .enumerate()
    {
        let output = run(folder.path(), HELD_OUT, policy);
        assert!(output.status.success(), "{policy}: {}", text(&output.stderr));
        let made: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(made["dataset"], format!("arm@v{}", version + 1), "{policy}");
        assert!(text(&output.stderr).contains("step 2/2"), "{policy}: {}", text(&output.stderr));
    }
}

#[test]
fn a_reward_that_cannot_be_had_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let norm = "kind = \"weight_norm\"";
    for (metric, policy, words) in [
        (norm, "reward = \"levenshtein\"", ["policy.reward", "held-out texts"]),
        (HELD_OUT, "reward = \"dataset_metric\"", ["policy.reward", "datasets_per_step"]),
        (HELD_OUT, "datasets_per_step = 5", ["policy.datasets_per_step", "prompts_per_step"]),
        (HELD_OUT, "stop_when = \"soon\"", ["policy.stop_when", "pixel_accuracy >= 1.0"]),
    ] {
        let output = run(folder.path(), metric, policy);
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{policy}");
        assert!(words.iter().all(|word| said.contains(word)), "{policy}: {said}");
    }
}

#[test]
fn a_run_stops_at_its_goal() {
    let folder = tempfile::tempdir().unwrap();
    let last_word = format!("{HELD_OUT}\nlast_word = true");
    let output = run(folder.path(), &last_word, "stop_when = \"perplexity > 1\"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("step 1/2"), "{}", text(&output.stderr));
    let output = run(folder.path(), &last_word, "stop_when = \"perplexity < 1\"");
    assert!(text(&output.stderr).contains("step 2/2"), "{}", text(&output.stderr));
}
