//! Connections: how many there may be, of all and of one address, and how long one may take to shake
//! hands, to say what it wants, and to hear the answer.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::doorman::Peer;
use super::patience::Patient;
use super::slots::Slots;
use crate::settings::config::Limits;

/// A client that has not finished its handshake by then is let go.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A client that does not read for so long is let go.
const DEAF: Duration = Duration::from_mins(1);
/// Largest head of a request.
const HEAD_BYTES: usize = 64 << 10;

/// What a connection needs.
#[derive(Clone)]
struct Service {
    router: Router,
    tls: Option<TlsAcceptor>,
    head: Duration,
    stopping: watch::Receiver<bool>,
}

/// Serves until told to stop and the answers in progress have ended.
pub(crate) async fn serve(
    mut listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: &Limits,
    mut stopping: watch::Receiver<bool>,
) {
    let slots = Slots::<IpAddr>::new(limits.connections_per_address, limits.connections.max(1));
    let head = Duration::from_secs(limits.head_seconds.max(1));
    let service = Service { router, tls, head, stopping: stopping.clone() };
    let mut connections = JoinSet::new();
    loop {
        let (stream, address) = tokio::select! {
            accepted = axum::serve::Listener::accept(&mut listener) => accepted,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        // those that have ended
        while connections.try_join_next().is_some() {}
        let peer = Peer(address.ip());
        let Some(slot) = slots.take(peer.key()) else {
            metrics::counter!("dpg_connections_refused_total").increment(1);
            tracing::debug!(%address, "too many connections: hung up");
            continue;
        };
        let service = service.clone();
        connections.spawn(async move {
            let _slot = slot;
            service.greet(stream, address).await;
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

impl Service {
    async fn greet(self, stream: TcpStream, address: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.converse(stream, address).await };
        match timeout(HANDSHAKE, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.clone().converse(stream, address).await,
            Ok(Err(error)) => tracing::debug!(%address, %error, "a handshake failed"),
            Err(_) => tracing::debug!(%address, "a handshake took too long"),
        }
    }

    async fn converse(
        mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        address: SocketAddr,
    ) {
        let router = self.router;
        let answer = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(address.ip()));
            router.clone().oneshot(request.map(Body::new))
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.head).max_buf_size(HEAD_BYTES);
        let stream = TokioIo::new(Patient::new(stream, DEAF));
        let connection = http.serve_connection(stream, answer);
        tokio::pin!(connection);
        let stopped = async { drop(self.stopping.wait_for(|stop| *stop).await) };
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopped => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%address, %error, "a connection broke");
        }
    }
}
