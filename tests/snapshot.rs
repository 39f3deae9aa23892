//! What a publisher has in its hands.

use std::path::Path;

use dpg_dataset::{Card, Example, Figure, Row, Split, WrittenBy, write_split};
use dpg_registry::Snapshot;
use dpg_spec::Format;

/// The dataset `six` with `299 + version` rows, as of the job `job-VERSION`.
pub(crate) fn snapshot(folder: &Path, version: u64) -> Snapshot {
    let folder = folder.join(format!("shards-{version}"));
    let row = |index: u64| Row {
        example: Example::Text(format!("version {version}, example {index}: ¿qué?")),
        reward: 1e-7 * (index as f64).sin(),
        group_id: index / 4,
        step: 12,
        advantage: (index as f64).cos(),
        logprob: Some(-0.5 * index as f64),
        n_tokens: Some(1 + index % 9),
        arm: None,
        prompt: format!("prompt {}", index / 4),
        seed: u64::MAX - index,
    };
    let mut shards = write_split(&folder, Split::Train, Format::Text, (0..299 + version).map(row)).unwrap();
    shards.extend(write_split(&folder, Split::Validation, Format::Text, (900..930).map(row)).unwrap());
    let at = "2026-03-01T00:00:00Z".parse().unwrap();
    Snapshot {
        job: format!("job-{version}"),
        fence: 1,
        card: Card {
            name: "six".into(),
            description: "The head learns 6".into(),
            date: "2026-03-01".into(),
            license: "other".into(),
            languages: vec!["en".into()],
            format: Format::Text,
            written_by: WrittenBy::Model,
            target: "embedded:target".into(),
            generator: "embedded:generator".into(),
            metric: "a pattern".into(),
            recipe: "AdamW".into(),
            validation: vec![Figure { name: "Phi".into(), before: -1.0, after: version as f64 }],
            verification: None,
            counts: String::new(),
            warnings: vec![],
            generator_folder: None,
            lengths: None,
            teacher: None,
            pictures: vec![],
        },
        spec: format!("name = \"six\"\nseed = {version}\n"),
        folder,
        shards,
        files: vec![],
        pictures: vec![],
        started_at: at,
        finished_at: at,
        dependencies: vec![],
        withheld: None,
    }
}
