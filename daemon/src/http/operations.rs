//! What runs a daemon asks it: health, metrics, and the description of the API.

use std::sync::OnceLock;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use futures::StreamExt;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{api::Api, problem::Refusal};
use crate::services::Services;

/// Upper bounds of the histograms of durations, in seconds.
const SECONDS: [f64; 12] = [0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// The description of the API; the routes add themselves.
#[derive(OpenApi)]
#[openapi(
    info(title = "dpg", description = "Makes synthetic fine-tuning datasets. Every error is a problem document (RFC 9457)."),
    modifiers(&Bearer)
)]
pub(crate) struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(render))
}

/// Whether the process lives.
#[utoipa::path(get, path = "/healthz", tag = "operations", security(()), responses((status = 200, body = String)))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether queue and store can be reached.
#[utoipa::path(
    get, path = "/readyz", tag = "operations", security(()),
    responses((status = 200, body = String), (status = 503, body = dpg_api::ProblemDetails))
)]
async fn readyz(State(api): State<Api>) -> Result<&'static str, Refusal> {
    let services = &api.services;
    services.queue.now().await.map_err(|error| Refusal::unavailable("queue", &error))?;
    // nothing is there; what counts is that the store answers
    let nothing = services.prefix.clone().join(".ready");
    match services.store.list(Some(&nothing)).next().await {
        Some(Err(error)) => Err(Refusal::unavailable("store", &error)),
        _ => Ok("ready\n"),
    }
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operations", security(()), responses((status = 200, body = String)))]
async fn render(State(api): State<Api>) -> Result<impl IntoResponse, Refusal> {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, exposition(&api.services).await?))
}

/// All figures, as Prometheus reads them.
pub(crate) async fn exposition(services: &Services) -> Result<String, dpg_queue::Error> {
    let counts = services.queue.counts().await?;
    for (state, jobs) in [
        ("queued", counts.queued),
        ("running", counts.running),
        ("succeeded", counts.succeeded),
        ("failed", counts.failed),
        ("cancelled", counts.cancelled),
    ] {
        metrics::gauge!("dpg_jobs", "state" => state).set(jobs as f64);
    }
    Ok(recorder().render())
}

/// The process's recorder of metrics, installed by the first call.
pub(crate) fn recorder() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
            .expect("there are bounds");
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("metrics are recorded elsewhere; `/metrics` stays empty");
        }
        metrics::describe_gauge!("dpg_jobs", "jobs in the queue by state");
        metrics::describe_counter!("dpg_http_requests_total", "answered requests");
        metrics::describe_counter!("dpg_connections_refused_total", "connections over the limits");
        metrics::describe_histogram!("dpg_http_request_seconds", "time to the head of an answer");
        handle
    })
}
