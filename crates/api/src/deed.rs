//! Who did what.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A call that changed something or tried to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deed {
    /// Its id; ids sort by time.
    pub id: Uuid,
    /// The time of the call, by the queue's clock.
    pub at: DateTime<Utc>,
    /// Id of the token.
    pub token: Uuid,
    /// The token's name.
    pub name: String,
    /// The method and the route.
    pub action: String,
    /// What was acted on: the address, and the name of the dataset of a submitted spec.
    pub object: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// Where the call came from.
    pub address: String,
}

/// Deeds, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeedPage {
    /// The deeds.
    pub deeds: Vec<Deed>,
    /// The `before` of the next page, if there may be more.
    pub next: Option<Uuid>,
}
