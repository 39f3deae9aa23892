//! Webhooks' calls.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::DeliveryState;

/// A webhook's call about a job's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// Its id; ids sort by time.
    pub id: Uuid,
    /// The job that ended.
    pub job: Uuid,
    /// The number of the event that ended it. Job and event are the same in every attempt.
    pub event: i64,
    /// The host that is told. What else its address holds may be a secret.
    pub host: String,
    /// How far it is: `pending`, `delivered` or `given_up`.
    #[schema(value_type = String)]
    pub state: DeliveryState,
    /// Attempts made.
    pub attempts: u32,
    /// When the next attempt is due, if there will be one.
    pub due: Option<DateTime<Utc>>,
    /// The HTTP status of the last answer, if there was one.
    pub status: Option<u16>,
    /// Why the last attempt failed, if it did.
    pub error: Option<String>,
    /// When the job ended.
    pub created: DateTime<Utc>,
    /// When it was last tried.
    pub updated: DateTime<Utc>,
}

/// Deliveries, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryPage {
    /// The deliveries.
    pub deliveries: Vec<Delivery>,
    /// The `before` of the next page, if there may be more.
    pub next: Option<Uuid>,
}
