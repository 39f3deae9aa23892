//! A spec as written, and the same with every location turned into a local path.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use dpg_hub::{Options, Uri};
use dpg_registry::Dependency;
use dpg_spec::{Location, LocationKind, Spec};
use sha2::{Digest, Sha256};

/// A spec twice: as the user sees it, and with local paths.
pub(crate) struct Resolved {
    /// As written, for hashes, cards and provenance.
    pub(crate) spec: Spec,
    /// For the engine.
    pub(crate) local: Spec,
    /// The models it names.
    pub(crate) models: Vec<Dependency>,
}

/// Makes everything local that a spec names.
pub(crate) async fn resolve(spec: Spec, hub: &Options) -> anyhow::Result<Resolved> {
    let mut local = spec.clone();
    let mut models = vec![];
    for Location { key, kind, uri } in local.locations() {
        match kind {
            LocationKind::Model => models.push(model(&key, uri, hub).await?),
            LocationKind::Data => locate(&key, uri, hub).await?,
            // local as it is
            LocationKind::Picture => {}
        }
    }
    Ok(Resolved { spec, local, models })
}

async fn locate(key: &str, location: &mut String, hub: &Options) -> anyhow::Result<()> {
    let path = dpg_hub::resolve(&Uri::parse(location)?, hub).await.with_context(|| format!("`{key}`"))?;
    *location = path.to_string_lossy().into_owned();
    Ok(())
}

/// Makes a model local and says which weights it has.
async fn model(key: &str, location: &mut String, hub: &Options) -> anyhow::Result<Dependency> {
    let uri = location.clone();
    locate(key, location, hub).await?;
    let weights = Path::new(location.as_str()).join("model.safetensors");
    // a model in shards has none
    let digest = tokio::task::spawn_blocking(move || sha256(&weights)).await?.ok();
    let digest = digest.map(|sha256| ("sha256".to_owned(), sha256)).into_iter().collect();
    Ok(Dependency { name: key.into(), uri, digest })
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
