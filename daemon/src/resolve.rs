//! A spec as written, and the same with every location turned into a local path.

use std::path::Path;

use anyhow::Context;
use dpg_hub::{Options, Uri};
use dpg_registry::Dependency;
use dpg_spec::{Metric, Spec};

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
    let mut models = vec![model("target.model", &mut local.target.model, hub).await?];
    if let Some(generator) = &mut local.generator {
        models.push(model("generator.model", &mut generator.model, hub).await?);
        if let Some(prompts) = &mut generator.prompts {
            locate("generator.prompts.path", &mut prompts.path, hub).await?;
        }
    }
    metric(&mut local.metric, hub).await?;
    Ok(Resolved { spec, local, models })
}

async fn metric(metric: &mut Metric, hub: &Options) -> anyhow::Result<()> {
    match metric {
        Metric::HeldOutLoss(held_out) => locate("metric.data.path", &mut held_out.data.path, hub).await,
        Metric::Sum(sum) => {
            for term in &mut sum.terms {
                Box::pin(self::metric(&mut term.metric, hub)).await?;
            }
            Ok(())
        }
        Metric::WeightPattern(_) | Metric::WeightNorm(_) => Ok(()),
    }
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
