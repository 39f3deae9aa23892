//! Jobs and their events.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::State;

/// A spec to be run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitJob {
    /// The spec: a JSON object, or a string with TOML or JSON in it.
    #[serde(deserialize_with = "dpg_spec::distinct")]
    pub spec: Value,
    /// Higher goes first. Default 0.
    #[serde(default)]
    pub priority: i64,
}

/// What a submission did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    /// The job.
    pub job: Job,
    /// Whether it is new; false if a live job had the idempotency key.
    pub created: bool,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Its id; ids sort by the time of submission.
    pub id: Uuid,
    /// The dataset's name.
    pub name: String,
    /// Where it stands: `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    #[schema(value_type = String)]
    pub state: State,
    /// The idempotency key it was submitted with.
    pub key: Option<String>,
    /// Higher goes first.
    pub priority: i64,
    /// Attempts started.
    pub attempts: u32,
    /// Attempts before it fails for good.
    pub max_attempts: u32,
    /// No worker takes it earlier.
    pub not_before: DateTime<Utc>,
    /// The worker that has it or had it last.
    pub worker: Option<String>,
    /// When it was told to stop.
    pub cancel_requested: Option<DateTime<Utc>>,
    /// How far it is.
    pub progress: Option<Value>,
    /// What it made.
    pub result: Option<Value>,
    /// Why its last failed attempt failed.
    pub error: Option<String>,
    /// SHA-256 of the spec in hex, the same for two texts that mean the same.
    pub spec_sha256: String,
    /// The schedule it comes from.
    pub schedule: Option<Uuid>,
    /// The time of the schedule it is for.
    pub due: Option<DateTime<Utc>>,
    /// Number of its newest event.
    pub last_event: i64,
    /// When it was submitted.
    pub created: DateTime<Utc>,
    /// When anything about it last changed.
    pub updated: DateTime<Utc>,
    /// When it ended.
    pub finished: Option<DateTime<Utc>>,
}

/// A job's place in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPriority {
    /// Higher goes first.
    pub priority: i64,
}

/// A job with its spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobDetail {
    /// The job.
    #[serde(flatten)]
    pub job: Job,
    /// The spec as it was submitted.
    pub spec: String,
    /// The spec with every default filled in.
    pub resolved: Value,
    /// The keys that its author wrote, as in `policy.steps`; the others have their defaults.
    #[serde(default)]
    pub written: Vec<String>,
}

/// Jobs, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// The `cursor` of the next page, if there is more.
    pub next: Option<Uuid>,
}

/// One line of a job's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Counts from 1 within the job, without gaps.
    pub seq: i64,
    /// The time of the event, by the queue's clock.
    pub at: DateTime<Utc>,
    /// What happened: `submitted`, `claimed`, `attempt_failed`, `succeeded`, ...
    pub kind: String,
    /// The particulars.
    pub detail: Value,
}

/// A job's history, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventList {
    /// The events.
    pub events: Vec<Event>,
}
