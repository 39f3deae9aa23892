//! What the final dataset is made of.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{DType, Device};
use dpg_dataset::Row;
use dpg_engine::{Run, Source, Target};
use dpg_spec::{Spec, Syntax};

/// The dataset of the spec `spanish` after one short step.
fn dataset(group_size: Option<usize>) -> Vec<Row> {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    let text = std::fs::read_to_string(config.join("specs/spanish.toml")).unwrap();
    let text = text.replace("embedded:", &format!("{}/", config.join("embedded").display()));
    let mut spec = Spec::parse(&text, Syntax::Toml).unwrap();
    spec.policy.steps = 1;
    spec.policy.prompts_per_step = 4;
    spec.policy.minibatch_prompts = None;
    spec.policy.validation_examples = Some(8);
    spec.generator.as_mut().unwrap().max_new_tokens = 12;
    spec.output.examples = 60;
    spec.output.group_size = group_size;
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
    run.run(&mut |_| ()).unwrap().rows
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
    let rows = dataset(None);
    assert_eq!(prompts(&rows), [4; 15]);
    assert_eq!(rows[7].group_id, 1);
    let rows = dataset(Some(1));
    assert_eq!(prompts(&rows), [1; 60]);
    // a group of one has nothing to be compared with inside
    let mean = rows.iter().map(|row| row.advantage).sum::<f64>() / 60.0;
    assert!(mean.abs() < 1e-9 && rows.iter().all(|row| row.advantage != 0.0));
}
