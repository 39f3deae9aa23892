//! What a daemon does at the moment.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Job;

/// The queue, who works on it, and what ended last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Overview {
    /// Jobs by state, those of all datasets.
    pub counts: JobCounts,
    /// Jobs that run, the newest first; at most 50.
    pub running: Vec<Job>,
    /// Jobs that wait, the newest first; at most 50.
    pub queued: Vec<Job>,
    /// The newest jobs that have ended; at most 20.
    pub ended: Vec<Job>,
    /// The machines of these jobs' workers, by name.
    pub machines: Vec<Machine>,
}

/// Numbers of jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobCounts {
    /// They wait for a worker.
    pub queued: u64,
    /// A worker has them.
    pub running: u64,
    /// They have made their version.
    pub succeeded: u64,
    /// They failed for good.
    pub failed: u64,
    /// Somebody cancelled them.
    pub cancelled: u64,
}

/// A machine that works on jobs of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Machine {
    /// Its host name.
    pub name: String,
    /// Jobs that it has now.
    pub running: u64,
    /// When a worker of it last wrote something about a job.
    pub seen: DateTime<Utc>,
}
