//! The HTTP API.

mod hub;

use std::future::Future;

use axum::{Router, routing::get};
use tokio::net::TcpListener;

use crate::services::Services;

/// All routes.
pub(crate) fn router(services: Services) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .merge(hub::router(services.clone()))
        .with_state(services)
}

/// Answers requests until `shutdown` is ready and the answers in progress have ended.
pub(crate) async fn serve(
    services: Services,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    Ok(axum::serve(listener, router(services)).with_graceful_shutdown(shutdown).await?)
}
