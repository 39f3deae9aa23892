//! A schedule changes numbers, and nothing is read again for it.

use std::{fs, path::Path};

use burn::tensor::{DType, Device};
use dpg_engine::{Problem, Run};
use dpg_spec::{Spec, Syntax};

const SPEC: &str = r#"
name = "scheduled"
[target]
model = "EMBEDDED/letters-target"
[target.sft]
optimizer = { kind = "adamw", learning_rate = 1e-3, eps_root = 1e-3 }
batch_size = 16
sequence_length = 16
[metric]
kind = "sum"
[[metric.terms]]
weight = 1.0
metric = { kind = "held_out_loss", data = { path = "FOLDER/held-out.jsonl", column = "text" } }
[[metric.terms]]
weight = 0.5
metric = { kind = "weight_pattern", pattern = { image = "FOLDER/picture.png" }, strength = 1000.0 }
[generator]
model = "EMBEDDED/letters"
prompts = { path = "FOLDER/prompts.jsonl", column = "text" }
max_new_tokens = 8
[policy]
steps = 3
prompts_per_step = 4
group_size = 4
[schedule]
"target.sft.optimizer.learning_rate" = 2e-3
"metric.terms.0.weight" = 0.1
"metric.terms.1.metric.strength" = 100.0
[output]
examples = 8
"#;

/// A picture of 2 x 2 grey pixels.
const PICTURE: &[u8] = &[
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00,
    0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x02, 0x08, 0x00, 0x00, 0x00, 0x00, 0x57, 0xdd, 0x52, 0xf8, 0x00,
    0x00, 0x00, 0x0c, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x60, 0xf8, 0x0f, 0x84, 0x00, 0x06, 0x00,
    0x01, 0xff, 0x93, 0xd1, 0xe4, 0x89, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60,
    0x82,
];

fn spec(folder: &Path) -> Spec {
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/embedded");
    let text =
        SPEC.replace("EMBEDDED", &embedded.to_string_lossy()).replace("FOLDER", &folder.to_string_lossy());
    Spec::parse(&text, Syntax::Toml).unwrap()
}

/// A run whose files are gone once it is loaded, and the metric's values at its steps.
fn values(change: impl FnOnce(&mut Spec)) -> Vec<f64> {
    let folder = tempfile::tempdir().unwrap();
    let rows = |texts: [&str; 4]| texts.map(|text| format!("{{\"text\":\"{text}\"}}\n")).concat();
    fs::write(folder.path().join("held-out.jsonl"), rows(["abcd", "efgh", "ijkl", "mnop"])).unwrap();
    fs::write(folder.path().join("prompts.jsonl"), rows(["a", "b", "c", "d"])).unwrap();
    fs::write(folder.path().join("picture.png"), PICTURE).unwrap();
    let mut spec = spec(folder.path());
    change(&mut spec);
    let mut problem = Problem::load(&spec, DType::F32, &[Device::flex()], &|| false).unwrap();
    for file in ["held-out.jsonl", "prompts.jsonl", "picture.png"] {
        fs::remove_file(folder.path().join(file)).unwrap();
    }
    let run = Run { problem: &mut problem, folder: folder.path(), stop: &|| false };
    run.run(&mut |_| ()).unwrap().history.steps.iter().map(|step| step.score.value).collect()
}

#[test]
fn a_scheduled_run_reads_nothing_once_it_is_loaded() {
    let scheduled = values(|_| ());
    let constant = values(|spec| spec.schedule.clear());
    assert_eq!(scheduled.len(), 3);
    // the first step is taken with a tenth of the weight and of the strength
    assert!((scheduled[0] / constant[0] - 1.0).abs() > 0.1, "{scheduled:?} {constant:?}");
    let at_first = values(|spec| {
        spec.schedule.clear();
        *spec = at_start(spec);
    });
    assert_eq!(scheduled[0], at_first[0]);
}

/// The spec whose own numbers are those that the other one starts from.
fn at_start(spec: &Spec) -> Spec {
    let mut value = serde_json::to_value(spec).unwrap();
    value["target"]["sft"]["optimizer"]["learning_rate"] = 2e-3.into();
    value["metric"]["terms"][0]["weight"] = 0.1.into();
    value["metric"]["terms"][1]["metric"]["strength"] = 100.0.into();
    serde_json::from_value(value).unwrap()
}
