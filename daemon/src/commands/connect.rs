//! Finding the daemon, or being it: the commands speak HTTP either way.
//!
//! The daemon is at `--url` (`DPG_URL`); else where the one answers that has the data folder. If none has
//! it, this process serves the data folder's queue to itself on a loopback port: one code path, with or
//! without a daemon.
//!
//! A daemon that was not named by the user proves first that it serves the data folder, for whoever takes
//! the port of one that was killed would get its token.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use dpg_api::{Client, is_loopback};
use tokio::net::TcpListener;

use crate::http;
use crate::http::proof::stored_secret;
use crate::http::tokens::{ensure_admin, stored_admin};
use crate::services::Services;
use crate::settings::config::{Allow, Config, Limits};
use crate::settings::data_dir::DataDir;
use crate::settings::resident::Resident;
use crate::terminal::console::note;
use crate::terminal::told::told;

/// How long the folder's daemon may take to answer, for instance while it starts.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where the commands look for a daemon.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// `--url`.
    pub(crate) url: Option<String>,
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
    /// Where the token comes from.
    token_of: String,
}

impl Connection {
    /// Finds the daemon, or serves the data folder.
    pub(crate) async fn open(data: DataDir, place: &Place) -> anyhow::Result<Self> {
        let token_of = match token() {
            Some(_) => "DPG_TOKEN".into(),
            None => format!(
                "`{}`, which the daemon makes anew when it starts",
                data.path("admin.token").display()
            ),
        };
        if let Some(client) = place.client(&data)? {
            return Ok(Self { client, embedded: None, token_of });
        }
        if let Some(client) = Self::resident(&data).await? {
            return Ok(Self { client, embedded: None, token_of });
        }
        Self::embed(data, token_of).await
    }

    /// The daemon that has the data folder, if one has. It may need a moment to answer.
    async fn resident(data: &DataDir) -> anyhow::Result<Option<Client>> {
        let started = Instant::now();
        loop {
            let Resident::Running(record) = Resident::of(data) else { return Ok(None) };
            if let Some(url) = record.as_ref().and_then(|record| record.url.as_ref()) {
                let token = token().or_else(|| stored_admin(data));
                let mut client = Client::new(url, token.as_deref())?;
                if let Some(secret) = stored_secret(data) {
                    client = client.proven_by(secret);
                    match client.prove().await {
                        Ok(()) => return Ok(Some(client)),
                        Err(error @ dpg_api::Error::Unproven { .. }) => return Err(error.into()),
                        Err(_) => {}
                    }
                }
            }
            if started.elapsed() > PATIENCE {
                let who = record.map_or_else(String::new, |record| {
                    let at = record.url.unwrap_or_else(|| "no address yet".into());
                    format!(" (pid {}, `{at}`)", record.pid)
                });
                bail!(
                    "the daemon of `{}`{who} does not answer; if it has just been started, repeat in a moment, else look \
                     at its log or stop it",
                    data.root().display()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// An error of a call, and where its token comes from if the daemon does not know that.
    pub(crate) fn explained(token_of: &str, error: anyhow::Error) -> anyhow::Error {
        match error.downcast_ref() {
            Some(dpg_api::Error::Refused(problem)) if problem.detail.starts_with("the token is") => {
                error.context(format!("the token is that of {token_of}"))
            }
            _ => error,
        }
    }

    /// Where its token comes from.
    pub(crate) fn token_of(&self) -> &str {
        &self.token_of
    }

    async fn embed(data: DataDir, token_of: String) -> anyhow::Result<Self> {
        let mut config = Config::in_force(&data)?;
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
                note(format_args!("error: cannot serve the data folder to this process: {}", told(&error)));
            }
        });
        Ok(Self { client, embedded: Some(services), token_of })
    }
}
