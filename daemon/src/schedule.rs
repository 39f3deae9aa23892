//! What happens by the clock: due schedules become jobs.
//!
//! The ticker runs in UTC and knows no calendar. Which times are due is computed in the queue from the
//! schedule's own zone, and of several daemons one moves the schedule on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use dpg_queue::{NewJob, Schedule};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio_cron_scheduler::{Job, JobScheduler};
use tracing::{info, warn};

use crate::{services::Services, submission};

/// A time this late is not missed: daemons restart.
const GRACE: Duration = Duration::from_mins(1);

/// Starts the ticker; it ends with the process, or with [`JobScheduler::shutdown`].
pub(crate) async fn start(services: &Services) -> anyhow::Result<JobScheduler> {
    let scheduler = JobScheduler::new().await.context("cannot start the ticker")?;
    let services = services.clone();
    let ticking = Arc::new(Mutex::new(()));
    let every_second = Job::new_async("* * * * * *", move |_, _| {
        let (services, ticking) = (services.clone(), Arc::clone(&ticking));
        Box::pin(async move {
            // if the last tick is not over yet, the database is slow
            let Ok(_ticking) = ticking.try_lock() else { return };
            if let Err(error) = submit_due(&services).await {
                warn!("cannot look at the schedules: {error:#}");
            }
        })
    })?;
    scheduler.add(every_second).await?;
    scheduler.start().await.context("cannot start the ticker")?;
    Ok(scheduler)
}

async fn submit_due(services: &Services) -> anyhow::Result<()> {
    let schedules = services.queue.schedules().await?;
    if schedules.is_empty() {
        return Ok(());
    }
    let now = services.queue.now().await?;
    for schedule in schedules {
        if let Err(error) = submit(services, &schedule, now).await {
            warn!(schedule = schedule.name, "cannot submit: {error:#}");
        }
    }
    Ok(())
}

async fn submit(
    services: &Services,
    schedule: &Schedule,
    now: chrono::DateTime<chrono::Utc>,
) -> anyhow::Result<()> {
    let Some(due) = schedule.due(now, GRACE)? else { return Ok(()) };
    let job = submission::job(services, &schedule.spec).await?;
    // a spec that is not good any more makes a job that fails with the reason, for all to see
    let job = job.unwrap_or_else(|_| as_written(schedule));
    // `None`: another daemon was first
    let Some(submitted) = services.queue.advance(schedule, &due, &job).await? else { return Ok(()) };
    for job in &submitted {
        info!(schedule = schedule.name, job = %job.id, "submitted");
    }
    let skipped = due.times.len() - submitted.len();
    if due.missed + skipped > 0 {
        info!(schedule = schedule.name, missed = due.missed, overlapping = skipped, "left out due times");
    }
    Ok(())
}

fn as_written(schedule: &Schedule) -> NewJob {
    NewJob {
        name: schedule.name.clone(),
        key: None,
        spec: schedule.spec.clone(),
        resolved: "null".into(),
        spec_sha256: hex::encode(Sha256::digest(&schedule.spec)),
        priority: schedule.priority,
        max_attempts: schedule.max_attempts,
        not_before: None,
        schedule: None,
        due: None,
    }
}
