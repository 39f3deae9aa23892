//! Finding the daemon, or being it: the commands speak HTTP either way.
//!
//! The daemon is at `--url` (`DPG_URL`); else where the data folder says that its daemon runs; else,
//! if no data folder was named, at the usual address. If none answers, this process serves the data
//! folder's queue to itself on a loopback port: one code path, with or without a daemon.
//!
//! A daemon that was not named by the user proves first that it serves the data folder, for whoever
//! takes the port of one that was killed would get its token.

use anyhow::Context;
use dpg_api::{Client, is_loopback};
use tokio::net::TcpListener;

use crate::config::{Allow, Config, Limits};
use crate::data_dir::DataDir;
use crate::http;
use crate::http::proof::stored_secret;
use crate::http::tokens::{ensure_admin, stored_admin};
use crate::services::{Services, default_config};
use crate::terminal;

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
    /// A client of the daemon at `--url`, if that was given. The data folder's token goes to a daemon on
    /// this machine that proves to serve the folder; `DPG_TOKEN` to where the user says.
    pub(crate) fn client(&self, data: &DataDir) -> Result<Option<Client>, dpg_api::Error> {
        let Some(url) = &self.url else { return Ok(None) };
        if let Some(token) = token() {
            return Client::new(url, Some(&token)).map(Some);
        }
        let client = Client::new(url, None)?;
        match (stored_admin(data), stored_secret(data)) {
            (Some(token), Some(secret)) if is_loopback(client.url()) => {
                Ok(Some(Client::new(url, Some(&token))?.proven_by(secret)))
            }
            _ => Ok(Some(client)),
        }
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
        let noted = std::fs::read_to_string(data.path("daemon.url")).ok();
        let usual = (!place.named_folder).then(|| USUAL.to_owned());
        // without the folder's secret nobody can be told from its daemon
        if let Some(secret) = stored_secret(&data) {
            let token = token().or_else(|| stored_admin(&data));
            for url in noted.into_iter().chain(usual) {
                let client = Client::new(url.trim(), token.as_deref())?.proven_by(secret.clone());
                match client.prove().await {
                    Ok(()) => return Ok(Self { client, embedded: None }),
                    Err(error @ dpg_api::Error::Unproven { .. }) => {
                        eprintln!("warning: {}", terminal::line(&error.to_string()))
                    }
                    Err(_) => {}
                }
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
        let served = http::answer(services.clone(), listener, None, std::future::pending());
        tokio::spawn(async {
            if let Err(error) = served.await {
                eprintln!("error: cannot serve the data folder to this process: {error:#}");
            }
        });
        Ok(Self { client, embedded: Some(services) })
    }
}
