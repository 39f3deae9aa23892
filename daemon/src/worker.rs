//! Works on jobs: lease, resolve, run, publish, acknowledge.

use crate::services::Services;

/// Works on jobs until told to stop.
pub(crate) async fn work(_services: Services) -> anyhow::Result<()> {
    std::future::pending().await
}
