//! What is kept of datasets: versions beyond the newest few are retired, and what no version needs is
//! removed.

use chrono::TimeDelta;
use dpg_queue::{Filter, Queue, State};
use dpg_registry::{Garbage, Registry};

/// How long garbage is left alone by default: publishers and readers are faster than that.
pub(crate) const HOURS: u32 = 24;

/// What is to be kept.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    /// Versions of a dataset, the latest and tagged ones apart; 0 keeps all.
    pub(crate) versions: usize,
    /// Garbage younger than this.
    pub(crate) hours: u32,
}

/// What went, or would go.
#[derive(Default)]
pub(crate) struct Cleaned {
    /// The versions retired, `NAME@vN`.
    pub(crate) retired: Vec<String>,
    /// The snapshots removed, with their datasets.
    pub(crate) removed: Vec<(String, Garbage)>,
}

/// Cleans a dataset. `live` are the jobs that may still publish.
pub(crate) async fn clean(
    registry: &Registry,
    name: &str,
    rules: Rules,
    live: &[String],
) -> anyhow::Result<Cleaned> {
    let retired = registry.retire(name, rules.versions).await?;
    let removed = registry.gc(name, age(rules), |job| is_live(live, job)).await?;
    Ok(cleaned(name, retired, removed))
}

/// What [`clean`] would do now.
pub(crate) async fn plan(
    registry: &Registry,
    name: &str,
    rules: Rules,
    live: &[String],
) -> anyhow::Result<Cleaned> {
    let retired = registry.dataset(name).await?.outdated(rules.versions);
    let removed = registry.garbage(name, age(rules), |job| is_live(live, job)).await?;
    Ok(cleaned(name, retired, removed))
}

fn age(rules: Rules) -> TimeDelta {
    TimeDelta::hours(rules.hours.into())
}

fn is_live(live: &[String], job: &str) -> bool {
    live.iter().any(|known| known == job)
}

fn cleaned(name: &str, retired: Vec<u64>, removed: Vec<Garbage>) -> Cleaned {
    Cleaned {
        retired: retired.into_iter().map(|version| format!("{name}@v{version}")).collect(),
        removed: removed.into_iter().map(|garbage| (name.to_owned(), garbage)).collect(),
    }
}

/// Jobs of a queue that may still publish.
pub(crate) async fn live_jobs(queue: &Queue) -> anyhow::Result<Vec<String>> {
    let mut live = vec![];
    for state in [State::Queued, State::Running] {
        let filter = Filter { state: Some(state), ..Filter::default() };
        let mut from = None;
        loop {
            let page = queue.list(&filter, from, 500).await?;
            live.extend(page.jobs.iter().map(|job| job.id.to_string()));
            from = page.next;
            if from.is_none() {
                break;
            }
        }
    }
    Ok(live)
}
