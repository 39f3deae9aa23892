//! API tokens: who may call the daemon, and for what. Secrets are never stored, only their hashes.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::Row;
use sqlx::any::AnyRow;
use uuid::Uuid;

use crate::text_enum::text_enum;
use crate::{Error, Queue, optional_time, parsed, time};

text_enum! {
    /// What a token allows.
    Scope("a scope") {
        /// Looking at jobs and datasets.
        Read = "read",
        /// Submitting, cancelling and retrying jobs.
        Submit = "submit",
        /// Everything, with schedules' and tokens' management.
        Admin = "admin",
    }
}

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Unique among the tokens that are not revoked.
    pub name: String,
    /// SHA-256 of the secret, which has to be random and long: the hash has no salt.
    pub hash: [u8; 32],
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// When it ends by itself.
    pub expires: Option<DateTime<Utc>>,
}

/// What is known of a token; not its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Token {
    pub id: Uuid,
    pub name: String,
    pub scopes: Vec<Scope>,
    pub expires: Option<DateTime<Utc>>,
    pub created: DateTime<Utc>,
    pub revoked: Option<DateTime<Utc>>,
}

/// Whether a token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Standing {
    Good,
    Expired,
    Revoked,
}

impl Token {
    /// Whether the token is good at a time.
    pub fn standing(&self, now: DateTime<Utc>) -> Standing {
        match (self.revoked, self.expires) {
            (Some(_), _) => Standing::Revoked,
            (None, Some(expires)) if expires <= now => Standing::Expired,
            _ => Standing::Good,
        }
    }

    /// Whether it allows `scope`; `admin` allows all.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|own| [scope, Scope::Admin].contains(own))
    }

    fn read(row: &AnyRow) -> Result<Self, Error> {
        let scopes: String = row.try_get("scopes")?;
        let scopes = scopes.split(',').filter(|scope| !scope.is_empty()).map(str::parse);
        Ok(Self {
            id: parsed(row, "id")?,
            name: row.try_get("name")?,
            scopes: scopes.collect::<Result<_, _>>()?,
            expires: optional_time(row, "expires")?,
            created: time(row, "created")?,
            revoked: optional_time(row, "revoked")?,
        })
    }
}

impl Queue {
    /// Makes a token.
    ///
    /// # Errors
    /// One that is not revoked has the name; the database fails.
    pub async fn create_token(&self, new: &NewToken) -> Result<Token, Error> {
        let scopes: Vec<_> = new.scopes.iter().map(|scope| scope.as_str()).collect();
        let query = sqlx::query(self.dialect.sql(INSERT))
            .bind(Uuid::now_v7().to_string())
            .bind(new.name.clone())
            .bind(hex::encode(new.hash))
            .bind(scopes.join(","))
            .bind(new.expires.map(|time| time.timestamp_millis()));
        let rows = query.fetch_all(&self.pool).await?;
        let row = rows.first().ok_or_else(|| Error::TokenNameTaken { name: new.name.clone() })?;
        Token::read(row)
    }

    /// All tokens, oldest first, with the expired and the revoked.
    ///
    /// # Errors
    /// The database fails.
    pub async fn tokens(&self) -> Result<Vec<Token>, Error> {
        let rows = sqlx::query("select * from tokens order by id").fetch_all(&self.pool).await?;
        rows.iter().map(Token::read).collect()
    }

    /// The token whose secret has this SHA-256, in whatever standing.
    ///
    /// The look-up's time tells at most about the hash, from which no secret can be found.
    ///
    /// # Errors
    /// The database fails.
    pub async fn token_by_hash(&self, hash: [u8; 32]) -> Result<Option<Token>, Error> {
        let query = sqlx::query("select * from tokens where hash = $1").bind(hex::encode(hash));
        query.fetch_optional(&self.pool).await?.as_ref().map(Token::read).transpose()
    }

    /// Revokes the token with this id, or the unrevoked one of this name; for good.
    ///
    /// # Errors
    /// There is none; the database fails.
    pub async fn revoke_token(&self, id_or_name: &str) -> Result<Token, Error> {
        let query = sqlx::query(self.dialect.sql(REVOKE)).bind(id_or_name.to_string());
        let rows = query.fetch_all(&self.pool).await?;
        let missing = || Error::NotFound { what: "token", id: id_or_name.into() };
        Token::read(rows.first().ok_or_else(missing)?)
    }
}

const INSERT: &str = "insert into tokens (id, name, hash, scopes, expires, created) \
     values ($1, $2, $3, $4, $5, {now}) on conflict (name) where revoked is null do nothing returning *";

const REVOKE: &str = "update tokens set revoked = coalesce(revoked, {now}) \
     where id = $1 or (name = $1 and revoked is null) returning *";
