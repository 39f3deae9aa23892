//! A small dataset in a data folder's registry.

use std::path::Path;

use dpg_dataset::{Card, Example, Row, Split, WrittenBy, write_split};
use dpg_registry::{Registry, Snapshot, Version, open_store};
use dpg_spec::Format;

/// The registry of a data folder.
pub(crate) fn registry(data: &Path) -> Registry {
    let (store, prefix) = open_store(data.join("registry").to_str().unwrap()).unwrap();
    Registry::new(store, prefix, data.join("signing-key.pem"))
}

/// Publishes a version of the dataset `name`.
pub(crate) async fn publish(data: &Path, name: &str, job: &str) -> Version {
    let place = tempfile::tempdir().unwrap();
    let row = |index: u64| Row {
        example: Example::Text(format!("{job}, example {index}")),
        reward: 1e-7 * index as f64,
        group_id: index,
        step: 1,
        advantage: 0.0,
        logprob: Some(0.0),
        n_tokens: Some(1),
        arm: None,
        prompt: "prompt".into(),
        seed: index,
    };
    let shards = write_split(place.path(), Split::Train, Format::Text, (0..8).map(row)).unwrap();
    let at = "2026-03-01T00:00:00Z".parse().unwrap();
    let snapshot = Snapshot {
        job: job.into(),
        fence: 1,
        card: Card {
            name: name.into(),
            description: String::new(),
            date: "2026-03-01".into(),
            license: "other".into(),
            languages: vec![],
            format: Format::Text,
            written_by: WrittenBy::Model,
            target: "embedded:target".into(),
            generator: "embedded:generator".into(),
            metric: "a pattern".into(),
            recipe: "AdamW".into(),
            validation: vec![],
            verification: None,
            counts: String::new(),
            warnings: vec![],
            generator_folder: None,
            lengths: None,
            teacher: None,
            pictures: vec![],
        },
        spec: format!("name = \"{name}\"\n"),
        folder: place.path().into(),
        shards,
        files: vec![],
        pictures: vec![],
        started_at: at,
        finished_at: at,
        dependencies: vec![],
        withheld: None,
    };
    registry(data).publish(&snapshot).await.unwrap()
}
