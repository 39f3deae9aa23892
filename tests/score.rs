//! `dpg score` on model folders that transformers wrote, against a float64 double backward in
//! PyTorch (tests/reference/): GPT-2 and Llama, tied and untied, AdamW and SGD, three metrics, T = 3,
//! an uneven last batch; and with a padding token in the texts, Qwen too.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference")
}

fn rewards(file: &Path) -> Vec<f64> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap().build().unwrap();
    let batches = reader.map(|batch| batch.unwrap());
    batches
        .flat_map(|batch| {
            let column = batch.column_by_name("reward").unwrap();
            column.as_primitive::<Float64Type>().values().to_vec()
        })
        .collect()
}

/// A model's folder with some keys of its config.json changed.
fn changed_copy(model: &Path, to: &Path, config: &Map<String, Value>) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    let path = to.join("config.json");
    let mut changed: Map<String, Value> = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    changed.extend(config.clone());
    fs::write(path, serde_json::to_string(&changed).unwrap()).unwrap();
}

fn worst_error(dtype: &str, device: &str) -> f64 {
    let text = fs::read_to_string(reference().join("metagradients.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut worst: f64 = 0.0;
    for (number, case) in cases["cases"].as_array().unwrap().iter().enumerate() {
        // the spec's paths are relative to the folder it stands in
        let spec = folder.path().join("spec.json");
        let mut absolute = case["spec"]
            .to_string()
            .replace("../../crates", reference().join("../../crates").to_str().unwrap());
        if let Some(config) = case["config"].as_object() {
            let model = case["spec"]["target"]["model"].as_str().unwrap();
            let changed = folder.path().join(format!("model-{number}"));
            changed_copy(&reference().join(model), &changed, config);
            let original = model.replace("../../crates", reference().join("../../crates").to_str().unwrap());
            absolute = absolute.replace(&original, changed.to_str().unwrap());
        }
        let held_out = reference().join("held_out.jsonl");
        fs::write(&spec, absolute.replace("\"held_out.jsonl\"", &format!("\"{}\"", held_out.display())))
            .unwrap();
        let out = folder.path().join(format!("{number}.parquet"));
        let run = Command::new(env!("CARGO_BIN_EXE_dpg"))
            .args(["score", spec.to_str().unwrap(), "--dtype", dtype, "--device", device, "--json"])
            .args(["--data", reference().join("examples.jsonl").to_str().unwrap()])
            .args(["--out", out.to_str().unwrap()])
            .args(["--data-dir", folder.path().join("data").to_str().unwrap()])
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let ours = rewards(&out);
        let theirs: Vec<f64> =
            case["rewards"].as_array().unwrap().iter().map(|r| r.as_f64().unwrap()).collect();
        assert_eq!(ours.len(), theirs.len());
        let distance: f64 = ours.iter().zip(&theirs).map(|(a, b)| (a - b).powi(2)).sum();
        let size: f64 = theirs.iter().map(|b| b * b).sum();
        let error = (distance / size).sqrt();
        println!("{dtype} on {device}, case {number}: {error:.1e} {}", case["spec"]["target"]["model"]);
        worst = worst.max(error);
    }
    worst
}

#[test]
fn rewards_in_double_precision_are_pytorchs() {
    assert!(worst_error("f64", "cpu") < 1e-8);
    assert!(worst_error("f64", "cpu,cpu") < 1e-8);
}

#[test]
fn rewards_in_single_precision_are_close() {
    assert!(worst_error("f32", "cpu") < 1e-4);
}
