//! Tells the configured programs when a job has ended: a signed POST to an allowed host.
//!
//! The transaction that ends a job, of a worker, of the API or of the next claim after a lost lease, writes into the
//! queue what is to be told, so a daemon that is killed tells it when it is back. It is tried again for three days, ever
//! less often, and then given up; `dpg deliveries` lists it all.
//!
//! The body is JSON. `X-Dpg-Signature: sha256=HEX` is the HMAC-SHA256 of its bytes under the secret, and
//! `X-Dpg-Delivery` is the same in every attempt: a receiver may hear of an end twice.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::TimeDelta;
use dpg_api::Delivery;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, StatusCode, Url, redirect};
use sha2::Sha256;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::services::Services;
use crate::settings::config::{Config, Webhook};

/// How long a call may take, and how long a delivery is left to whoever took it.
const TIMEOUT: Duration = Duration::from_secs(10);
const LEASE: Duration = Duration::from_secs(20);
/// Between two looks for what is due.
const LOOK: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_hours(1);
const GIVEN_UP_AFTER: TimeDelta = TimeDelta::days(3);

/// Refuses webhooks that could not be called.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    for webhook in &config.webhooks {
        address(webhook, config)?;
        secret(webhook)?;
    }
    Ok(())
}

/// Tells every webhook what it is to be told, each in its own time, until dropped.
pub(crate) async fn tell(services: Services) -> anyhow::Result<Infallible> {
    // an allowed host must not pass the call on to another
    let client = Client::builder().redirect(redirect::Policy::none()).timeout(TIMEOUT).build()?;
    let mut told = JoinSet::new();
    for webhook in services.config.webhooks.clone() {
        told.spawn(tell_one(services.clone(), client.clone(), webhook));
    }
    // one that panicked leaves the others alone
    while told.join_next().await.is_some() {}
    std::future::pending().await
}

async fn tell_one(services: Services, client: Client, webhook: Webhook) {
    loop {
        match services.queue.take_delivery(&webhook.url, LEASE).await {
            Ok(Some((delivery, body))) => {
                let answer = call(&services.config, &client, &webhook, &delivery, body).await;
                if let Err(error) = settle(&services, &delivery, answer).await {
                    // it is called once more when the lease has ended
                    warn!(job = %delivery.job, "cannot note a webhook's answer: {:#}", anyhow::Error::from(error));
                }
            }
            Ok(None) => sleep(LOOK).await,
            Err(error) => {
                warn!("cannot ask what webhooks are to be told: {:#}", anyhow::Error::from(error));
                sleep(LEASE).await;
            }
        }
    }
}

/// The status of the answer.
async fn call(
    config: &Config,
    client: &Client,
    webhook: &Webhook,
    delivery: &Delivery,
    body: String,
) -> anyhow::Result<StatusCode> {
    let (url, secret) = (address(webhook, config)?, secret(webhook)?);
    let request = client
        .post(url)
        .header("content-type", "application/json")
        .header("x-dpg-signature", signature(&secret, &body))
        .header("x-dpg-delivery", format!("{}-{}", delivery.job, delivery.event))
        .body(body);
    Ok(request.send().await.map_err(reqwest::Error::without_url)?.status())
}

async fn settle(
    services: &Services,
    delivery: &Delivery,
    answer: anyhow::Result<StatusCode>,
) -> Result<(), dpg_queue::Error> {
    let Delivery { id, job, host, attempts, .. } = delivery;
    let (status, error) = match answer {
        Ok(status) if status.is_success() => {
            info!(%job, host, "told a webhook");
            return services.queue.delivered(*id, status.as_u16()).await;
        }
        Ok(status) => (Some(status), format!("the answer was {status}")),
        Err(error) => (None, format!("{error:#}")),
    };
    let is_old = delivery.updated - delivery.created > GIVEN_UP_AFTER;
    let wait = (!is_old && status != Some(StatusCode::GONE)).then(|| wait(*attempts));
    warn!(%job, host, attempts, "a webhook was not told{}: {error}", if wait.is_none() { ", for good" } else { "" });
    services.queue.not_delivered(*id, status.map(|status| status.as_u16()), &error, wait).await
}

/// Two seconds, doubled with each attempt, at most an hour.
fn wait(attempts: u32) -> Duration {
    Duration::from_secs(1 << attempts.clamp(1, 16)).min(LONGEST_WAIT)
}

fn address(webhook: &Webhook, config: &Config) -> anyhow::Result<Url> {
    let url = Url::parse(&webhook.url).with_context(|| format!("webhook `{}` is not a URL", webhook.url))?;
    let host = url.host_str().unwrap_or_default();
    if !matches!(url.scheme(), "http" | "https") || host.is_empty() {
        bail!("webhook `{}` is not an `http://` or `https://` URL", webhook.url);
    }
    if !config.allow.webhook_hosts.iter().any(|allowed| allowed == host) {
        bail!("webhook `{}`: its host is not in `allow.webhook_hosts`; add `{host}`", webhook.url);
    }
    Ok(url)
}

fn secret(webhook: &Webhook) -> anyhow::Result<String> {
    let file = webhook.secret_file.display();
    let secret = std::fs::read_to_string(&webhook.secret_file)
        .with_context(|| format!("cannot read the secret of webhook `{}` in `{file}`", webhook.url))?;
    if secret.trim().is_empty() {
        bail!("the secret of webhook `{}` in `{file}` is empty", webhook.url);
    }
    Ok(secret.trim().to_owned())
}

fn signature(secret: &str, body: &str) -> String {
    let mut hmac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    hmac.update(body.as_bytes());
    format!("sha256={}", hex::encode(hmac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_what_receivers_compute() {
        // RFC 4231, test case 2
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", "what do ya want for nothing?"), expected);
    }

    #[test]
    fn only_allowed_hosts_are_called() {
        let webhook = |url: &str| Webhook { url: url.into(), secret_file: "secret".into() };
        let mut config = Config::default();
        config.allow.webhook_hosts = vec!["hooks.example.com".into()];
        assert!(address(&webhook("https://hooks.example.com/dpg"), &config).is_ok());
        for url in [
            "https://example.com/",
            "http://169.254.169.254/latest",
            "file:///etc/passwd",
            "https://hooks.example.com.evil.org/",
            "https://hooks.example.com@evil.org/",
            "hooks.example.com",
        ] {
            assert!(address(&webhook(url), &config).is_err(), "{url}");
        }
    }
}
