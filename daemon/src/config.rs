//! Settings of the daemon: `config/dpg.toml` documents every one with its default.
//!
//! A file gives what differs from the defaults; environment variables override the file, and flags
//! override both. A key that is not known is an error.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// The daemon's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Address of the HTTP API.
    pub(crate) listen: SocketAddr,
    /// Allow an address that others can reach although there is no `[tls]`.
    pub(crate) insecure: bool,
    /// Address under which clients reach this daemon, for links; `listen` if empty.
    pub(crate) public_url: String,
    /// `sqlite:PATH` or `postgres://...`; a file in the data folder if empty.
    pub(crate) database: String,
    /// A folder or `s3://bucket/prefix`; a folder in the data folder if empty.
    pub(crate) store: String,
    /// Certificate and key of the API.
    pub(crate) tls: Option<Tls>,
    /// How jobs are worked on.
    pub(crate) worker: Worker,
    /// What specs may read.
    pub(crate) allow: Allow,
    /// Limits of the API.
    pub(crate) limits: Limits,
    /// What is kept.
    pub(crate) retention: Retention,
    /// Who is told when a job ends.
    pub(crate) webhooks: Vec<Webhook>,
}

/// Certificate and key of the API, PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    /// The certificate chain.
    pub(crate) certificate: PathBuf,
    /// The private key.
    pub(crate) key: PathBuf,
}

/// How jobs are worked on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Worker {
    /// Jobs at once; 0 makes a daemon that serves the API alone.
    pub(crate) slots: usize,
    /// Seconds after which another worker takes over a job whose worker has not been heard of.
    pub(crate) lease_seconds: u64,
    /// Seconds between two looks at an empty queue.
    pub(crate) poll_seconds: f64,
    /// Attempts before a job fails for good.
    pub(crate) max_attempts: u32,
    /// Seconds that running jobs have to reach a checkpoint at shutdown.
    pub(crate) shutdown_seconds: u64,
    /// Seconds between two copies of a run's state in the store, from which another machine resumes.
    pub(crate) checkpoint_seconds: u64,
}

/// What specs may read. Embedded models are always allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Allow {
    /// Folders.
    pub(crate) folders: Vec<PathBuf>,
    /// S3 buckets.
    pub(crate) buckets: Vec<String>,
    /// Hugging Face organisations or `org/name`; `*` is all.
    pub(crate) hugging_face: Vec<String>,
    /// Hosts that webhooks may call.
    pub(crate) webhook_hosts: Vec<String>,
}

/// Limits of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Largest request body in bytes.
    pub(crate) body_bytes: usize,
    /// Seconds a request may take, streams and downloads apart.
    pub(crate) request_seconds: u64,
    /// Requests of one token in a minute.
    pub(crate) requests_per_minute: u32,
}

/// What is kept; the rest is removed once a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Retention {
    /// Versions kept of a dataset, tagged ones and the latest apart; 0 keeps all.
    pub(crate) versions: usize,
}

/// A program that is told when a job ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Webhook {
    /// Where it is told.
    pub(crate) url: String,
    /// File with the secret that signs what is sent.
    pub(crate) secret_file: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7117)),
            insecure: false,
            public_url: String::new(),
            database: String::new(),
            store: String::new(),
            tls: None,
            worker: Worker::default(),
            allow: Allow::default(),
            limits: Limits::default(),
            retention: Retention::default(),
            webhooks: vec![],
        }
    }
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            slots: 1,
            lease_seconds: 60,
            poll_seconds: 1.0,
            max_attempts: 3,
            shutdown_seconds: 60,
            checkpoint_seconds: 30,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes: 1 << 20, request_seconds: 30, requests_per_minute: 600 }
    }
}

impl Config {
    /// The settings in `file`, or the defaults without one.
    pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(file) = file else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the settings in `{}`", file.display()))?;
        let config: Self =
            toml::from_str(&text).with_context(|| format!("`{}` is not a settings file", file.display()))?;
        config.check().with_context(|| format!("`{}`", file.display()))?;
        Ok(config)
    }

    /// Refuses settings that cannot work or are not safe.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if !self.listen.ip().is_loopback() && self.tls.is_none() && !self.insecure {
            bail!(
                "`listen = \"{}\"` can be reached from other machines and tokens would travel in the clear; \
                 give a certificate in [tls], or say `insecure = true` if something in front of it does TLS",
                self.listen
            );
        }
        if self.worker.lease_seconds < 2 {
            bail!("`worker.lease_seconds` is {}, expected at least 2", self.worker.lease_seconds);
        }
        if self.worker.max_attempts == 0 {
            bail!("`worker.max_attempts` is 0, expected at least 1");
        }
        Ok(())
    }
}
