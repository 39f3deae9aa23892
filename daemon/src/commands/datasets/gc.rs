//! `dpg datasets gc`: what no version needs is removed.

use anyhow::Context;
use dpg_queue::Queue;
use dpg_registry::Registry;
use serde_json::json;

use crate::clock::retention::{self, Cleaned, Rules};
use crate::commands::show;
use crate::commands::version::megabytes;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;
use crate::settings::resident;

/// Cleans a dataset, or all; or says what would go.
pub(super) async fn gc(
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
    let database = Config::in_force(data)?.database;
    resident::check_database(data, &database)?;
    let queue = match database {
        database if !database.is_empty() => Queue::open(&database).await,
        _ if data.queue_file().exists() => Queue::sqlite(&data.queue_file()).await,
        _ => return Ok(vec![]),
    };
    retention::live_jobs(&queue.context("cannot ask the queue which jobs are live")?).await
}
