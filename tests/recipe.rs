//! What a recipe is and what it does to rewards is said: in the plan, the card, a score and an audit.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const SPEC: &str = r#"
name = "said"
[target]
model = "embedded:target"
[target.sft]
optimizer = OPTIMIZER
batch_size = 4
sequence_length = 48
[metric]
kind = "held_out_loss"
data = { path = "embedded:held-out/es.jsonl", column = "text", limit = 4 }
[generator]
model = "embedded:generator"
prompts = { path = "embedded:prompts/articles.jsonl", column = "text" }
template = "Rephrase the article.\n{text}\n"
max_new_tokens = 8
[policy]
steps = 1
prompts_per_step = 2
group_size = 2
[output]
examples = 4
"#;

const SMOOTH: &str = r#"{ kind = "adamw", learning_rate = 1e-4, eps_root = 1e-4 }"#;
const SATURATED: [&str; 2] = [
    r#"{ kind = "adamw", learning_rate = 1e-4, eps_root = 0.0 }"#,
    r#"{ kind = "adamw", learning_rate = 1e-4, eps_root = 1e-17 }"#,
];
const TEXTS: [&str; 3] = ["El gato come pan.", "La casa es grande.", "Un perro duerme en el patio."];

/// Runs a command with `--json` if that is among the arguments; the spec is `spec.toml`, the texts `texts.jsonl`.
fn dpg(folder: &Path, optimizer: &str, texts: &[&str], arguments: &[&str]) -> Output {
    fs::write(folder.join("spec.toml"), SPEC.replace("OPTIMIZER", optimizer)).unwrap();
    let lines: Vec<_> = texts.iter().map(|text| format!("{{\"text\": \"{text}\"}}\n")).collect();
    fs::write(folder.join("texts.jsonl"), lines.concat()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg"));
    let output = command.current_dir(folder).args(arguments).args(["--data-dir", "data"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

const SCORE: [&str; 6] = ["score", "spec.toml", "--data", "texts.jsonl", "--out", "out.parquet"];
const AUDIT: [&str; 4] = ["audit", "spec.toml", "--data", "texts.jsonl"];

#[test]
fn a_saturated_step_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    for optimizer in &SATURATED[1..] {
        let scored = text(&dpg(folder.path(), optimizer, &TEXTS, &SCORE));
        assert!(scored.contains("WARNING") && scored.contains("raise eps_root to about"), "{scored}");
        let audited = text(&dpg(folder.path(), optimizer, &TEXTS, &AUDIT));
        assert!(audited.contains("WARNING") && audited.contains("raise eps_root to about"), "{audited}");
    }
    let scored = json(&dpg(folder.path(), SATURATED[0], &TEXTS, &[&SCORE[..], &["--json"]].concat()));
    assert!(scored["warnings"][0].as_str().unwrap().contains("eps_root"), "{scored}");
    let audited = json(&dpg(folder.path(), SATURATED[0], &TEXTS, &[&AUDIT[..], &["--json"]].concat()));
    assert!(audited["finite_difference_error"].as_f64().unwrap() > 0.05, "{audited}");
    assert!(audited["warnings"][0].as_str().unwrap().contains("off from finite differences"), "{audited}");
}

#[test]
fn sound_rewards_are_not_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    for command in [&SCORE[..], &AUDIT] {
        let said = json(&dpg(folder.path(), SMOOTH, &TEXTS, &[command, &["--json"]].concat()));
        assert_eq!(said["warnings"], serde_json::json!([]), "{said}");
    }
    let scored = json(&dpg(folder.path(), SMOOTH, &TEXTS, &[&SCORE[..], &["--json"]].concat()));
    let rounding = scored["rounding"].as_f64().unwrap();
    assert!(rounding > 1e-9 && rounding < 1e-3, "{scored}");
    assert!(
        text(&dpg(folder.path(), SMOOTH, &TEXTS, &SCORE)).contains("single precision puts rewards off by")
    );
    let double = [&SCORE[..], &["--dtype", "f64", "--json"]].concat();
    assert!(json(&dpg(folder.path(), SMOOTH, &TEXTS, &double))["rounding"].is_null());
}

#[test]
fn what_has_no_value_is_said_to_have_none() {
    let folder = tempfile::tempdir().unwrap();
    let one = &TEXTS[..1];
    assert!(text(&dpg(folder.path(), SMOOTH, one, &SCORE)).contains("undefined (one example)"));
    let scored = json(&dpg(folder.path(), SMOOTH, one, &[&SCORE[..], &["--json"]].concat()));
    assert!(scored["reward_std"].is_null() && scored["reward_mean"].is_number(), "{scored}");
    let audited = text(&dpg(folder.path(), SMOOTH, one, &AUDIT));
    assert!(audited.contains("undefined (fewer than 3 pairs)"), "{audited}");
    let audited = json(&dpg(folder.path(), SMOOTH, one, &[&AUDIT[..], &["--json"]].concat()));
    assert!(audited["leave_one_out_rank_correlation"].is_null(), "{audited}");
    assert!(audited["finite_difference_error"].is_number(), "{audited}");
}

#[test]
fn a_plan_and_a_card_say_what_the_recipe_is() {
    let folder = tempfile::tempdir().unwrap();
    let plan = json(&dpg(folder.path(), SMOOTH, &TEXTS, &["plan", "spec.toml", "--json"]));
    let recipe: Vec<_> =
        plan["recipe"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    for words in [
        "AdamW, learning rate 1e-4",
        "mean over all tokens",
        "PyTorch's has no eps_root",
        "leaves out biases and norms",
        "lr_scheduler_type",
        "max_grad_norm",
        "`pad_token_id`, 0, gets no gradient",
    ] {
        assert!(recipe.iter().any(|line| line.contains(words)), "`{words}` is not in {recipe:#?}");
    }
    // this model has none
    assert!(!recipe.iter().any(|line| line.contains("dropout")), "{recipe:#?}");
    let plan = text(&dpg(folder.path(), SMOOTH, &TEXTS, &["plan", "spec.toml"]));
    assert!(recipe.iter().all(|line| plan.contains(line)), "{plan}");

    dpg(folder.path(), SMOOTH, &TEXTS, &["run", "spec.toml"]);
    dpg(folder.path(), SMOOTH, &TEXTS, &["fetch", "said", "copy"]);
    let card = fs::read_to_string(folder.path().join("copy/README.md")).unwrap();
    assert!(recipe.iter().all(|line| card.contains(&format!("- {line}\n"))), "{card}");
}
