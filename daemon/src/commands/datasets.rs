//! `dpg datasets` and `dpg fetch`.

use std::path::Path;

use anyhow::Context;
use serde_json::json;

use crate::{commands::show, data_dir::DataDir};

/// Lists all datasets, or the versions of one.
pub(crate) async fn list(data: &DataDir, name: Option<&str>, as_json: bool) -> anyhow::Result<()> {
    let registry = data.registry()?;
    if let Some(name) = name {
        let dataset = registry.dataset(name).await?;
        show(as_json, &json!(dataset), || {
            let rows = dataset.versions.iter().map(|version| {
                let yanked =
                    version.yanked.as_ref().map(|why| format!("  withdrawn: {why}")).unwrap_or_default();
                let published = version.published_at.format("%Y-%m-%d %H:%M");
                format!(
                    "{version:<24} {:>8} rows  {published}{yanked}",
                    version.rows,
                    version = version.to_string()
                )
            });
            rows.collect::<Vec<_>>().join("\n")
        });
        return Ok(());
    }
    let datasets = registry.datasets().await?;
    show(as_json, &json!(datasets), || {
        if datasets.is_empty() {
            return "no datasets yet; `dpg run SPEC` makes one".into();
        }
        let rows = datasets.iter().map(|dataset| {
            let latest = dataset.latest().map_or("all withdrawn".into(), |version| {
                format!("v{}, {} rows", version.number, version.rows)
            });
            format!("{:<24} {} version(s), latest {latest}", dataset.name, dataset.versions.len())
        });
        rows.collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

/// Copies a version to a folder.
pub(crate) async fn fetch(data: &DataDir, dataset: &str, folder: &Path, as_json: bool) -> anyhow::Result<()> {
    let (name, reference) = dataset.split_once('@').unwrap_or((dataset, "latest"));
    let registry = data.registry()?;
    let version = registry.resolve(name, reference).await?;
    let fetched =
        registry.fetch(&version, folder).await.with_context(|| format!("cannot fetch {version}"))?;
    let value = json!({
        "dataset": version.to_string(),
        "folder": folder,
        "downloaded": fetched.downloaded,
        "kept": fetched.kept,
    });
    show(as_json, &value, || format!("{version} is in {} ({} rows)", folder.display(), version.rows));
    Ok(())
}
