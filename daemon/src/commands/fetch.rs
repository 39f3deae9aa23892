//! `dpg fetch`: a version to a folder, from a store or from a daemon, every hash checked.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use dpg_api::{Client, DatasetVersion};
use dpg_registry::{Fetched, MANIFEST, ManifestFile, Registry, Version, changed_since_fetch, fetch_from};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;

use crate::commands::connect::Place;
use crate::commands::show;
use crate::commands::version::{find, registry, split};
use crate::http::wire;
use crate::settings::data_dir::DataDir;
use crate::terminal;
use crate::terminal::console::note;

/// What `dpg fetch` copies.
#[derive(Debug, Args)]
pub(crate) struct FetchArguments {
    /// `NAME` or `NAME@VERSION`: `spanish`, `spanish@v3`, `spanish@latest`, `spanish@TAG`.
    dataset: String,
    /// The folder: new, empty, or holding a version that was fetched before, which is replaced.
    folder: PathBuf,
    /// Replace files, too, that were changed since they were fetched.
    #[arg(long)]
    overwrite: bool,
    /// The store, a folder or `s3://bucket/prefix` [default: the daemon at `--url`, else the store of the
    /// data folder's daemon, else the settings', else the data folder].
    #[arg(long, env = "DPG_STORE")]
    store: Option<String>,
}

/// Copies a version to a folder, from the store or from the daemon.
pub(crate) async fn fetch(
    data: &DataDir,
    place: &Place,
    arguments: FetchArguments,
    as_json: bool,
) -> anyhow::Result<()> {
    let FetchArguments { dataset, folder, overwrite, store } = arguments;
    let to = Copy { dataset: &dataset, folder: &folder, overwrite };
    let Copied { version, fetched, .. } = copy(data, place, store.as_deref(), to).await?;
    tell(&version, &folder, fetched, as_json);
    Ok(())
}

/// What is to be copied, and where to.
#[derive(Clone, Copy)]
pub(crate) struct Copy<'a> {
    /// `NAME` or `NAME@VERSION`.
    pub(crate) dataset: &'a str,
    pub(crate) folder: &'a Path,
    /// Whether files may go that were changed since they were fetched.
    pub(crate) overwrite: bool,
}

/// A version that was copied to a folder.
pub(super) struct Copied {
    pub(super) version: DatasetVersion,
    pub(super) fetched: Fetched,
    pub(super) origin: Origin,
}

/// Where a version is published.
pub(super) enum Origin {
    Store(Registry, Version),
    Daemon(Client),
}

/// Copies a version to a folder, and says nothing.
pub(super) async fn copy(
    data: &DataDir,
    place: &Place,
    store: Option<&str>,
    Copy { dataset, folder, overwrite }: Copy<'_>,
) -> anyhow::Result<Copied> {
    if !overwrite {
        check_unchanged(folder)?;
    }
    if let (None, Some(client)) = (store, place.client(data)?) {
        let (version, fetched) = from_daemon(&client, dataset, folder).await?;
        return Ok(Copied { version, fetched, origin: Origin::Daemon(client) });
    }
    let registry = registry(data, store)?;
    let version = find(&registry, dataset).await?;
    let fetched =
        registry.fetch(&version, folder).await.with_context(|| format!("cannot fetch {version}"))?;
    let copied = wire::version(&version);
    Ok(Copied { version: copied, fetched, origin: Origin::Store(registry, version) })
}

/// Refuses a folder in which a file was changed since it was fetched.
pub(super) fn check_unchanged(folder: &Path) -> anyhow::Result<()> {
    let Some(file) = changed_since_fetch(folder)? else { return Ok(()) };
    bail!(
        "`{}` was changed since it was fetched and would be replaced; fetch to another folder, or add --overwrite",
        folder.join(file).display()
    );
}

/// Copies a version to a folder. Nothing that the daemon sends is trusted but the hash of the
/// manifest.
async fn from_daemon(
    client: &Client,
    dataset: &str,
    folder: &Path,
) -> anyhow::Result<(DatasetVersion, Fetched)> {
    let (name, reference) = split(dataset);
    let version = client.version(name, reference).await?.version;
    // `latest` and tags may move meanwhile
    let number = format!("v{}", version.number);
    let failed = || format!("cannot fetch {version}");
    let broken = |error: reqwest::Error| {
        anyhow::Error::new(error.without_url()).context("the connection broke; fetch again to go on")
    };
    let manifest = client.file(name, &number, MANIFEST, 0).await.with_context(failed)?;
    let manifest = manifest.bytes().await.map_err(broken).with_context(failed)?;
    let open = async |file: &ManifestFile| {
        let response = client.file(name, &number, &file.path, 0).await?;
        anyhow::Ok(response.bytes_stream().map_err(broken).boxed())
    };
    let fetched = fetch_from(&version.to_string(), &version.manifest_sha256, &manifest, folder, open)
        .await
        .with_context(failed)?;
    Ok((version, fetched))
}

/// Says what was copied where.
fn tell(version: &DatasetVersion, folder: &Path, fetched: Fetched, as_json: bool) {
    let value = json!({
        "dataset": version.to_string(),
        "folder": folder,
        "downloaded": fetched.downloaded,
        "kept": fetched.kept,
    });
    if let Some(why) = &version.withdrawn {
        note(format_args!("warning: {version} was withdrawn: {}", terminal::line(&why.to_string())));
    }
    show(as_json, &value, || format!("{version} is in {} ({} rows)", folder.display(), version.rows));
}
