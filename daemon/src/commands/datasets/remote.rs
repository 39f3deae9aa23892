//! `dpg datasets` and `dpg fetch` at a daemon, over its HTTP API.

use std::path::Path;

use anyhow::{Context, bail};
use dpg_api::{Client, DatasetVersion};
use dpg_registry::{Fetched, MANIFEST, ManifestFile, fetch_from};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;

use super::{Action, names_version, print, show, split};

/// Does what `dpg datasets` was told, as far as the API goes.
pub(super) async fn datasets(client: &Client, action: Action, as_json: bool) -> anyhow::Result<()> {
    match action {
        Action::List { name: None } => {
            let datasets = client.datasets().await?.datasets;
            let mut details = Vec::new();
            if as_json {
                // with all their versions, as of a store
                for dataset in &datasets {
                    details.push(client.dataset(&dataset.name).await?);
                }
            }
            print::list(&json!(details), &datasets, as_json);
        }
        Action::List { name: Some(name) } => {
            let dataset = client.dataset(&name).await?;
            print::versions(&json!(dataset), &dataset, as_json);
        }
        Action::Show { version } => {
            let (name, reference) = split(&version);
            let version = client.version(name, reference).await?.version;
            show::remote(&client.dataset(name).await?, &version, as_json);
        }
        Action::Tag { version, tag } => {
            let (name, reference) = split(&version);
            let version = client.version(name, reference).await?.version;
            client.put_tag(name, &tag, version.number).await?;
            print::tagged(&version, &tag, as_json);
        }
        Action::Yank { version, reason } => {
            names_version(&version)?;
            let (name, reference) = split(&version);
            let version = client.version(name, reference).await?.version;
            client.yank(name, &format!("v{}", version.number), &reason).await?;
            print::withdrawn(&version, &reason, as_json);
        }
        // rather than touch another registry than the daemon's
        Action::Untag { .. }
        | Action::Diff { .. }
        | Action::Gc { .. }
        | Action::Verify { .. }
        | Action::VerifySignature { .. }
        | Action::PublicKey => bail!(
            "this needs the store itself, which the daemon's API does not give: name it with --store, or leave \
             out --url (`DPG_URL`) for the data folder's"
        ),
    }
    Ok(())
}

/// Copies a version to a folder. Nothing that the daemon sends is trusted but the hash of the
/// manifest.
pub(super) async fn fetch(
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
