//! What happens by the clock: due schedules become jobs.
//!
//! The ticker runs in UTC and knows no calendar. Which times are due is computed in the queue from the
//! schedule's own zone, and of several daemons one moves the schedule on. The clock may be set by hours,
//! either way, while the daemon runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use dpg_queue::{NewJob, Resources, Schedule};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio_cron_scheduler::{Job, JobScheduler};
use tracing::{info, warn};

use crate::jobs::submission;
use crate::services::Services;
use crate::terminal::told::told;

/// A time this late is not missed: daemons restart.
const GRACE: Duration = Duration::from_mins(1);

/// How long no tick may come before the ticker is made anew. It remembers its next tick as a time of day,
/// which is far away once the clock is set back.
const SILENCE: Duration = Duration::from_secs(5);

/// Submits what is due until it is dropped or told to stop.
pub(crate) struct Ticker(JoinHandle<()>);

impl Ticker {
    /// Ends it.
    pub(crate) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts the ticker.
pub(crate) async fn start(services: &Services) -> anyhow::Result<Ticker> {
    let services = services.clone();
    // the first one is started here, so that what keeps it from starting is an error
    let mut ticking = Ticking::start(&services).await?;
    Ok(Ticker(tokio::spawn(async move {
        loop {
            ticking.until_silent().await;
            info!("the clock was set back; counting seconds anew");
            let next = Ticking::start(&services).await;
            let _ = ticking.scheduler.shutdown().await;
            match next {
                Ok(next) => ticking = next,
                Err(error) => {
                    warn!("{}", told(&error));
                    tokio::time::sleep(SILENCE).await;
                }
            }
        }
    })))
}

/// A scheduler with one job: to look at the schedules, every second.
struct Ticking {
    scheduler: JobScheduler,
    /// When the last tick was.
    last: Arc<watch::Sender<Instant>>,
}

impl Ticking {
    async fn start(services: &Services) -> anyhow::Result<Self> {
        let scheduler = JobScheduler::new().await.context("cannot start the ticker")?;
        let last = Arc::new(watch::Sender::new(Instant::now()));
        let (services, ticked) = (services.clone(), Arc::clone(&last));
        let looking = Arc::new(Mutex::new(()));
        let every_second = Job::new_async("* * * * * *", move |_, _| {
            let (services, looking) = (services.clone(), Arc::clone(&looking));
            ticked.send_replace(Instant::now());
            Box::pin(async move {
                // if the last look is not over yet, the database is slow
                let Ok(_looking) = looking.try_lock() else { return };
                if let Err(error) = submit_due(&services).await {
                    warn!("cannot look at the schedules: {}", told(&error));
                }
            })
        })?;
        scheduler.add(every_second).await?;
        scheduler.start().await.context("cannot start the ticker")?;
        Ok(Self { scheduler, last })
    }

    /// Ready when no tick has come for too long.
    async fn until_silent(&self) {
        loop {
            let silent = self.last.borrow().elapsed();
            if silent > SILENCE {
                return;
            }
            tokio::time::sleep(SILENCE.saturating_sub(silent) + Duration::from_millis(10)).await;
        }
    }
}

async fn submit_due(services: &Services) -> anyhow::Result<()> {
    let schedules = services.queue.schedules().await?;
    if schedules.is_empty() {
        return Ok(());
    }
    let now = services.queue.now().await?;
    for schedule in schedules {
        if let Err(error) = submit(services, &schedule, now).await {
            warn!(schedule = schedule.name, "cannot submit: {}", told(&error));
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
        needs: Resources::default(),
    }
}
