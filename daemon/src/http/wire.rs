//! What the queue and the registry store, as the API's types.

use chrono::{DateTime, Utc};
use dpg_api::{
    Attestation, Dataset, DatasetDetail, DatasetVersion, Job, JobDetail, RewardStatistics, Schedule,
    ScheduleDetail, Token, VersionFile, Withdrawal,
};

use crate::jobs::submission;

pub(crate) fn job(job: dpg_queue::Job) -> Job {
    Job {
        id: job.id,
        name: job.name,
        state: job.state,
        key: job.key,
        priority: job.priority,
        attempts: job.attempts,
        max_attempts: job.max_attempts,
        not_before: job.not_before,
        worker: job.owner,
        cancel_requested: job.cancel_requested,
        progress: job.progress,
        result: job.result,
        error: job.error,
        spec_sha256: job.spec_sha256,
        schedule: job.schedule,
        due: job.due,
        last_event: job.last_event,
        created: job.created,
        updated: job.updated,
        finished: job.finished,
    }
}

/// A job with its spec.
pub(crate) fn job_detail(stored: dpg_queue::Job) -> JobDetail {
    let spec = stored.spec.clone();
    let resolved = serde_json::from_str(&stored.resolved).unwrap_or_default();
    let written = submission::written(&spec);
    JobDetail { job: job(stored), spec, resolved, written }
}

/// A schedule as it stands at `now`; an error if this program does not know its stored expression or zone.
pub(crate) fn schedule(
    schedule: &dpg_queue::Schedule,
    now: DateTime<Utc>,
) -> Result<Schedule, dpg_queue::Error> {
    let next = match schedule.paused {
        Some(_) => None,
        None => schedule.upcoming(now, 1)?.first().copied(),
    };
    Ok(Schedule {
        id: schedule.id,
        name: schedule.name.clone(),
        cron: schedule.cron.clone(),
        time_zone: schedule.time_zone.clone(),
        overlap: schedule.overlap,
        catchup: schedule.catchup,
        jitter_seconds: schedule.jitter.as_secs(),
        priority: schedule.priority,
        paused: schedule.paused,
        next,
        created: schedule.created,
        updated: schedule.updated,
    })
}

/// A schedule with its spec and its next times; an error as of [`schedule`].
pub(crate) fn schedule_detail(
    stored: &dpg_queue::Schedule,
    now: DateTime<Utc>,
) -> Result<ScheduleDetail, dpg_queue::Error> {
    Ok(ScheduleDetail {
        schedule: schedule(stored, now)?,
        spec: stored.spec.clone(),
        upcoming: stored.upcoming(now, 5)?,
    })
}

pub(crate) fn token(token: dpg_queue::Token) -> Token {
    Token {
        id: token.id,
        name: token.name,
        scopes: token.scopes,
        datasets: token.datasets,
        quota: token.quota,
        expires: token.expires,
        created: token.created,
        revoked: token.revoked,
    }
}

pub(crate) fn version(version: &dpg_registry::Version) -> DatasetVersion {
    DatasetVersion {
        dataset: version.dataset.clone(),
        number: version.number,
        job: version.job.clone(),
        manifest_sha256: version.manifest_sha256.clone(),
        rows: version.rows,
        size: version.size,
        published_at: version.published_at,
        withdrawn: version.withdrawn.as_ref().map(withdrawal),
        retired: version.retired,
        attestations: version.attestations.iter().map(attestation).collect(),
    }
}

fn withdrawal(withdrawal: &dpg_registry::Withdrawal) -> Withdrawal {
    use dpg_registry::Withdrawal::{Failed, Outdone, Retired, Yanked};
    match withdrawal {
        Yanked(reason) => Withdrawal::Yanked(reason.clone()),
        Failed(reason) => Withdrawal::Failed(reason.clone()),
        Outdone(reason) => Withdrawal::Outdone(reason.clone()),
        Retired => Withdrawal::Retired,
    }
}

pub(crate) fn attestation(attestation: &dpg_registry::Attestation) -> Attestation {
    Attestation {
        at: attestation.at,
        holds: attestation.holds,
        sha256: attestation.sha256.clone(),
        signer: attestation.signer.clone(),
        doubt: attestation.doubt.clone(),
    }
}

pub(crate) fn dataset(dataset: &dpg_registry::Dataset) -> Dataset {
    Dataset {
        name: dataset.name.clone(),
        versions: dataset.versions.len() as u64,
        latest: dataset.latest().map(version),
        tags: dataset.tags.clone(),
    }
}

/// A dataset with all its versions.
pub(crate) fn dataset_detail(dataset: &dpg_registry::Dataset) -> DatasetDetail {
    DatasetDetail {
        name: dataset.name.clone(),
        versions: dataset.versions.iter().map(version).collect(),
        tags: dataset.tags.clone(),
    }
}

pub(crate) fn statistics(of: &dpg_registry::RewardStatistics) -> RewardStatistics {
    let dpg_registry::RewardStatistics { rows, mean, std, min, median, max, positive } = *of;
    RewardStatistics { rows, mean, std, min, median, max, positive }
}

pub(crate) fn file(file: dpg_registry::ManifestFile) -> VersionFile {
    VersionFile { path: file.path, size: file.size, sha256: file.sha256 }
}
