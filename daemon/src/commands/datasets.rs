//! `dpg datasets`: the registry from the command line, in a store or at a daemon.

mod action;
mod diff;
mod gc;
mod hub;
mod print;
mod remote;
mod show;

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use crate::clock::retention::Rules;
use crate::commands::connect::Place;
use crate::commands::show;
use crate::commands::version::{find, is_number, megabytes, names_version, registry, split};
use crate::http::wire;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;
use action::Action;

/// What `dpg datasets` is to do.
#[derive(Debug, Args)]
#[command(subcommand_precedence_over_arg = true)]
pub(crate) struct DatasetsArguments {
    /// The store, a folder or `s3://bucket/prefix` [default: the daemon at `--url`, else the store of the
    /// data folder's daemon, else the settings', else the data folder].
    #[arg(long, env = "DPG_STORE", global = true)]
    store: Option<String>,
    /// The dataset whose versions are listed.
    name: Option<String>,
    #[command(subcommand)]
    action: Option<Action>,
}

/// Does what `dpg datasets` was told.
pub(crate) async fn datasets(
    data: &DataDir,
    place: &Place,
    arguments: DatasetsArguments,
    as_json: bool,
) -> anyhow::Result<()> {
    let DatasetsArguments { store, name, action } = arguments;
    let action = action.unwrap_or(Action::List { name });
    // the key is this machine's, wherever the datasets are; and what goes to the Hub goes there from here
    if store.is_none()
        && !matches!(action, Action::PublicKey | Action::Push { .. } | Action::Pull { .. })
        && let Some(client) = place.client(data)?
    {
        return remote::datasets(&client, action, as_json).await;
    }
    let registry = registry(data, store.as_deref())?;
    match action {
        Action::List { name: None } => {
            let datasets = registry.datasets().await?;
            let rows: Vec<_> = datasets.iter().map(wire::dataset).collect();
            print::list(&json!(datasets), &rows, as_json);
            Ok(())
        }
        Action::List { name: Some(name) } => {
            let dataset = registry.dataset(&name).await?;
            print::versions(&json!(dataset), &wire::dataset_detail(&dataset), as_json);
            Ok(())
        }
        Action::Show { version } => {
            let version = find(&registry, &version).await?;
            show::stored(&registry, &version, as_json).await
        }
        Action::Tag { version, tag } => {
            let version = find(&registry, &version).await?;
            registry.tag(&version.dataset, &tag, version.number).await?;
            print::tagged(&wire::version(&version), &tag, as_json);
            Ok(())
        }
        Action::Untag { name, tag } => {
            registry.untag(&name, &tag).await?;
            show(as_json, &json!({ "dataset": name, "removed": tag }), || {
                format!("removed tag `{name}@{tag}`")
            });
            Ok(())
        }
        Action::Yank { version, reason } => {
            names_version(&version)?;
            let version = find(&registry, &version).await?;
            registry.yank(&version.dataset, version.number, &reason).await?;
            print::withdrawn(&wire::version(&version), &reason, as_json);
            Ok(())
        }
        Action::Diff { from, to } => {
            let to =
                if to.contains('@') || !is_number(&to) { to } else { format!("{}@{to}", split(&from).0) };
            let (from, to) = (find(&registry, &from).await?, find(&registry, &to).await?);
            let found = registry.diff(&from, &to).await?;
            show(as_json, &json!(found), || diff::text(&found));
            Ok(())
        }
        Action::Gc { name, dry_run, keep, hours } => {
            let versions = match keep {
                Some(keep) => keep,
                None => Config::in_force(data)?.retention.versions,
            };
            gc::gc(data, &registry, name.as_deref(), dry_run, Rules { versions, hours }, as_json).await
        }
        Action::Verify { version } => {
            let version = find(&registry, &version).await?;
            registry.verify(&version).await?;
            let files = registry.files(&version).await?;
            let bytes: u64 = files.iter().map(|file| file.size).sum();
            let value = json!({ "version": version.to_string(), "files": files.len(), "bytes": bytes });
            show(as_json, &value, || {
                format!("{version} is whole: {} files, {}", files.len(), megabytes(bytes))
            });
            Ok(())
        }
        Action::VerifySignature { version, key } => {
            let version = find(&registry, &version).await?;
            let read = |file: &PathBuf| {
                std::fs::read_to_string(file)
                    .with_context(|| format!("cannot read the key `{}`", file.display()))
            };
            let key = key.as_ref().map(read).transpose()?;
            let signer = registry.verify_signature(&version, key.as_deref()).await?;
            let value = json!({ "version": version.to_string(), "signed": true, "signer": signer });
            show(as_json, &value, || {
                format!("{version} is signed by {signer}; `dpg datasets verify {version}` checks the files")
            });
            Ok(())
        }
        Action::Push { version, repository, private, overwrite } => {
            let to = hub::To { repository: &repository, private, overwrite };
            hub::push(data, place, store.as_deref(), &version, to, as_json).await
        }
        Action::Pull { repository, folder, overwrite } => {
            if let (None, None, Some(url)) = (&folder, &store, &place.url) {
                bail!(
                    "the store of {url} is not reached through it: name the store with `--store`, or a folder"
                );
            }
            let to = folder.as_deref().map(|folder| (folder, overwrite));
            hub::pull(data, &registry, &repository, to, as_json).await
        }
        Action::PublicKey => {
            let key = registry.public_key()?;
            show(as_json, &json!({ "public_key": key }), || key.trim_end().to_owned());
            Ok(())
        }
    }
}
