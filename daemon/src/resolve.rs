//! A spec as written, and the same with every location turned into a local path.

use std::path::Path;

use anyhow::Context;
use dpg_hub::{Options, Uri};
use dpg_registry::Dependency;
use dpg_spec::{Location, LocationKind, Spec};

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
    let mut digest = std::collections::BTreeMap::new();
    if let Ok(bytes) = std::fs::read(&weights) {
        use sha2::Digest;
        digest.insert("sha256".to_owned(), hex::encode(sha2::Sha256::digest(bytes)));
    }
    Ok(Dependency { name: key.into(), uri, digest })
}
