//! `dpg datasets` at a daemon, over its HTTP API.

use anyhow::bail;
use dpg_api::Client;
use serde_json::json;

use super::{action::Action, print, show};
use crate::commands::version::{names_version, split};

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
        | Action::Push { .. }
        | Action::Pull { .. }
        | Action::PublicKey => bail!(
            "this needs the store itself, which the daemon's API does not give: name it with --store, or leave \
             out --url (`DPG_URL`) for the data folder's"
        ),
    }
    Ok(())
}
