//! What a daemon clears away beside its work: every hour what was left of runs, once a day what the
//! settings do not keep of datasets.

use std::convert::Infallible;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use tracing::{info, warn};

use crate::clock::retention::{self, HOURS, Rules};
use crate::jobs::checkpoint::sweep;
use crate::pipeline::board;
use crate::services::Services;
use crate::terminal::told::told;

const PERIOD: Duration = Duration::from_hours(1);
/// Periods in a day.
const DAY: u64 = 24;

/// How long what a webhook was told and what TensorBoard shows are kept.
const KEPT: Duration = Duration::from_hours(30 * 24);

/// Two clocks that are this far apart after a period were not: one was set.
const APART: Duration = Duration::from_mins(1);

/// Clears away until dropped. What it removes it removes for its age: after the clock was set, nothing is
/// old for a day.
pub(crate) async fn keep_house(services: Services) -> Infallible {
    let mut hour = 0_u64;
    let mut looked = (SystemTime::now(), Instant::now());
    loop {
        let now = (SystemTime::now(), Instant::now());
        if was_set(looked, now) {
            warn!("the clock was set; versions and garbage are left alone for a day");
            hour = 1;
        }
        looked = now;
        if let Err(error) = sweep(&services).await {
            warn!("cannot remove the states of jobs that have ended: {}", told(&error));
        }
        if hour.is_multiple_of(DAY)
            && let Err(error) = retain(&services).await
        {
            warn!("cannot clean the datasets: {}", told(&error));
        }
        tokio::time::sleep(PERIOD).await;
        hour += 1;
    }
}

/// Whether the clock was set between two looks at it and at one that is not.
fn was_set(before: (SystemTime, Instant), after: (SystemTime, Instant)) -> bool {
    let passed = after.1.duration_since(before.1);
    let shown = after.0.duration_since(before.0);
    shown.map_or(true, |shown| shown.abs_diff(passed) > APART)
}

async fn retain(services: &Services) -> anyhow::Result<()> {
    let rules = Rules { versions: services.config.retention.versions, hours: HOURS };
    let live = retention::live_jobs(&services.queue).await?;
    services.queue.forget_deliveries(KEPT).await?;
    board::sweep(&services.data.boards(), KEPT).context("cannot remove old events for TensorBoard")?;
    for dataset in services.registry.datasets().await? {
        let cleaned = retention::clean(&services.registry, &dataset.name, rules, &live).await?;
        for version in cleaned.retired {
            info!(%version, "retired");
        }
        if !cleaned.removed.is_empty() {
            info!(dataset = dataset.name, snapshots = cleaned.removed.len(), "removed garbage");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_found_out() {
        let (clock, steady) = (SystemTime::now(), Instant::now());
        let hours = |count: u64| Duration::from_hours(count);
        let set = |shown, passed| was_set((clock, steady), (clock + shown, steady + passed));
        assert!(!set(hours(1), hours(1)));
        assert!(!set(hours(1) + Duration::from_secs(5), hours(1)));
        assert!(set(hours(40), hours(1)));
        assert!(set(hours(0), hours(1)));
        assert!(was_set((clock + hours(2), steady), (clock, steady + hours(1))));
    }
}
