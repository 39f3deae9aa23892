//! What a daemon clears away beside its work: every hour what was left of runs, once a day what the
//! settings do not keep of datasets.

use std::convert::Infallible;
use std::time::Duration;

use tracing::{info, warn};

use crate::checkpoint::sweep;
use crate::retention::{self, HOURS, Rules};
use crate::services::Services;

const PERIOD: Duration = Duration::from_hours(1);
/// Periods in a day.
const DAY: u64 = 24;

/// Clears away until dropped.
pub(crate) async fn keep_house(services: Services) -> Infallible {
    let mut hour = 0_u64;
    loop {
        if let Err(error) = sweep(&services).await {
            warn!("cannot remove the states of jobs that have ended: {error:#}");
        }
        if hour.is_multiple_of(DAY)
            && let Err(error) = retain(&services).await
        {
            warn!("cannot clean the datasets: {error:#}");
        }
        tokio::time::sleep(PERIOD).await;
        hour += 1;
    }
}

async fn retain(services: &Services) -> anyhow::Result<()> {
    let rules = Rules { versions: services.config.retention.versions, hours: HOURS };
    let live = retention::live_jobs(&services.queue).await?;
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
