//! Tokens: who may call, and for what.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::Scope;

/// A token to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// Unique among the tokens that are not revoked.
    pub name: String,
    /// What it allows: `read`, `submit`, `admin`. `admin` allows all.
    #[schema(value_type = Vec<String>)]
    pub scopes: Vec<Scope>,
    /// When it ends by itself; never if absent.
    #[serde(default)]
    pub expires: Option<DateTime<Utc>>,
    /// Names of datasets that it is for, or prefixes that end with `*`; all if empty.
    #[serde(default)]
    pub datasets: Vec<String>,
    /// Bounds on its jobs.
    #[serde(default)]
    pub quota: Quota,
}

/// Bounds on what a token's jobs take; none if absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Jobs that wait at once.
    pub queued: Option<u32>,
    /// Jobs that run at once; more wait.
    pub running: Option<u32>,
    /// Minutes that its jobs ran in the last 24 hours; when they are used up its jobs wait.
    pub minutes: Option<u32>,
}

/// What is known of a token; not its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What it allows.
    #[schema(value_type = Vec<String>)]
    pub scopes: Vec<Scope>,
    /// Names of datasets that it is for, or prefixes that end with `*`; all if empty.
    #[serde(default)]
    pub datasets: Vec<String>,
    /// Bounds on its jobs.
    #[serde(default)]
    pub quota: Quota,
    /// When it ends by itself.
    pub expires: Option<DateTime<Utc>>,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// When it was revoked, if it was.
    pub revoked: Option<DateTime<Utc>>,
}

/// A new token with its secret, which is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// The token.
    pub token: Token,
    /// What goes into `Authorization: Bearer`. It is stored nowhere.
    pub secret: String,
}

/// All tokens, oldest first, with the expired and the revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// The tokens.
    pub tokens: Vec<Token>,
}
