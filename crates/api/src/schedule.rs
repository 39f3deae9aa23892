//! Schedules: specs that are submitted again and again.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{Catchup, Overlap};

/// A schedule to be made or replaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutSchedule {
    /// Minute, hour, day of month, month, day of week, as in `0 2 * * *`; or `@daily` and the like.
    pub cron: String,
    /// An IANA time zone. Default `UTC`.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// The spec: a JSON object, or a string with TOML or JSON in it.
    pub spec: Value,
    /// What happens while an earlier job has not ended: `skip`, `queue` or `replace`. Default `skip`.
    #[serde(default = "skip")]
    #[schema(value_type = String)]
    pub overlap: Overlap,
    /// What happens to times that passed while no daemon ran: `none`, `one` or `all`. Default `one`.
    #[serde(default = "one")]
    #[schema(value_type = String)]
    pub catchup: Catchup,
    /// Each time is delayed by up to this many seconds. Default 0.
    #[serde(default)]
    pub jitter_seconds: u32,
    /// Priority of its jobs. Default 0.
    #[serde(default)]
    pub priority: i64,
}

fn utc() -> String {
    "UTC".into()
}

fn skip() -> Overlap {
    Overlap::Skip
}

fn one() -> Catchup {
    Catchup::One
}

/// A schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// Its id, which its jobs name.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Minute, hour, day of month, month, day of week.
    pub cron: String,
    /// An IANA time zone.
    pub time_zone: String,
    /// What happens while an earlier job has not ended.
    #[schema(value_type = String)]
    pub overlap: Overlap,
    /// What happens to times that passed while no daemon ran.
    #[schema(value_type = String)]
    pub catchup: Catchup,
    /// Each time is delayed by up to this many seconds.
    pub jitter_seconds: u64,
    /// Priority of its jobs.
    pub priority: i64,
    /// When it was paused, if it is.
    pub paused: Option<DateTime<Utc>>,
    /// When it is due next, before jitter; absent while it is paused.
    pub next: Option<DateTime<Utc>>,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// When it last changed or fell due.
    pub updated: DateTime<Utc>,
}

/// A schedule with its spec and its times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleDetail {
    /// The schedule.
    #[serde(flatten)]
    pub schedule: Schedule,
    /// The spec that it submits.
    pub spec: String,
    /// The next five due times, before jitter, as if it were not paused.
    pub upcoming: Vec<DateTime<Utc>>,
}

/// All schedules, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleList {
    /// The schedules.
    pub schedules: Vec<Schedule>,
}
