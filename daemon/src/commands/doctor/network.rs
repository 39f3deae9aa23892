//! What others reach: the address, the certificate, webhooks.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;

use anyhow::Context;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::check::Check;
use crate::settings::config::{Config, Tls, Webhook};

/// The address is free, or a daemon is there already.
pub(super) fn listen(config: &Config) -> Check {
    let address = config.listen;
    match TcpListener::bind(address) {
        Ok(_) => Check::ok("listen", format!("`{address}` is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let remedy = "fine if that is the daemon; else choose another `listen`";
            Check::warning("listen", format!("`{address}` is in use"), remedy)
        }
        Err(error) => Check::failed("listen", format!("`{address}`: {error}"), "choose another `listen`"),
    }
}

/// Certificate and key can be read and belong together.
pub(super) fn certificate(tls: &Tls) -> anyhow::Result<String> {
    let unreadable = |file: &Path| format!("cannot read `{}`", file.display());
    let chain = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| unreadable(&tls.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).with_context(|| unreadable(&tls.key))?;
    let count = chain.len();
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("certificate and key do not make a server")?;
    Ok(format!("{count} certificate(s) in `{}` with their key", tls.certificate.display()))
}

/// Hooks can be signed, and their hosts are allowed.
pub(super) fn webhooks(config: &Config) -> Vec<Check> {
    let check = |hook: &Webhook| {
        let host = reqwest::Url::parse(&hook.url).ok().and_then(|url| url.host_str().map(str::to_owned));
        let file = hook.secret_file.display();
        match host {
            None => {
                Check::failed("webhook", format!("`{}` is not a URL", hook.url), "correct `webhooks.url`")
            }
            Some(host) if !config.allow.webhook_hosts.contains(&host) => {
                let detail = format!("`{host}` is not in allow.webhook_hosts");
                Check::failed("webhook", detail, "add it there, or no job's end is told")
            }
            Some(host) => match fs::read_to_string(&hook.secret_file) {
                Ok(secret) if !secret.trim().is_empty() => {
                    Check::ok("webhook", format!("`{host}`, signed with `{file}`"))
                }
                Ok(_) => Check::failed("webhook", format!("`{file}` is empty"), "write a secret to it"),
                Err(error) => {
                    Check::failed("webhook", format!("`{file}`: {error}"), "correct `webhooks.secret_file`")
                }
            },
        }
    };
    config.webhooks.iter().map(check).collect()
}
