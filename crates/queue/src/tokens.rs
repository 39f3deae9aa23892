//! API tokens: who may call the daemon, and for what. Secrets are never stored, only their hashes.
//!
//! A secret is `dpg_ID_RANDOM`: the row is found by the id, which is not secret, and the hash of the
//! whole is compared in constant time, so nothing can be learned from how long an answer takes.

use std::fmt;
use std::hint::black_box;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::any::AnyRow;
use uuid::Uuid;

use crate::{Error, Queue, Quota, Scope, optional_time, parsed, time};

/// A token to be made.
#[derive(Clone, Debug, Default)]
pub struct NewToken {
    /// Unique among the tokens that are not revoked.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// When it ends by itself.
    pub expires: Option<DateTime<Utc>>,
    /// Names of datasets that it is for, or prefixes that end with `*`; all if empty.
    pub datasets: Vec<String>,
    /// Bounds on its jobs.
    pub quota: Quota,
}

/// What is known of a token; not its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Token {
    pub id: Uuid,
    pub name: String,
    pub scopes: Vec<Scope>,
    pub datasets: Vec<String>,
    pub quota: Quota,
    pub expires: Option<DateTime<Utc>>,
    pub created: DateTime<Utc>,
    pub revoked: Option<DateTime<Utc>>,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such token was ever made here, or its secret is another.
    Unknown,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        })
    }
}

impl Token {
    /// Why the token is refused at a time, if it is.
    pub fn refusal(&self, now: DateTime<Utc>) -> Option<Refusal> {
        match (self.revoked, self.expires) {
            (Some(_), _) => Some(Refusal::Revoked),
            (None, Some(expires)) if expires <= now => Some(Refusal::Expired),
            _ => None,
        }
    }

    /// Whether it allows `scope`; `admin` allows all.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|own| [scope, Scope::Admin].contains(own))
    }

    /// Whether it is for all datasets.
    pub fn is_for_all(&self) -> bool {
        self.datasets.is_empty()
    }

    /// Whether it is for this dataset.
    pub fn is_for(&self, dataset: &str) -> bool {
        let matches = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => dataset.starts_with(prefix),
            None => dataset == pattern,
        };
        self.is_for_all() || self.datasets.iter().any(matches)
    }

    pub(crate) fn read(row: &AnyRow) -> Result<Self, Error> {
        let bound = |column| Ok::<_, Error>(row.try_get::<Option<i64>, _>(column)?.map(|most| most as u32));
        let datasets: String = row.try_get("datasets")?;
        let scopes: String = row.try_get("scopes")?;
        let words = scopes.split(',').filter(|scope| !scope.is_empty()).map(str::parse);
        let unreadable = |_| Error::Stored { column: "scopes", value: scopes.clone() };
        Ok(Self {
            id: parsed(row, "id")?,
            name: row.try_get("name")?,
            scopes: words.collect::<Result<_, _>>().map_err(unreadable)?,
            datasets: datasets.lines().map(str::to_owned).collect(),
            quota: Quota {
                queued: bound("most_queued")?,
                running: bound("most_running")?,
                minutes: bound("most_minutes")?,
            },
            expires: optional_time(row, "expires")?,
            created: time(row, "created")?,
            revoked: optional_time(row, "revoked")?,
        })
    }
}

impl Queue {
    /// Makes a token. The secret given back is shown this once and kept nowhere.
    ///
    /// # Errors
    /// One that is not revoked has the name; the database fails.
    pub async fn create_token(&self, new: &NewToken) -> Result<(Token, String), Error> {
        let id = Uuid::now_v7();
        // Two random UUIDs: 244 bits of the system's generator, so the hash needs no salt.
        let secret = format!("dpg_{}_{}{}", id.simple(), Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let scopes: Vec<_> = new.scopes.iter().map(|scope| scope.as_str()).collect();
        let query = sqlx::query(self.dialect.sql(INSERT))
            .bind(id.to_string())
            .bind(new.name.clone())
            .bind(hex::encode(Sha256::digest(&secret)))
            .bind(scopes.join(","))
            .bind(new.expires.map(|time| time.timestamp_millis()))
            .bind(new.datasets.join("\n"))
            .bind(new.quota.queued.map(i64::from))
            .bind(new.quota.running.map(i64::from))
            .bind(new.quota.minutes.map(i64::from));
        let rows = query.fetch_all(&self.pool).await?;
        let row = rows.first().ok_or_else(|| Error::TokenNameTaken { name: new.name.clone() })?;
        Ok((Token::read(row)?, secret))
    }

    /// All tokens, oldest first, with the expired and the revoked.
    ///
    /// # Errors
    /// The database fails.
    pub async fn tokens(&self) -> Result<Vec<Token>, Error> {
        let rows = sqlx::query("select * from tokens order by id").fetch_all(&self.pool).await?;
        rows.iter().map(Token::read).collect()
    }

    /// The token with this secret, if it is good now.
    ///
    /// # Errors
    /// It is unknown, expired or revoked; the database fails.
    pub async fn authenticate(&self, secret: &str) -> Result<Token, Error> {
        let refused = |reason| Error::TokenRefused { reason };
        let id = secret.strip_prefix("dpg_").and_then(|rest| rest.split_once('_'));
        let id = id.and_then(|(id, _)| Uuid::try_parse(id).ok()).ok_or(refused(Refusal::Unknown))?;
        let query = sqlx::query(self.dialect.sql(BY_ID)).bind(id.to_string());
        let row = query.fetch_optional(&self.pool).await?.ok_or(refused(Refusal::Unknown))?;
        let hash: String = row.try_get("hash")?;
        if !same(hash.as_bytes(), hex::encode(Sha256::digest(secret)).as_bytes()) {
            return Err(refused(Refusal::Unknown));
        }
        let token = Token::read(&row)?;
        match token.refusal(time(&row, "clock")?) {
            Some(reason) => Err(refused(reason)),
            None => Ok(token),
        }
    }

    /// Whether the token with this id is good now.
    ///
    /// # Errors
    /// It is unknown, expired or revoked; the database fails.
    pub async fn check_token(&self, id: Uuid) -> Result<Token, Error> {
        let refused = |reason| Error::TokenRefused { reason };
        let query = sqlx::query(self.dialect.sql(BY_ID)).bind(id.to_string());
        let row = query.fetch_optional(&self.pool).await?.ok_or(refused(Refusal::Unknown))?;
        let token = Token::read(&row)?;
        match token.refusal(time(&row, "clock")?) {
            Some(reason) => Err(refused(reason)),
            None => Ok(token),
        }
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

/// Whether two texts are the same; takes as long for any two of one length.
fn same(left: &[u8], right: &[u8]) -> bool {
    let difference = left.iter().zip(right).fold(0, |bits, (left, right)| black_box(bits | (left ^ right)));
    left.len() == right.len() && difference == 0
}

const BY_ID: &str = "select *, {now} as clock from tokens where id = $1";

const INSERT: &str = "insert into tokens (id, name, hash, scopes, expires, datasets, most_queued, most_running, \
     most_minutes, created) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, {now}) on conflict (name) where revoked is null do nothing returning *";

const REVOKE: &str = "update tokens set revoked = coalesce(revoked, {now}) \
     where id = $1 or (name = $1 and revoked is null) returning *";
