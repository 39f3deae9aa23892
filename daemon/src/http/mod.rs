//! The HTTP API: `/v1`, health, metrics; and the page (`page.rs`), which uses it. `guard.rs` stands around every handler; a handler's first
//! argument says which scope its caller needs.

mod api;
mod audit;
mod auth;
mod call;
mod compare;
mod credential;
mod datasets;
mod deliveries;
mod doorman;
mod download;
mod evidence;
mod extract;
mod guard;
mod hub;
mod jobs;
mod known;
mod limiter;
mod listen;
mod logs;
mod operations;
mod overview;
mod page;
mod patience;
mod problem;
pub(crate) mod proof;
mod rows;
mod schedules;
mod series;
mod session;
mod slots;
mod specs;
mod stream;
pub(crate) mod telemetry;
mod tls;
pub(crate) mod tokens;
pub(crate) mod wire;

use std::future::Future;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::get;
use backon::{ExponentialBuilder, Retryable};
use tokio::net::TcpListener;
use tokio::sync::watch;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::services::Services;
use crate::settings::resident::ADDRESS;
use api::{Api, Prover};
use problem::Refusal;

/// At shutdown, answers in progress have this long to end.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// All routes, with their description at `/v1/openapi.json`.
fn router(api: Api) -> Router {
    let body = api.services.config.limits.body_bytes;
    let (router, mut document) = OpenApiRouter::with_openapi(operations::Document::openapi())
        .merge(overview::routes())
        .merge(jobs::routes())
        .merge(logs::routes())
        .merge(series::routes())
        .merge(schedules::routes())
        .merge(specs::routes())
        .merge(datasets::routes())
        .merge(rows::routes())
        .merge(compare::routes())
        .merge(evidence::routes())
        .merge(session::routes())
        .merge(tokens::routes())
        .merge(audit::routes())
        .merge(deliveries::routes())
        .merge(proof::routes())
        .merge(operations::routes())
        .split_for_parts();
    // axum's `{*path}` may hold slashes; OpenAPI has no sign for that
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    router
        .route("/v1/openapi.json", get(async move || axum::Json(document)))
        .merge(page::routes())
        .merge(hub::router(&api))
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
    let note = services.data.path(ADDRESS);
    let url = url(&services, &listener)?;
    let secret = proof::ensure_secret(&services.data)?;
    let prover = Prover { secret, url: url.clone(), port: listener.local_addr()?.port() };
    std::fs::write(&note, url).with_context(|| format!("cannot write `{}`", note.display()))?;
    let served = answer(services, listener, Some(prover), shutdown).await;
    let _ = std::fs::remove_file(note);
    served
}

/// As [`serve`], leaving the data folder alone.
pub(crate) async fn answer(
    services: Services,
    listener: TcpListener,
    prover: Option<Prover>,
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
    let tls = services.config.tls.as_ref().map(tls::acceptor).transpose()?;
    let limits = services.config.limits.clone();
    let (mut stopped, until) = (stopping.clone(), stopping.clone());
    let router = router(Api::new(services, prover, stopping)?);
    let told = tokio::spawn(async move {
        shutdown.await;
        stop.send_replace(true);
    });
    let deadline = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        () = listen::serve(listener, tls, router, &limits, until) => {}
        () = deadline => {}
    }
    told.abort();
    upkeep.abort();
    Ok(())
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
