//! A spec as written, and the same with every location turned into a local path.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use dpg_hub::{Options, Uri};
use dpg_models::{architecture, weights::weight_files};
use dpg_registry::Dependency;
use dpg_spec::{Location, LocationKind, Spec};
use sha2::{Digest, Sha256};

/// A spec twice: as the user sees it, and with local paths.
pub(crate) struct Resolved {
    /// As written, for hashes, cards and provenance.
    pub(crate) spec: Spec,
    /// For the engine.
    pub(crate) local: Spec,
    /// The weight files of the models it names.
    pub(crate) models: Vec<Dependency>,
}

/// Makes everything local that a spec names.
pub(crate) async fn resolve(spec: Spec, hub: &Options) -> anyhow::Result<Resolved> {
    let mut local = spec.clone();
    let mut models = vec![];
    for Location { key, kind, uri } in local.locations() {
        match kind {
            LocationKind::Model => models.extend(model(&key, uri, hub).await?),
            LocationKind::Data => locate(&key, uri, hub).await?,
            // local as it is
            LocationKind::Picture => {}
        }
    }
    Ok(Resolved { spec, local, models })
}

/// Makes one location local; `key` is where it is named.
pub(crate) async fn locate(key: &str, location: &mut String, hub: &Options) -> anyhow::Result<()> {
    let path = dpg_hub::resolve(&Uri::parse(location)?, hub).await.with_context(|| format!("`{key}`"))?;
    *location = path.to_string_lossy().into_owned();
    Ok(())
}

/// Makes a model local and says which weights it has, each shard by itself.
async fn model(key: &str, location: &mut String, hub: &Options) -> anyhow::Result<Vec<Dependency>> {
    let uri = location.clone();
    locate(key, location, hub).await?;
    let (folder, key) = (PathBuf::from(location.as_str()), key.to_owned());
    tokio::task::spawn_blocking(move || weights(&folder, &key, &uri)).await?
}

fn weights(folder: &Path, key: &str, uri: &str) -> anyhow::Result<Vec<Dependency>> {
    // what is wrong with a folder that holds no model is told of its config first
    architecture(folder).with_context(|| format!("`{key}`"))?;
    let files = weight_files(folder).with_context(|| format!("`{key}`"))?;
    let is_sharded = files.len() > 1;
    let dependency = |path: PathBuf| {
        let sha256 = sha256(&path).with_context(|| format!("`{key}`: cannot read `{}`", path.display()))?;
        let shard =
            path.file_name().filter(|_| is_sharded).map(|name| format!("/{}", name.to_string_lossy()));
        Ok(Dependency {
            name: key.into(),
            uri: format!("{uri}{}", shard.unwrap_or_default()),
            digest: BTreeMap::from([("sha256".to_owned(), sha256)]),
        })
    };
    files.into_iter().map(dependency).collect()
}

/// The hash of a file, which may be larger than memory.
fn sha256(path: &Path) -> std::io::Result<String> {
    let (mut file, mut hash) = (dpg_files::open(path)?, Sha256::new());
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            length => hash.update(&buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/models/tests/golden").join(name)
    }

    #[test]
    fn every_shard_has_its_digest() {
        let found = weights(&golden("llama-sharded"), "target.model", "s3://bucket/llama").unwrap();
        assert!(found.len() > 1);
        for Dependency { name, uri, digest } in &found {
            let file = uri.strip_prefix("s3://bucket/llama/").unwrap();
            assert_eq!(digest["sha256"], sha256(&golden("llama-sharded").join(file)).unwrap());
            assert_eq!(name, "target.model");
        }
        let found = weights(&golden("llama"), "target.model", "hf:a/b").unwrap();
        assert_eq!(found.iter().map(|found| found.uri.as_str()).collect::<Vec<_>>(), ["hf:a/b"]);
    }

    #[test]
    fn weights_that_cannot_be_read_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(golden("llama").join("config.json"), folder.path().join("config.json")).unwrap();
        std::fs::create_dir(folder.path().join("model.safetensors")).unwrap();
        let error = format!("{:#}", weights(folder.path(), "target.model", "folder").unwrap_err());
        assert!(
            error.contains("`target.model`: cannot read") && error.contains("model.safetensors"),
            "{error}"
        );
    }
}
