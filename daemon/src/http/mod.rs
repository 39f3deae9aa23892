//! The HTTP API: `/v1`, health, metrics. `guard.rs` stands around every handler; a handler's first
//! argument says which scope its caller needs.

mod auth;
mod datasets;
mod download;
mod extract;
mod guard;
mod hub;
mod jobs;
mod logs;
mod operations;
mod problem;
mod schedules;
mod tls;
pub(crate) mod tokens;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::get;
use backon::{ExponentialBuilder, Retryable};
use object_store::aws::AmazonS3Builder;
use object_store::signer::Signer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::services::Services;
use auth::Limiter;
use problem::Refusal;

/// At shutdown, answers in progress have this long to end.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Api {
    services: Services,
    limiter: Arc<Limiter>,
    /// Signs addresses of objects, if the store is S3.
    signer: Option<Arc<dyn Signer>>,
    /// Becomes true when the daemon goes down; streams end then.
    stopping: watch::Receiver<bool>,
}

impl Api {
    fn new(services: Services, stopping: watch::Receiver<bool>) -> anyhow::Result<Self> {
        let limiter = Arc::new(Limiter::new(services.config.limits.requests_per_minute));
        let signer = match services.config.store.strip_prefix("s3://") {
            Some(place) => {
                let bucket = place.split('/').next().unwrap_or(place);
                let store = AmazonS3Builder::from_env().with_bucket_name(bucket).build()?;
                Some(Arc::new(store) as Arc<dyn Signer>)
            }
            None => None,
        };
        Ok(Self { services, limiter, signer, stopping })
    }
}

/// All routes, with their description at `/v1/openapi.json`.
fn router(api: Api) -> Router {
    let body = api.services.config.limits.body_bytes;
    let (router, mut document) = OpenApiRouter::with_openapi(operations::Document::openapi())
        .merge(jobs::routes())
        .merge(schedules::routes())
        .merge(datasets::routes())
        .merge(tokens::routes())
        .merge(operations::routes())
        .split_for_parts();
    // axum's `{*path}` may hold slashes; OpenAPI has no sign for that
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    router
        .route("/v1/openapi.json", get(async move || axum::Json(document)))
        .merge(hub::router())
        .fallback(async || Refusal::of_status(StatusCode::NOT_FOUND))
        .method_not_allowed_fallback(async || Refusal::of_status(StatusCode::METHOD_NOT_ALLOWED))
        .layer(DefaultBodyLimit::max(body))
        .layer(middleware::from_fn_with_state(api.clone(), guard::guard))
        .with_state(api)
}

/// Answers requests until `shutdown` is ready and the answers in progress have ended. Makes the data
/// folder's admin token if it has none, and notes the daemon's address in it while it runs.
pub(crate) async fn serve(
    services: Services,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    // the database may be away for a moment
    let transient = |error: &anyhow::Error| {
        error.downcast_ref::<dpg_queue::Error>().is_some_and(dpg_queue::Error::is_transient)
    };
    let retries = ExponentialBuilder::default().with_max_times(8);
    (|| tokens::ensure_admin(&services)).retry(retries).when(transient).await?;
    let note = services.data.path(crate::resident::ADDRESS);
    std::fs::write(&note, url(&services, &listener)?)
        .with_context(|| format!("cannot write `{}`", note.display()))?;
    let served = answer(services, listener, shutdown).await;
    let _ = std::fs::remove_file(note);
    served
}

/// As [`serve`], leaving the data folder alone.
pub(crate) async fn answer(
    services: Services,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    // before the first request, which is counted
    let recorder = operations::recorder();
    let upkeep = tokio::spawn(async {
        loop {
            recorder.run_upkeep();
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
    });
    let (stop, stopping) = watch::channel(false);
    let tls = services.config.tls.clone();
    let mut stopped = stopping.clone();
    let router = router(Api::new(services, stopping)?);
    let shutdown = async move {
        shutdown.await;
        stop.send_replace(true);
    };
    let deadline = async move {
        // the sender is gone when the server has ended, which the other branch tells
        let _ = stopped.wait_for(|stop| *stop).await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    let server: futures::future::BoxFuture<'_, std::io::Result<()>> = match tls {
        None => Box::pin(axum::serve(listener, router).with_graceful_shutdown(shutdown).into_future()),
        Some(tls) => {
            let listener = tls::TlsListener::new(listener, &tls)?;
            Box::pin(axum::serve(listener, router).with_graceful_shutdown(shutdown).into_future())
        }
    };
    let served = tokio::select! { served = server => served, () = deadline => Ok(()) };
    upkeep.abort();
    Ok(served?)
}

/// The address under which this machine reaches the daemon.
pub(crate) fn url(services: &Services, listener: &TcpListener) -> anyhow::Result<String> {
    if !services.config.public_url.is_empty() {
        return Ok(services.config.public_url.clone());
    }
    let mut address = listener.local_addr()?;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let scheme = if services.config.tls.is_some() { "https" } else { "http" };
    Ok(format!("{scheme}://{address}"))
}
