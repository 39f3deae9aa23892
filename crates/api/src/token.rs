//! Tokens: who may call, and for what.

use chrono::{DateTime, Utc};
use dpg_queue::Scope;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

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

impl From<dpg_queue::Token> for Token {
    fn from(token: dpg_queue::Token) -> Self {
        Self {
            id: token.id,
            name: token.name,
            scopes: token.scopes,
            expires: token.expires,
            created: token.created,
            revoked: token.revoked,
        }
    }
}
