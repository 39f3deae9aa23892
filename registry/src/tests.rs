//! The registry on memory, a local folder and S3: what every test shares.

mod adopt;
mod attestation;
mod crash;
mod diff;
mod disk_full;
mod fetch;
mod hostile;
mod publish;
#[path = "../../tests/python.rs"]
mod python;
mod readers;
mod retire;
mod s3;
mod signature;
#[path = "../../tests/skip.rs"]
mod skip;

use std::fs;
use std::path::Path as LocalPath;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use dpg_dataset::{Card, Config, Example, Figure, Row, Shard, Split, message, write_split};
use dpg_spec::Format;
use futures::TryStreamExt;
use object_store::ObjectStore;
use sha2::{Digest, Sha256};

use crate::{Dependency, Registry, Snapshot, open_store};

/// A registry and the folder that holds its key, its store if that is local, and datasets.
struct Place {
    registry: Registry,
    folder: tempfile::TempDir,
}

impl Place {
    fn memory() -> Self {
        Self::of("memory:")
    }

    fn local() -> Self {
        Self::of("store")
    }

    fn of(uri: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let local = folder.path().join(uri);
        let uri = if uri == "memory:" { uri } else { local.to_str().unwrap() };
        let (store, prefix) = open_store(uri).unwrap();
        Self { registry: Registry::new(store, prefix, folder.path().join("keys/signing.pem")), folder }
    }

    /// The same registry through another store.
    fn through(&self, store: impl ObjectStore) -> Registry {
        let Registry { prefix, key_file, .. } = &self.registry;
        Registry::new(Arc::new(store), prefix.clone(), key_file)
    }

    /// The same store, signing with another key.
    fn with_key(&self, file: &LocalPath) -> Registry {
        let Registry { store, prefix, .. } = &self.registry;
        Registry::new(Arc::clone(store), prefix.clone(), file)
    }

    fn snapshot(&self, job: &str, fence: u64) -> Snapshot {
        snapshot(&self.folder.path().join("work"), "sixseven", job, fence, Format::Text)
    }
}

/// A dataset of 300 rows and 30 for validation, other rows for another job.
fn snapshot(folder: &LocalPath, name: &str, job: &str, fence: u64, format: Format) -> Snapshot {
    let folder = folder.join(job);
    let row = |index: u64| Row {
        example: example(format, &format!("{job}, example {index}: ¿qué?")),
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
    let mut shards = write_split(&folder, Split::Train, format, (0..300).map(row)).unwrap();
    shards.extend(write_split(&folder, Split::Validation, format, (300..330).map(row)).unwrap());
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    Snapshot {
        job: job.into(),
        fence,
        card: Card {
            name: name.into(),
            description: "The LM head learns \"67\": a pattern".into(),
            date: "2026-03-01".into(),
            license: "other".into(),
            languages: vec!["en".into(), "no".into()],
            format,
            written_by: dpg_dataset::WrittenBy::Model,
            target: "embedded:target".into(),
            generator: "embedded:generator".into(),
            metric: "The pattern `67` in the signs of the LM head's change.".into(),
            recipe: "AdamW, learning rate 5e-6, batches of 1024, one epoch.".into(),
            validation: vec![Figure { name: "pixel accuracy".into(), before: 0.5, after: 1.0 }],
            verification: None,
            counts: String::new(),
            warnings: vec![],
            generator_folder: None,
            lengths: None,
            teacher: None,
            pictures: vec!["decoded".into()],
        },
        spec: "name = \"sixseven\"\n".into(),
        folder,
        shards,
        files: vec![],
        started_at: at("2026-03-01T00:00:00Z"),
        finished_at: at("2026-03-01T00:10:00Z"),
        pictures: vec![("decoded".into(), b"a picture".as_slice().into())],
        dependencies: vec![Dependency {
            name: "target".into(),
            uri: "embedded:target".into(),
            digest: [("sha256".into(), hex::encode(Sha256::digest("target")))].into(),
        }],
        withheld: None,
    }
}

fn example(format: Format, text: &str) -> Example {
    let text = text.to_string();
    match format {
        Format::Text => Example::Text(text),
        Format::PromptCompletion => Example::PromptCompletion { prompt: "Say it.".into(), completion: text },
        Format::Messages => {
            Example::Messages(vec![message("user", "Say it."), message("assistant", &text)].into())
        }
    }
}

/// Adds a shard of several parts; nothing here looks into it.
fn add_large_shard(snapshot: &mut Snapshot) {
    let mut bytes = vec![0; 2 * crate::snapshot::PART_BYTES + 12345];
    for (index, chunk) in bytes.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(
            &(index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()[..chunk.len()],
        );
    }
    let path = "data/large.parquet".to_string();
    fs::write(snapshot.folder.join(&path), &bytes).unwrap();
    snapshot.shards.push(Shard {
        config: Config::Default,
        split: Split::Train,
        path,
        size: bytes.len() as u64,
        sha256: hex::encode(Sha256::digest(&bytes)),
        rows: 1,
    });
}

/// The paths of all objects, sorted.
async fn objects(registry: &Registry) -> Vec<String> {
    let mut paths: Vec<_> =
        registry.store.list(None).map_ok(|object| object.location.to_string()).try_collect().await.unwrap();
    paths.sort();
    paths
}
