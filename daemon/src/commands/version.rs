//! Versions as a command line names them, and the registry that they are looked up in.

use anyhow::bail;
use dpg_registry::{Registry, Version};

use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;
use crate::settings::resident;

/// The registry in a store: see [`resident::store`].
pub(crate) fn registry(data: &DataDir, store: Option<&str>) -> anyhow::Result<Registry> {
    Ok(data.registry(&resident::store(data, store)?)?.trusting(&Config::in_force(data)?.trust.keys)?)
}

/// The dataset and the reference in `NAME@REFERENCE`.
pub(crate) fn split(version: &str) -> (&str, &str) {
    version.split_once('@').unwrap_or((version, "latest"))
}

pub(crate) async fn find(registry: &Registry, version: &str) -> anyhow::Result<Version> {
    let (name, reference) = split(version);
    Ok(registry.resolve(name, reference).await?)
}

/// Refuses a dataset without a version where taking the latest would be rash.
pub(crate) fn names_version(version: &str) -> anyhow::Result<()> {
    if !version.contains('@') {
        bail!("`{version}` does not name a version; expected `{version}@vN` or `{version}@TAG`");
    }
    Ok(())
}

/// Whether this is `v3` or `3`.
pub(crate) fn is_number(reference: &str) -> bool {
    reference.strip_prefix('v').unwrap_or(reference).parse::<u64>().is_ok()
}

/// Bytes for people.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
