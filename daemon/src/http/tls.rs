//! TLS 1.2 and 1.3, with the certificate of the settings.

use std::sync::Arc;

use anyhow::Context;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::settings::config::Tls;

/// What shakes hands with clients.
pub(crate) fn acceptor(tls: &Tls) -> anyhow::Result<TlsAcceptor> {
    Ok(TlsAcceptor::from(Arc::new(server(tls)?)))
}

fn server(tls: &Tls) -> anyhow::Result<ServerConfig> {
    let unreadable = |path: &std::path::Path| format!("cannot read `{}` as PEM", path.display());
    let chain = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| unreadable(&tls.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).with_context(|| unreadable(&tls.key))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the certificate and key of [tls] do not belong together")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
