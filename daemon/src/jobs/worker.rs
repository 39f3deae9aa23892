//! Works on jobs: claim, resolve, run, publish, complete. Every step may be killed and repeated.
//!
//! A claim gives a lease and its fence. While the run works on a thread of its own, the lease is
//! renewed (`hold.rs`), what happens is written to the job (`report.rs`), and the state is copied to
//! the store (`checkpoint.rs`). A worker that is killed loses its lease, and the next one goes on from
//! the state. The registry publishes a job once, and the queue refuses an old fence, so whatever a
//! worker repeats or does too late, a job ends once with one version.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use backon::{ExponentialBuilder, Retryable};
use dpg_engine::History;
use dpg_queue::{Error as QueueError, Failure, Job, Lease};
use dpg_registry::{Error as RegistryError, Version};
use futures::FutureExt;
use metrics::counter;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::jobs::checkpoint::Checkpoints;
use crate::jobs::failure::failure;
use crate::jobs::hold::{Halt, Reason, hold};
use crate::jobs::labels;
use crate::jobs::mlflow;
use crate::jobs::refresh::Refresh;
use crate::jobs::report::Reporter;
use crate::jobs::submission;
use crate::jobs::trace;
use crate::pipeline::board;
use crate::pipeline::compute::Panicked;
use crate::pipeline::device::resources;
use crate::pipeline::figures::figures;
use crate::pipeline::make::{Work, make, publish};
use crate::pipeline::resolve::resolve;
use crate::pipeline::verification::check_passed;
use crate::services::Services;
use crate::settings::allow;
use crate::settings::data_dir::RunDir;
use crate::settings::teachers;
use crate::terminal::stop::Stop;
use crate::terminal::told::told;

/// Runs the worker in the foreground until SIGINT or SIGTERM.
pub(crate) async fn work(services: Services) -> anyhow::Result<()> {
    let stop = Stop::listen()?;
    let mut slots = JoinSet::new();
    for slot in 0..services.config.worker.slots {
        let (services, stop) = (services.clone(), stop.clone());
        slots.spawn(async move {
            while let Some((lease, reason)) = work_slot(&services, slot, &stop, &|_| {}).await {
                put_away(&services, lease, reason).await;
            }
        });
    }
    while let Some(ended) = slots.join_next().await {
        ended.context("a worker's slot panicked")?;
    }
    Ok(())
}

/// Works on one job after the other until told to stop. `tell` hears which lease is held. A run that did
/// not stop when it had to is left behind, computing: then this ends with its lease, and why it had to.
pub(crate) async fn work_slot(
    services: &Services,
    slot: usize,
    stop: &Stop,
    tell: &(dyn Fn(Option<Lease>) + Sync),
) -> Option<(Lease, Reason)> {
    while !stop.is_set() {
        match Attempt::claim(services, slot).await {
            Ok(Some(attempt)) => {
                let lease = attempt.lease;
                tell(Some(lease));
                if let Some(reason) = Box::pin(attempt.perform(stop)).await {
                    return Some((lease, reason));
                }
                tell(None);
            }
            Ok(None) => {
                let poll = services.config.worker.poll_seconds.clamp(0.01, 3600.0);
                let poll = Duration::from_secs_f64(poll);
                tokio::select! { () = stop.wait() => {}, () = sleep(poll) => {} }
            }
            Err(error) => {
                warn!("cannot claim a job: {:#}", anyhow::Error::from(error));
                counter!("dpg_errors_total", "kind" => "queue").increment(1);
                tokio::select! { () = stop.wait() => {}, () = sleep(Duration::from_secs(2)) => {} }
            }
        }
    }
    None
}

/// Works on the first job that waits, and gives it as it is then; `None` if no job waits.
pub(crate) async fn work_once(services: &Services, stop: &Stop) -> anyhow::Result<Option<Job>> {
    let Some(attempt) = Attempt::claim(services, 0).await? else { return Ok(None) };
    let lease = attempt.lease;
    if let Some(reason) = Box::pin(attempt.perform(stop)).await {
        put_away(services, lease, reason).await;
    }
    Ok(Some(services.queue.job(lease.job).await?))
}

/// Tells the queue of a run that had to stop for `reason` and was left behind.
pub(crate) async fn put_away(services: &Services, lease: Lease, reason: Reason) {
    warn!(job = %lease.job, "the run did not stop in time; it is as it was saved last");
    let queue = &services.queue;
    let told = match reason {
        Reason::LeaseLost => return,
        Reason::Shutdown => timeout(Duration::from_secs(2), queue.release(&lease)).await,
        Reason::Cancelled => timeout(Duration::from_secs(2), queue.cancelled(&lease)).await,
    };
    if let Ok(Ok(job)) = told {
        put_to_rest(services, lease, &job).await;
    } else {
        warn!(job = %lease.job, "cannot tell the queue; the job's lease will run out");
    }
}

/// Ends a job for good that ended the process it ran in: it would end the next one too.
pub(crate) async fn blame(services: &Services, lease: Lease, error: &str) {
    warn!(job = %lease.job, kind = "crashed", "the attempt failed: {error}");
    counter!("dpg_errors_total", "kind" => "crashed").increment(1);
    let fail = || services.queue.fail(&lease, error, Failure::Permanent);
    match fail.retry(retries()).when(QueueError::is_transient).await {
        Ok(job) => put_to_rest(services, lease, &job).await,
        Err(error) => {
            warn!(job = %lease.job, "cannot say how it ended: {:#}", anyhow::Error::from(error));
        }
    }
}

/// Cleans up after a job, if it has ended. What cannot be removed now is swept up later.
async fn put_to_rest(services: &Services, lease: Lease, job: &Job) {
    if !job.state.has_ended() {
        return;
    }
    if let Err(error) = Checkpoints::new(services, lease.job, lease.fence).remove().await {
        warn!(job = %lease.job, "cannot remove the run's state: {}", told(&error));
    }
    tokio::join!(mlflow::ended(services.config.mlflow.as_ref(), job), trace::ended(&services.queue, job));
}

fn retries() -> ExponentialBuilder {
    ExponentialBuilder::default().with_max_times(8)
}

/// One attempt at a job.
struct Attempt {
    services: Services,
    lease: Lease,
    job: Job,
    halt: Halt,
}

impl Attempt {
    /// Claims the first job that waits and that this machine can run.
    async fn claim(services: &Services, slot: usize) -> Result<Option<Self>, QueueError> {
        let owner = format!("{}-{}-{slot}", host(), std::process::id());
        let length = Duration::from_secs(services.config.worker.lease_seconds);
        let queue = services.queue.clone().with(resources(&services.config.device));
        let Some((lease, job)) = queue.claim(&owner, length).await? else { return Ok(None) };
        info!(job = %job.id, dataset = job.name, attempt = job.attempts, fence = lease.fence, "claimed");
        Ok(Some(Self { services: services.clone(), lease, job, halt: Halt::default() }))
    }

    /// Holds the lease, runs, and says how it ended. A run that has to stop has a deadline; one that
    /// misses it is left behind, and why it had to stop is returned.
    async fn perform(&self, stop: &Stop) -> Option<Reason> {
        let (settings, queue) = (&self.services.config.worker, &self.services.queue);
        let length = Duration::from_secs(settings.lease_seconds);
        // ends with this function, however that ends
        let mut holder = JoinSet::new();
        holder.spawn(hold(queue.clone(), self.lease, length, self.halt.clone()));
        let work = async {
            let made = AssertUnwindSafe(Box::pin(self.run())).catch_unwind().await;
            let made = made.unwrap_or_else(|payload| Err(Panicked::new(payload.as_ref()).into()));
            self.conclude(made).await;
        };
        let overdue = async {
            tokio::select! { () = stop.wait() => self.halt.set(Reason::Shutdown), () = self.halt.wait() => {} }
            sleep(Duration::from_secs(settings.shutdown_seconds)).await;
        };
        tokio::select! {
            () = work => None,
            () = overdue => self.halt.reason(),
        }
    }

    /// Resolve, run, publish. Gives the job's result.
    async fn run(&self) -> anyhow::Result<Value> {
        let Services { config, data, registry, queue, .. } = &self.services;
        // an earlier attempt may have been killed between publishing and saying so
        if let Some(version) = self.published().await? {
            check_passed(&version)?;
            return Ok(result(&version, None));
        }
        let mut spec = submission::shown(&self.job)?;
        // the settings and the files may be others than when it was submitted, or on another machine
        if let Some(fault) = allow::faults(&spec, &config.allow).first() {
            bail!("`{}`: {}", fault.path, fault.message);
        }
        if let Err(fault) = allow::commands(&mut spec, &config.allow.programs) {
            bail!("`{}`: {}", fault.path, fault.message);
        }
        let hub = data.hub()?;
        let ready = async { anyhow::Ok((resolve(spec, &hub).await?, self.folder().await?)) };
        let (mut resolved, folder) = tokio::select! {
            ready = ready => ready?,
            // downloads are long, and go on another time where they stopped
            () = self.halt.wait() => bail!("told to stop"),
        };
        teachers::connect(&mut resolved.local, &config.teachers, Some(&folder.path))?;
        let refresh = Refresh::new(&self.services, &self.job, &resolved.spec).await?;
        refresh.warm_start(&folder.path, &mut resolved.models).await?;
        let checkpoints = self.checkpoints();
        checkpoints.restore().await?;
        let (tell, mut report) = Reporter::new(queue.clone(), self.lease, &self.job.name, &config.device);
        let (tell, tracking) = mlflow::logging(config.mlflow.as_ref(), &self.job, tell);
        let tell = board::writing(&data.board(&self.job.name, &self.job.id.to_string()), tell);
        let work = Work {
            resolved,
            devices: dpg_models::device::parse(&config.device)?,
            folder: folder.path.clone(),
            job: self.job.id.to_string(),
            fence: self.lease.fence as u64,
        };
        let (halt, lock) = (self.halt.clone(), Arc::clone(&folder));
        let stop = move || {
            // the run's thread holds the folder's lock, even when nobody waits for it any more
            let _lock = &lock;
            halt.reason().is_some()
        };
        // on the heap: futures of a run with all it works on are large
        let making = Box::pin(async { tokio::join!(make(work, tell, stop), report.keep(), tracking).0 });
        let mut made = tokio::select! {
            made = making => made?,
            never = checkpoints.keep(Duration::from_secs(config.worker.checkpoint_seconds)) => match never {},
        };
        if let Some(comparison) = refresh.compare(&made.history) {
            let snapshot = &mut made.snapshot;
            snapshot.withheld = snapshot.withheld.take().or_else(|| comparison.withheld());
            let told = queue.event(&self.lease, "compared", json!(comparison)).await;
            told.context("cannot record the comparison")?;
        }
        refresh.keep_generator(&folder.path).await?;
        let version = publish(registry, &made).await?;
        refresh.drop_generators().await;
        let mut result = result(&version, Some(&made.history));
        result["quality"] = json!(made.quality);
        if let Some(teaching) = &made.teaching {
            result["teacher"] = json!(teaching);
        }
        let detail = json!({ "dataset": version.to_string(), "rows": version.rows });
        if let Err(error) = queue.event(&self.lease, "published", detail).await {
            warn!(job = %self.job.id, "cannot write the job's history: {:#}", anyhow::Error::from(error));
        }
        check_passed(&version)?;
        Ok(result)
    }

    /// The version that this job was published as, if it was.
    async fn published(&self) -> anyhow::Result<Option<Version>> {
        let job = self.job.id.to_string();
        match self.services.registry.dataset(&self.job.name).await {
            Ok(dataset) => Ok(dataset.versions.into_iter().find(|version| version.job == job)),
            Err(RegistryError::NoDataset { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The run's folder; an earlier attempt on this machine may need a moment to leave it.
    async fn folder(&self) -> anyhow::Result<Arc<RunDir>> {
        loop {
            if let Some(folder) = self.services.data.job_dir(self.job.id)? {
                return Ok(Arc::new(folder));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(&self.services, self.job.id, self.lease.fence)
    }

    /// Tells the queue how the attempt ended, and cleans up after a job that has ended.
    async fn conclude(&self, made: anyhow::Result<Value>) {
        let (queue, lease, id) = (&self.services.queue, &self.lease, self.job.id);
        let retries = retries();
        let ended = match (made, self.halt.reason()) {
            (Ok(result), _) => {
                info!(job = %id, "succeeded");
                counter!("dpg_published_total", "dataset" => labels::dataset(&self.job.name)).increment(1);
                (|| queue.complete(lease, result.clone())).retry(retries).when(QueueError::is_transient).await
            }
            (Err(_), Some(Reason::LeaseLost)) => {
                info!(job = %id, "the lease is lost; stopped");
                counter!("dpg_errors_total", "kind" => "lease_lost").increment(1);
                return;
            }
            (Err(_), Some(Reason::Cancelled)) => {
                info!(job = %id, "cancelled");
                (|| queue.cancelled(lease)).retry(retries).when(QueueError::is_transient).await
            }
            (Err(_), Some(Reason::Shutdown)) => {
                info!(job = %id, "giving the job back");
                self.save().await;
                (|| queue.release(lease)).retry(retries).when(QueueError::is_transient).await
            }
            (Err(error), None) => {
                let failure = failure(&error, self.job.attempts);
                let kind = if failure == Failure::Permanent { "permanent" } else { "transient" };
                warn!(job = %id, kind, "the attempt failed: {}", told(&error));
                counter!("dpg_errors_total", "kind" => kind).increment(1);
                if is_damaged(&error) {
                    self.clean().await;
                } else if failure != Failure::Permanent {
                    self.save().await;
                }
                let text = told(&error);
                (|| queue.fail(lease, &text, failure)).retry(retries).when(QueueError::is_transient).await
            }
        };
        match ended {
            Ok(job) => put_to_rest(&self.services, *lease, &job).await,
            Err(error) => warn!(job = %id, "cannot say how it ended: {:#}", anyhow::Error::from(error)),
        }
    }

    /// Copies the run's state for whoever claims the job next.
    async fn save(&self) {
        if let Err(error) = self.checkpoints().copy().await {
            warn!(job = %self.job.id, "cannot copy the run's state: {}", told(&error));
        }
    }

    /// Removes the run's state, so that the next attempt starts anew.
    async fn clean(&self) {
        if let Err(error) = self.checkpoints().remove().await {
            warn!(job = %self.job.id, "cannot remove the run's state: {}", told(&error));
        }
    }
}

/// Whether the run's state cannot be read: the next attempt starts anew.
fn is_damaged(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(dpg_engine::Error::Damaged { .. }))
}

/// What a job has made.
fn result(version: &Version, history: Option<&History>) -> Value {
    let figures = history.map(figures).unwrap_or_default();
    let validation: Vec<_> = figures
        .iter()
        .map(|figure| json!({ "name": figure.name, "before": figure.before, "after": figure.after }))
        .collect();
    json!({
        "dataset": version.to_string(),
        "version": version.number,
        "rows": version.rows,
        "manifest_sha256": version.manifest_sha256,
        "validation": validation,
    })
}

/// This machine's name, for people who read who has a job.
fn host() -> String {
    let read = |file| std::fs::read_to_string(file).ok();
    let name = read("/proc/sys/kernel/hostname").or_else(|| std::env::var("HOSTNAME").ok());
    let name = name.unwrap_or_default().trim().to_owned();
    if name.is_empty() { "localhost".into() } else { name }
}
