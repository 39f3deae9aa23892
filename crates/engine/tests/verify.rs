//! Verification tells a dataset that does its work from one that does not.

use std::path::Path;

use burn::tensor::{DType, Device};
use dpg_dataset::{Example, read_texts};
use dpg_engine::{Draw, Problem, Published, Verification};
use dpg_spec::{Spec, Syntax};

const SPEC: &str = r#"
name = "verified"
[target]
model = "EMBEDDED/target"
[target.sft]
optimizer = { kind = "adamw", learning_rate = 1e-4, eps_root = 1e-4 }
batch_size = 32
sequence_length = 64
[metric]
kind = "held_out_loss"
data = { path = "EMBEDDED/held-out/es.jsonl", column = "text", limit = 16 }
[generator]
model = "EMBEDDED/generator"
prompts = { path = "EMBEDDED/prompts/articles.jsonl", column = "text" }
template = "Rephrase the article.\n{text}\n"
max_new_tokens = 24
[policy]
prompts_per_step = 16
"#;

/// Texts of two languages with their rewards, verified after `change`.
fn verified(change: impl Fn(&mut Vec<Example>, &mut Vec<f64>)) -> Verification {
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/embedded");
    let spec = SPEC.replace("EMBEDDED", &embedded.to_string_lossy());
    let spec = Spec::parse(&spec, Syntax::Toml).unwrap();
    let problem = Problem::load(&spec, DType::F32, &[Device::flex()], &|| false).unwrap();
    let texts = |file: &str, from: usize| {
        let texts = read_texts(&embedded.join(file), "text", None).unwrap();
        texts.into_iter().skip(from).take(40).map(Example::Text).collect::<Vec<_>>()
    };
    let mut examples = texts("held-out/es.jsonl", 16);
    examples.extend(texts("held-out/de.jsonl", 0));
    let scorer = problem.scorer(Path::new(""), &|| false);
    let scored = scorer.score(&examples, Draw::FIRST).unwrap();
    let mut rewards = scored.rewards;
    change(&mut examples, &mut rewards);
    let training = &problem.writer().unwrap().training;
    let prompts = training.iter().take(examples.len()).map(|prompt| prompt.text.clone()).collect();
    problem.verify(&Published { examples, rewards, prompts }, 4, &std::env::temp_dir(), &|| false).unwrap()
}

#[test]
fn a_dataset_that_does_its_work_holds() {
    let verification = verified(|_, _| {});
    assert!(verification.holds(), "{:?}\n{verification:#?}", verification.failures());
}

#[test]
fn rewards_of_other_rows_do_not_hold() {
    let verification = verified(|_, rewards| rewards.rotate_left(29));
    assert!(verification.failures().iter().any(|why| why.contains("largest rewards")), "{verification:#?}");
}

#[test]
fn rows_in_another_language_do_not_hold() {
    let verification = verified(|examples, _| {
        let english = examples.iter().map(|_| Example::Text("The engine works in the evening.".into()));
        *examples = english.collect();
    });
    assert!(!verification.failures().is_empty(), "{verification:#?}");
}
