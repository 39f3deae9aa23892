//! Tells the configured programs when a job has ended: a signed POST to an allowed host, retried.
//!
//! The body is JSON. `X-Dpg-Signature: sha256=HEX` is the HMAC-SHA256 of its bytes under the secret,
//! and `X-Dpg-Delivery` is the same in every retry, so that a receiver can tell repeats. A program that
//! is down for longer than the retries last is not told; the queue's API has what it missed.

use std::time::Duration;

use anyhow::{Context, bail};
use backon::{ExponentialBuilder, Retryable};
use dpg_queue::Job;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, Url, redirect};
use serde_json::json;
use sha2::Sha256;
use tracing::{info, warn};

use crate::settings::config::{Config, Webhook};

/// Refuses webhooks that could not be called.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    for webhook in &config.webhooks {
        address(webhook, config)?;
        secret(webhook)?;
    }
    Ok(())
}

/// Tells every webhook of a job that has ended; does not wait for the answers.
pub(crate) fn tell(config: &Config, job: &Job) {
    for webhook in &config.webhooks {
        let call = address(webhook, config).and_then(|url| Ok((url, secret(webhook)?)));
        let (url, secret) = match call {
            Ok(call) => call,
            Err(error) => {
                warn!(job = %job.id, "cannot call a webhook: {error:#}");
                continue;
            }
        };
        let (body, id) = (body(job), job.id);
        let delivery = format!("{id}-{}", job.last_event);
        tokio::spawn(async move {
            match deliver(&url, &secret, &body, &delivery).await {
                Ok(()) => info!(job = %id, host = url.host_str(), "told a webhook"),
                Err(error) => warn!(job = %id, host = url.host_str(), "a webhook was not told: {error:#}"),
            }
        });
    }
}

fn address(webhook: &Webhook, config: &Config) -> anyhow::Result<Url> {
    let url = Url::parse(&webhook.url).with_context(|| format!("webhook `{}` is no URL", webhook.url))?;
    let host = url.host_str().unwrap_or_default();
    if !matches!(url.scheme(), "http" | "https") || host.is_empty() {
        bail!("webhook `{}` is no `http://` or `https://` URL", webhook.url);
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

fn body(job: &Job) -> String {
    let job_json = json!({
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "attempts": job.attempts,
        "result": job.result,
        "error": job.error,
        "schedule": job.schedule,
        "created": job.created,
        "finished": job.finished,
    });
    json!({ "event": format!("job.{}", job.state), "job": job_json }).to_string()
}

fn signature(secret: &str, body: &str) -> String {
    let mut hmac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    hmac.update(body.as_bytes());
    format!("sha256={}", hex::encode(hmac.finalize().into_bytes()))
}

async fn deliver(url: &Url, secret: &str, body: &str, delivery: &str) -> reqwest::Result<()> {
    // an allowed host must not pass the call on to another
    let client =
        Client::builder().redirect(redirect::Policy::none()).timeout(Duration::from_secs(10)).build()?;
    let post = async || {
        let request = client
            .post(url.clone())
            .header("content-type", "application/json")
            .header("x-dpg-signature", signature(secret, body))
            .header("x-dpg-delivery", delivery)
            .body(body.to_owned());
        request.send().await?.error_for_status().map(drop)
    };
    let retries = ExponentialBuilder::default().with_jitter().with_max_times(6);
    let later =
        |error: &reqwest::Error| error.status().is_none_or(|s| s.is_server_error() || s.as_u16() == 429);
    post.retry(retries).when(later).await.map_err(reqwest::Error::without_url)
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
