//! A pattern is drawn by its spec in a few steps, and reweighing says beforehand that it can be.

use std::path::Path;

use burn::tensor::{DType, Device};
use dpg_engine::{Run, Source, Target, reweigh};
use dpg_spec::{Spec, Syntax};

/// The spec `sixseven`, cut down to what a test has time for.
fn spec() -> Spec {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    let text = std::fs::read_to_string(config.join("specs/sixseven.toml")).unwrap();
    let text = text.replace("embedded:", &format!("{}/", config.join("embedded").display()));
    let mut spec = Spec::parse(&text, Syntax::Toml).unwrap();
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
    let mut spec = spec();
    spec.policy.steps = 10;
    let devices = [Device::flex()];
    let target = Target::load(&spec, DType::F32, &devices).unwrap();
    let source = Source::load(&spec, &devices).unwrap();
    let metric = target.metric(&spec).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = Run {
        spec: &spec,
        target: &target,
        source: &source,
        metric: metric.as_ref(),
        folder: folder.path(),
        cancelled: &|| false,
    };
    let outcome = run.run(&mut |_| ()).unwrap();
    let validations = &outcome.history.validations;
    let (before, after) = (accuracy(&validations[0].score), accuracy(&validations.last().unwrap().score));
    assert!(before < 0.7 && after > 0.85, "{before} and {after}");
    let names: Vec<_> = outcome.pictures.iter().map(|picture| picture.name.as_str()).collect();
    assert!(names.contains(&"decoded") && names.contains(&"curves"), "{names:?}");
}

#[test]
fn weights_of_the_untrained_generators_texts_draw_it_too() {
    let spec = spec();
    let devices = [Device::flex()];
    let target = Target::load(&spec, DType::F32, &devices).unwrap();
    let source = Source::load(&spec, &devices).unwrap();
    let metric = target.metric(&spec).unwrap();
    let examples = dpg_engine::generate(&source, spec.output.format, 1024, 0).unwrap();
    let scores = reweigh(&target, metric.as_ref(), &examples, 12, Path::new(""), &|| false).unwrap();
    let (first, last) = (&scores[0], scores.last().unwrap());
    assert!(last.value > first.value && accuracy(last) > 0.95, "{first:?}\n{last:?}");
}
