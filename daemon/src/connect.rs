//! Finding the daemon, or being it: the commands speak HTTP either way.
//!
//! The daemon is at `--url` (`DPG_URL`); else where the data folder says that its daemon runs; else,
//! if no data folder was named, at the usual address. If none answers, this process serves the data
//! folder's queue to itself on a loopback port: one code path, with or without a daemon.

use std::net::IpAddr;

use anyhow::Context;
use dpg_api::Client;
use tokio::net::TcpListener;

use crate::config::{Allow, Config, Limits};
use crate::data_dir::DataDir;
use crate::http;
use crate::http::tokens::{ensure_admin, stored_admin};
use crate::services::{Services, default_config};

const USUAL: &str = "http://127.0.0.1:7117";

/// Where the commands look for a daemon.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// `--url`.
    pub(crate) url: Option<String>,
    /// Whether a data folder was named.
    pub(crate) named_folder: bool,
}

impl Place {
    /// A client of the daemon at `--url`, if that was given.
    pub(crate) fn client(&self, data: &DataDir) -> Result<Option<Client>, dpg_api::Error> {
        let Some(url) = &self.url else { return Ok(None) };
        let token = token().or_else(|| stored_admin(data).filter(|_| is_loopback(url)));
        Client::new(url, token.as_deref()).map(Some)
    }
}

fn token() -> Option<String> {
    std::env::var("DPG_TOKEN").ok().filter(|token| !token.is_empty())
}

/// A daemon to talk to.
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// The data folder's services, if this process serves them to itself.
    pub(crate) embedded: Option<Services>,
}

impl Connection {
    /// Finds the daemon, or serves the data folder.
    pub(crate) async fn open(data: DataDir, place: &Place) -> anyhow::Result<Self> {
        if let Some(client) = place.client(&data)? {
            return Ok(Self { client, embedded: None });
        }
        let token = token();
        let noted = std::fs::read_to_string(data.path("daemon.url")).ok();
        let usual = (!place.named_folder).then(|| USUAL.to_owned());
        for url in noted.into_iter().chain(usual) {
            let token = token.clone().or_else(|| stored_admin(&data));
            let client = Client::new(url.trim(), token.as_deref())?;
            if client.is_alive().await {
                return Ok(Self { client, embedded: None });
            }
        }
        Self::embed(data).await
    }

    async fn embed(data: DataDir) -> anyhow::Result<Self> {
        let mut config = Config::load(default_config(&data).as_deref())?;
        // whoever runs this may read what the process may read
        config.allow = Allow {
            folders: vec!["/".into()],
            buckets: vec!["*".into()],
            hugging_face: vec!["*".into()],
            ..config.allow
        };
        config.limits = Limits { requests_per_minute: u32::MAX, ..config.limits };
        config.tls = None;
        config.worker.slots = config.worker.slots.max(1);
        let services = Services::open(config, data).await?;
        let token = ensure_admin(&services).await?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("cannot listen on loopback")?;
        let client = Client::new(&format!("http://{}", listener.local_addr()?), Some(&token))?;
        let served = http::answer(services.clone(), listener, std::future::pending());
        tokio::spawn(async {
            if let Err(error) = served.await {
                eprintln!("error: cannot serve the data folder to this process: {error:#}");
            }
        });
        Ok(Self { client, embedded: Some(services) })
    }
}

/// Whether an address leads to this machine, so that the data folder's token may be sent there.
fn is_loopback(url: &str) -> bool {
    let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn the_stored_token_stays_on_this_machine() {
        for url in ["http://127.0.0.1:7117", "http://localhost", "https://[::1]:1/x", "http://127.9.9.9"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["http://10.0.0.1", "http://127.0.0.1.example.org", "http://localhost@example.org", "x"] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
