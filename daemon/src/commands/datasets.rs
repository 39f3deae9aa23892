//! `dpg datasets` and `dpg fetch`: the registry from the command line, in a store or at a daemon.

mod print;
mod remote;
mod show;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use dpg_api::{Client, DatasetDetail, DatasetVersion};
use dpg_queue::Queue;
use dpg_registry::{Diff, Fetched, Registry, Version, changed_since_fetch};
use serde_json::json;

use crate::clock::retention::{self, Cleaned, Rules};
use crate::commands::connect::Place;
use crate::commands::show;
use crate::services::settings;
use crate::settings::data_dir::DataDir;
use crate::settings::resident;

/// What `dpg datasets` is to do.
#[derive(Debug, Args)]
#[command(subcommand_precedence_over_arg = true)]
pub(crate) struct DatasetsArguments {
    /// The store, a folder or `s3://bucket/prefix` [default: the daemon at `--url`, else the store of the
    /// data folder's daemon, else the settings', else the data folder].
    #[arg(long, env = "DPG_STORE", global = true)]
    pub(crate) store: Option<String>,
    /// The dataset whose versions are listed.
    name: Option<String>,
    #[command(subcommand)]
    action: Option<Action>,
}

/// What to do with datasets.
#[derive(Debug, Subcommand)]
enum Action {
    /// List the datasets, or the versions of one.
    List {
        /// The dataset.
        name: Option<String>,
    },
    /// A version with what was found when it was tried out.
    Show {
        /// `NAME@v3`, `NAME@TAG`, or `NAME` for the latest.
        version: String,
    },
    /// Give a version a name, which may move from another.
    Tag {
        /// `NAME@v3`, `NAME@TAG`, or `NAME` for the latest.
        version: String,
        /// The tag.
        tag: String,
    },
    /// Remove a tag.
    Untag {
        /// The dataset.
        name: String,
        /// The tag.
        tag: String,
    },
    /// Withdraw a version: `latest` passes over it, and readers are told why.
    Yank {
        /// `NAME@v3`, `NAME@TAG` or `NAME@latest`.
        version: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// What changed between two versions: rows, rewards, metrics, spec.
    Diff {
        /// The version compared with: `NAME@v2`, `NAME@TAG`, or `NAME` for the latest.
        from: String,
        /// The version compared; `v3` alone is one of the same dataset.
        to: String,
    },
    /// Remove what publishers that died left behind, and retired versions.
    Gc {
        /// The dataset; all without it.
        name: Option<String>,
        /// Say what would be removed, and remove nothing.
        #[arg(long)]
        dry_run: bool,
        /// Retire versions beyond the newest KEEP first; the latest and tagged ones stay, and 0 keeps
        /// all [default: the settings' `retention.versions`].
        #[arg(long, value_name = "KEEP")]
        keep: Option<usize>,
        /// Hours for which garbage is left alone. Publishers and readers must be faster.
        #[arg(long, default_value_t = retention::HOURS)]
        hours: u32,
    },
    /// Read all files of a version and compare their hashes.
    Verify {
        /// `NAME@v3`, `NAME@TAG`, or `NAME` for the latest.
        version: String,
    },
    /// Check that a version's provenance is signed by a key and is about its files.
    VerifySignature {
        /// `NAME@v3`, `NAME@TAG`, or `NAME` for the latest.
        version: String,
        /// The public key, a PEM file [default: the data folder's key and those in `trust.keys`].
        #[arg(long)]
        key: Option<PathBuf>,
    },
    /// Print the public half of the key that signs what this machine publishes.
    PublicKey,
}

/// The registry in a store: see [`resident::store`].
fn registry(data: &DataDir, store: Option<&str>) -> anyhow::Result<Registry> {
    Ok(data.registry(&resident::store(data, store)?)?.trusting(&settings(data)?.trust.keys)?)
}

/// The dataset and the reference in `NAME@REFERENCE`.
fn split(version: &str) -> (&str, &str) {
    version.split_once('@').unwrap_or((version, "latest"))
}

async fn find(registry: &Registry, version: &str) -> anyhow::Result<Version> {
    let (name, reference) = split(version);
    Ok(registry.resolve(name, reference).await?)
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
    // the key is this machine's, wherever the datasets are
    if store.is_none()
        && !matches!(action, Action::PublicKey)
        && let Some(client) = place.client(data)?
    {
        return remote::datasets(&client, action, as_json).await;
    }
    let registry = registry(data, store.as_deref())?;
    match action {
        Action::List { name: None } => {
            let datasets = registry.datasets().await?;
            let rows: Vec<_> = datasets.iter().map(dpg_api::Dataset::from).collect();
            print::list(&json!(datasets), &rows, as_json);
            Ok(())
        }
        Action::List { name: Some(name) } => {
            let dataset = registry.dataset(&name).await?;
            print::versions(&json!(dataset), &DatasetDetail::from(&dataset), as_json);
            Ok(())
        }
        Action::Show { version } => {
            let version = find(&registry, &version).await?;
            show::stored(&registry, &version, as_json).await
        }
        Action::Tag { version, tag } => {
            let version = find(&registry, &version).await?;
            registry.tag(&version.dataset, &tag, version.number).await?;
            print::tagged(&DatasetVersion::from(&version), &tag, as_json);
            Ok(())
        }
        Action::Untag { name, tag } => {
            registry.untag(&name, &tag).await?;
            show(as_json, &json!({ "dataset": name, "removed": tag }), || {
                format!("`{name}@{tag}` is no more")
            });
            Ok(())
        }
        Action::Yank { version, reason } => {
            names_version(&version)?;
            let version = find(&registry, &version).await?;
            registry.yank(&version.dataset, version.number, &reason).await?;
            print::withdrawn(&DatasetVersion::from(&version), &reason, as_json);
            Ok(())
        }
        Action::Diff { from, to } => {
            let to =
                if to.contains('@') || !is_number(&to) { to } else { format!("{}@{to}", split(&from).0) };
            let (from, to) = (find(&registry, &from).await?, find(&registry, &to).await?);
            let diff = registry.diff(&from, &to).await?;
            show(as_json, &json!(diff), || text(&diff));
            Ok(())
        }
        Action::Gc { name, dry_run, keep, hours } => {
            let versions = match keep {
                Some(keep) => keep,
                None => settings(data)?.retention.versions,
            };
            gc(data, &registry, name.as_deref(), dry_run, Rules { versions, hours }, as_json).await
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
        Action::PublicKey => {
            let key = registry.public_key()?;
            show(as_json, &json!({ "public_key": key }), || key.trim_end().to_owned());
            Ok(())
        }
    }
}

/// Refuses a dataset without a version where taking the latest would be rash.
fn names_version(version: &str) -> anyhow::Result<()> {
    if !version.contains('@') {
        bail!("`{version}` names no version; expected `{version}@vN` or `{version}@TAG`");
    }
    Ok(())
}

/// Whether this is `v3` or `3`.
fn is_number(reference: &str) -> bool {
    reference.strip_prefix('v').unwrap_or(reference).parse::<u64>().is_ok()
}

async fn gc(
    data: &DataDir,
    registry: &Registry,
    name: Option<&str>,
    dry_run: bool,
    rules: Rules,
    as_json: bool,
) -> anyhow::Result<()> {
    let datasets = match name {
        Some(name) => vec![registry.dataset(name).await?],
        None => registry.datasets().await?,
    };
    let live = live_jobs(data).await?;
    let mut cleaned = Cleaned::default();
    for dataset in datasets {
        let Cleaned { retired, removed } = if dry_run {
            retention::plan(registry, &dataset.name, rules, &live).await?
        } else {
            retention::clean(registry, &dataset.name, rules, &live).await?
        };
        cleaned.retired.extend(retired);
        cleaned.removed.extend(removed);
    }
    let Cleaned { retired, removed } = cleaned;
    let rows: Vec<_> =
        removed.iter().map(|(name, garbage)| json!({ "dataset": name, "garbage": garbage })).collect();
    let value = json!({ "dry_run": dry_run, "retired": retired, "removed": rows });
    show(as_json, &value, || {
        let (retire, remove) =
            if dry_run { ("would retire", "would remove") } else { ("retired", "removed") };
        let mut text: Vec<_> = retired.iter().map(|version| format!("{retire} {version}")).collect();
        text.extend(removed.iter().map(|(name, garbage)| {
            let what =
                garbage.version.map_or("never published".into(), |number| format!("retired v{number}"));
            format!("{remove} {name}, {}, {what}: {}", garbage.snapshot, megabytes(garbage.bytes))
        }));
        if text.is_empty() { "nothing to remove".into() } else { text.join("\n") }
    });
    Ok(())
}

/// Jobs of the settings' queue that may still publish. Runs of `dpg run` are in no queue: the age of
/// garbage is what protects them.
async fn live_jobs(data: &DataDir) -> anyhow::Result<Vec<String>> {
    let database = settings(data)?.database;
    resident::check_database(data, &database)?;
    let queue = match database {
        database if !database.is_empty() => Queue::open(&database).await,
        _ if data.queue_file().exists() => Queue::sqlite(&data.queue_file()).await,
        _ => return Ok(vec![]),
    };
    retention::live_jobs(&queue.context("cannot ask the queue which jobs are live")?).await
}

fn text(diff: &Diff) -> String {
    let Diff { from, to, rows_added, rows_removed, rows_kept, .. } = diff;
    let mut text = format!(
        "{from} -> {to}\nrows      {rows_added} added, {rows_removed} removed, {rows_kept} kept\n\
         rewards   {:>12} {:>12}\n",
        from.rsplit('@').next().unwrap_or_default(),
        to.rsplit('@').next().unwrap_or_default(),
    );
    let (old, new) = (&diff.rewards_from, &diff.rewards_to);
    for (name, old, new) in [
        ("mean", old.mean, new.mean),
        ("std", old.std, new.std),
        ("min", old.min, new.min),
        ("median", old.median, new.median),
        ("max", old.max, new.max),
        ("above 0", old.positive, new.positive),
    ] {
        text += &format!("  {name:7} {old:>12.4e} {new:>12.4e}\n");
    }
    text += "metrics\n";
    let value = |value: Option<f64>| value.map_or("not measured".into(), |value| format!("{value:.6}"));
    for change in &diff.metrics {
        text += &format!("  {}: {} -> {}\n", change.name, value(change.from), value(change.to));
    }
    text += if diff.spec.is_empty() { "spec      the same" } else { "spec" };
    let setting = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".into());
    for change in &diff.spec {
        text += &format!("\n  {}: {} -> {}", change.key, setting(&change.from), setting(&change.to));
    }
    text
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Copies a version to a folder, from the store or from the daemon.
pub(crate) async fn fetch(
    data: &DataDir,
    place: &Place,
    store: Option<&str>,
    to: Copy<'_>,
    as_json: bool,
) -> anyhow::Result<()> {
    let Copied { version, fetched, .. } = copy(data, place, store, to).await?;
    print::fetched(&version, to.folder, fetched, as_json);
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
    if !overwrite && let Some(file) = changed_since_fetch(folder)? {
        bail!(
            "`{}` was changed since it was fetched and would be replaced; fetch to another folder, or add --overwrite",
            folder.join(file).display()
        );
    }
    if let (None, Some(client)) = (store, place.client(data)?) {
        let (version, fetched) = remote::fetch(&client, dataset, folder).await?;
        return Ok(Copied { version, fetched, origin: Origin::Daemon(client) });
    }
    let registry = registry(data, store)?;
    let version = find(&registry, dataset).await?;
    let fetched =
        registry.fetch(&version, folder).await.with_context(|| format!("cannot fetch {version}"))?;
    let copied = DatasetVersion::from(&version);
    Ok(Copied { version: copied, fetched, origin: Origin::Store(registry, version) })
}
