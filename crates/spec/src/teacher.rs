//! What a teacher's name stands for: settings of the machine's operator, which no spec can say.
//!
//! A spec names a teacher and nothing else of it. Were the address, or the variable that the key is in, a spec's to
//! choose, whoever may submit one could have any secret of the daemon's environment sent to any place.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Budget;

/// An OpenAI-compatible server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Teacher {
    /// Its address up to `/chat/completions`: `https://api.example.com/v1`.
    pub base_url: String,
    /// The environment variable that has its key; a server that asks for none has none.
    pub api_key_env: Option<String>,
    /// Its host may have an address on this machine or in its network.
    #[serde(default)]
    pub inside: bool,
    /// It knows `max_tokens` and not `max_completion_tokens`, as older servers.
    #[serde(default)]
    pub max_tokens: bool,
    /// Requests are handed in as batch files (`/v1/batches`), which cost less at some servers, and may take a day.
    #[serde(default)]
    pub batches: bool,
    /// Requests under way at once.
    #[serde(default = "Teacher::default_concurrency")]
    pub concurrency: usize,
    /// Requests begun in a minute; 0 for no bound.
    #[serde(default)]
    pub requests_per_minute: u32,
    /// Seconds that an answer may take.
    #[serde(default = "Teacher::default_timeout_seconds")]
    pub timeout_seconds: u64,
    /// What one run may spend at most, whatever its spec says.
    #[serde(default, skip_serializing_if = "Budget::is_unbounded")]
    pub budget: Budget,
    /// What its models cost, by their ids. Of a model that is not here no price is known, and none is guessed.
    #[serde(default)]
    pub prices: BTreeMap<String, Price>,
}

/// What a model costs, for a million tokens each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Tokens of prompts.
    pub prompt: f64,
    /// Those of them that the server had read before; as `prompt` if it is not given.
    pub cached_prompt: Option<f64>,
    /// Tokens of answers, reasoning included.
    pub completion: f64,
}

impl Price {
    /// What so many tokens cost: those of prompts that the server had not read before, those that it had, and those of
    /// answers.
    pub fn of(&self, fresh: f64, cached: f64, completion: f64) -> f64 {
        const MILLION: f64 = 1e6;
        let cached = cached * self.cached_prompt.unwrap_or(self.prompt);
        (fresh * self.prompt + cached + completion * self.completion) / MILLION
    }
}

impl Teacher {
    fn default_concurrency() -> usize {
        8
    }

    fn default_timeout_seconds() -> u64 {
        300
    }
}

/// A teacher and where a run keeps what it answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// The server.
    pub teacher: Teacher,
    /// The folder of the answers; they are kept in memory alone if there is none.
    pub answers: Option<PathBuf>,
}
