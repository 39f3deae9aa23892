//! Flags and environment variables that override the settings file.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// Settings that override the file's.
#[derive(Debug, Args)]
pub(crate) struct Overrides {
    /// The settings [default: `dpg.toml` in the data folder, if it is there].
    #[arg(long, env = "DPG_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Address of the HTTP API.
    #[arg(long, env = "DPG_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,
    /// The queue: `sqlite:PATH` or `postgres://...`.
    #[arg(long, env = "DPG_DATABASE", hide_env_values = true)]
    pub(crate) database: Option<String>,
    /// Where datasets go: a folder or `s3://bucket/prefix`.
    #[arg(long, env = "DPG_STORE")]
    pub(crate) store: Option<String>,
    /// What jobs are computed on.
    #[arg(long, env = "DPG_DEVICE", help = format!("What jobs are computed on: {}", dpg_models::device::help()))]
    pub(crate) device: Option<String>,
}

impl Overrides {
    /// Those of a command without these flags: what the environment says of the file, the queue and the
    /// store.
    pub(crate) fn of_environment() -> Self {
        let named = |variable| std::env::var(variable).ok().filter(|value| !value.is_empty());
        Self {
            config: named("DPG_CONFIG").map(PathBuf::from),
            listen: None,
            database: named("DPG_DATABASE"),
            store: named("DPG_STORE"),
            device: None,
        }
    }
}
