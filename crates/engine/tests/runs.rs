//! Specs of config/, cut down to what a test has time for: a pattern is drawn in a few steps, reweighing says
//! beforehand that it can be, and the final dataset is of the prompts that it should be of.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{DType, Device};
use dpg_dataset::Row;
use dpg_engine::{Outcome, Problem, Run};
use dpg_spec::{Generator, Spec, Syntax};

fn spec(name: &str) -> Spec {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    let text = std::fs::read_to_string(config.join(format!("specs/{name}.toml"))).unwrap();
    let text = text.replace("embedded:", &format!("{}/", config.join("embedded").display()));
    Spec::parse(&text, Syntax::Toml).unwrap()
}

fn load(spec: &Spec) -> Problem {
    Problem::load(spec, DType::F32, &[Device::flex()], &|| false).unwrap()
}

/// A run to its end.
fn run(spec: &Spec) -> Outcome {
    let mut problem = load(spec);
    let folder = tempfile::tempdir().unwrap();
    Run { problem: &mut problem, folder: folder.path(), stop: &|| false }.run(&mut |_| ()).unwrap()
}

fn sixseven() -> Spec {
    let mut spec = spec("sixseven");
    spec.policy.prompts_per_step = 256;
    spec.policy.minibatch_prompts = Some(64);
    spec.policy.validate_every = 0;
    spec.target.sft.batch_size = 1024;
    spec.output.examples = 1024;
    spec
}

fn accuracy(score: &dpg_metagrad::Score) -> f64 {
    score.proxies.iter().find(|(name, _)| name == "pixel_accuracy").unwrap().1
}

#[test]
fn a_generator_learns_to_draw() {
    let mut spec = sixseven();
    spec.policy.steps = 10;
    let outcome = run(&spec);
    let validations = &outcome.history.validations;
    let (before, after) = (accuracy(&validations[0].score), accuracy(&validations.last().unwrap().score));
    assert!(before < 0.7 && after > 0.85, "{before} and {after}");
    let names: Vec<_> = outcome.pictures.iter().map(|picture| picture.name.as_str()).collect();
    assert!(names.contains(&"decoded") && names.contains(&"curves"), "{names:?}");
}

#[test]
fn weights_of_the_untrained_generators_texts_draw_it_too() {
    let spec = sixseven();
    let problem = load(&spec);
    let examples = problem.writer().unwrap().generate(spec.output.format, 1024, 0, &|| false).unwrap();
    let scores = problem.scorer(Path::new(""), &|| false).reweigh(&examples, 12).unwrap();
    let (first, last) = (&scores[0], scores.last().unwrap());
    assert!(last.value > first.value && accuracy(last) > 0.95, "{first:?}\n{last:?}");
}

/// The dataset of the spec `spanish` after one short step.
fn spanish(group_size: Option<usize>) -> Vec<Row> {
    let mut spec = spec("spanish");
    spec.policy.steps = 1;
    spec.policy.prompts_per_step = 4;
    spec.policy.minibatch_prompts = None;
    spec.policy.validation_examples = Some(8);
    let Some(Generator::Local(generator)) = &mut spec.generator else { panic!("{spec:?}") };
    generator.max_new_tokens = 12;
    spec.output.examples = 60;
    spec.output.group_size = group_size;
    run(&spec).rows
}

/// Rows of each prompt.
fn prompts(rows: &[Row]) -> Vec<usize> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for row in rows {
        *counts.entry(&row.prompt).or_default() += 1;
    }
    counts.into_values().collect()
}

#[test]
fn prompts_are_distinct_and_asked_as_often_as_the_spec_says() {
    // the policy's groups of 4
    let rows = spanish(None);
    assert_eq!(prompts(&rows), [4; 15]);
    assert_eq!(rows[7].group_id, 1);
    let rows = spanish(Some(1));
    assert_eq!(prompts(&rows), [1; 60]);
    // a group of one has nothing to be compared with inside
    let mean = rows.iter().map(|row| row.advantage).sum::<f64>() / 60.0;
    assert!(mean.abs() < 1e-9 && rows.iter().all(|row| row.advantage != 0.0));
}

/// Target and generator of one model, both of which train adapters, have one copy of its weights, and a run of them
/// trains the generator.
#[test]
fn adapters_of_one_model_lie_upon_one_copy_of_its_weights() {
    let mut spec = spec("spanish-lora");
    let mut local = spec.generator().unwrap().local().unwrap().clone();
    spec.target.model = local.model.clone();
    let copies = |spec: &Spec| {
        let problem = load(spec);
        let adapters = problem.target.model.lm.layout().adapters().unwrap();
        std::sync::Arc::strong_count(adapters.frozen())
    };
    assert_eq!(copies(&spec), 2);
    spec.policy.steps = 1;
    spec.policy.prompts_per_step = 8;
    spec.policy.minibatch_prompts = None;
    spec.policy.validation_examples = Some(8);
    spec.output.examples = 16;
    let outcome = run(&spec);
    assert!(outcome.history.steps[0].update.gradient_norm > 0.0);
    local.lora = None;
    spec.generator = Some(Generator::Local(local));
    assert_eq!(copies(&spec), 1);
}
