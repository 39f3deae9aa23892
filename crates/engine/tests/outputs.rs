//! What is told of generations: whether they are still sentences.

use std::path::Path;

use burn::tensor::Device;
use dpg_dataset::read_texts;
use dpg_engine::{HeldOutTexts, Outputs};
use dpg_spec::{HeldOut, Metric};

fn figures(texts: &[String]) -> Vec<(String, f64)> {
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/embedded");
    told(
        &serde_json::json!({
            "data": { "path": embedded.join("held-out/es.jsonl"), "column": "text" },
            "fluency_model": embedded.join("fluency"),
        }),
        texts,
    )
}

/// What is told of generations where the metric is a loss on held-out texts with these settings.
fn told(held_out: &serde_json::Value, texts: &[String]) -> Vec<(String, f64)> {
    let held_out: HeldOut = serde_json::from_value(held_out.clone()).unwrap();
    let metric = Metric::HeldOutLoss(held_out);
    let held_out = HeldOutTexts::read(&metric).unwrap();
    Outputs::new(&metric, &held_out, &Device::flex()).unwrap().figures(texts).unwrap()
}

fn figure(texts: &[String], name: &str) -> f64 {
    figures(texts).into_iter().find(|(other, _)| other == name).unwrap().1
}

fn real() -> Vec<String> {
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/embedded");
    read_texts(&embedded.join("held-out/es.jsonl"), "text", None).unwrap()
}

#[test]
fn the_metric_says_what_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("held-out.jsonl");
    std::fs::write(&path, "{\"text\": \"El perro come la manzana roja.\"}\n").unwrap();
    let names = |proxies: &str| {
        let held_out = serde_json::json!({
            "data": { "path": path, "column": "text" }, "proxies": proxies,
        });
        told(&held_out, &["El gato duerme.".into()]).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(names("languages")[0], "repeated");
    assert_eq!(names("matches"), ["exact_matches", "character_matches"]);
}

#[test]
fn word_salad_is_told_from_sentences_and_repetitions_are_counted() {
    let real = real();
    assert!((figure(&real, "relative_loss") - 1.0).abs() < 1e-6);
    assert_eq!(figure(&real, "repeated"), 0.0);

    let salad = |text: &String| text.split(' ').rev().collect::<Vec<_>>().join(" ");
    let salad: Vec<String> = real.iter().map(salad).collect();
    assert!(figure(&salad, "spa") > 0.9, "{:?}", figures(&salad));
    assert!(figure(&salad, "relative_loss") > 1.5, "{:?}", figures(&salad));

    let twice = [&real[..6], &real[..2]].concat();
    assert_eq!(figure(&twice, "repeated"), 0.25);
    assert!(figures(&[String::new()]).iter().all(|(name, _)| name != "relative_loss"));
}
