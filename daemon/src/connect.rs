//! Finding the daemon, or being it: the commands speak HTTP either way.
//!
//! The daemon is at `--url` (`DPG_URL`); else where the one answers that has the data folder; else, if
//! none has it and no data folder was named, at the usual address. If there is none, this process serves
//! the data folder's queue to itself on a loopback port: one code path, with or without a daemon.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use dpg_api::Client;
use tokio::net::TcpListener;

use crate::config::{Allow, Limits};
use crate::console::note;
use crate::data_dir::DataDir;
use crate::http;
use crate::http::tokens::{ensure_admin, stored_admin};
use crate::resident::Resident;
use crate::services::{Services, settings};

const USUAL: &str = "http://127.0.0.1:7117";
/// How long the folder's daemon may take to answer, for instance while it starts.
const PATIENCE: Duration = Duration::from_secs(15);

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
        if !place.named_folder {
            // another folder's daemon: this folder's token is not for it
            let client = Client::new(USUAL, token().as_deref())?;
            if client.is_alive().await {
                return Ok(Self { client, embedded: None, token_of });
            }
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
                let client = Client::new(url, token.as_deref())?;
                if client.is_alive().await {
                    return Ok(Some(client));
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
        let mut config = settings(&data)?;
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
                note(format_args!("error: cannot serve the data folder to this process: {error:#}"));
            }
        });
        Ok(Self { client, embedded: Some(services), token_of })
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
