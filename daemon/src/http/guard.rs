//! What stands around every handler: an id and a line in the log for each request, its time limit,
//! and problem documents for whatever went wrong, panics included.
//!
//! The log has the route's pattern and never the address, query, headers or body: a secret that a
//! caller put into any of them stays out of it.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use dpg_api::Code;
use futures::FutureExt;
use tracing::Instrument;
use tracing::field::Empty;
use uuid::Uuid;

use super::call::{Call, observed};
use super::doorman::Peer;
use super::{api::Api, credential, problem::Refusal};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Runs a request. The time limit ends with the answer's head, so that streams and downloads may
/// last.
pub(crate) async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let id = Uuid::new_v4().to_string();
    let method = known(request.method());
    credential::forget_foreign(&mut request);
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", id, method, route, token = Empty);
    let started = Instant::now();
    let (peer, path) = (Peer::of(request.extensions()), request.uri().path().to_owned());
    let answer = async {
        let guest = match api.doorman.greet(&request, &route) {
            Ok(guest) => guest,
            Err(refusal) => return (refusal.into_response(), Call::default()),
        };
        let (response, call) = observed(answer(&api, request, next)).await;
        api.doorman.saw(guest, response.status());
        (response, call)
    };
    let (response, call) = answer.instrument(span.clone()).await;
    let (status, took) = (response.status(), started.elapsed());
    span.in_scope(|| tracing::info!(status = status.as_u16(), seconds = took.as_secs_f64(), "answered"));
    if !matches!(method, "GET" | "HEAD" | "OPTIONS") {
        call.note(&api, format!("{method} {route}"), &path, peer, status).await;
    }
    let labels = [("method", method.to_owned()), ("route", route), ("status", status.as_u16().to_string())];
    metrics::counter!("dpg_http_requests_total", &labels).increment(1);
    metrics::histogram!("dpg_http_request_seconds", &labels[..2]).record(took.as_secs_f64());
    finish(response, &id)
}

/// The handler's answer, or that it took too long or panicked.
async fn answer(api: &Api, request: Request, next: Next) -> Response {
    let limit = Duration::from_secs(api.services.config.limits.request_seconds.max(1));
    let answered = tokio::time::timeout(limit, next.run(request));
    match AssertUnwindSafe(answered).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            let detail = format!("the request took longer than {} s", limit.as_secs());
            Refusal::new(Code::Timeout, detail).into_response()
        }
        Err(_) => Refusal::internal(&std::io::Error::other("a handler panicked")).into_response(),
    }
}

/// The method, if it is one of HTTP's: callers make up others, and each would be a label and in the log.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// Writes the problem document of a refusal, and the headers that every answer has.
fn finish(mut response: Response, id: &str) -> Response {
    let status = response.status();
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.contains("json"));
    let refusal = response.extensions_mut().remove::<Refusal>();
    let bare = (status.is_client_error() || status.is_server_error()) && !is_json;
    if let Some(refusal) = refusal.or_else(|| bare.then(|| Refusal::of_status(status))) {
        let mut document = Json(refusal.document(id)).into_response();
        *document.status_mut() = status;
        let kept = std::mem::take(response.headers_mut());
        document.headers_mut().extend(
            kept.into_iter()
                .filter_map(|(name, value)| Some((name?, value)))
                .filter(|(name, _)| *name != header::CONTENT_TYPE && *name != header::CONTENT_LENGTH),
        );
        let kind = HeaderValue::from_static("application/problem+json");
        document.headers_mut().insert(header::CONTENT_TYPE, kind);
        response = document;
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID.clone(), id);
    }
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::StatusCode;
    use axum::routing::get;
    use axum::{Router, middleware};
    use tower::ServiceExt;

    use super::*;
    use crate::services::Services;
    use crate::settings::config::Config;
    use crate::settings::data_dir::DataDir;

    #[tokio::test]
    async fn a_panic_and_a_bare_status_are_problems() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(Some(folder.path().into())).unwrap();
        let services = Services::open(Config::default(), data).await.unwrap();
        let (_stop, stopping) = tokio::sync::watch::channel(false);
        let api = Api::new(services, None, stopping).unwrap();
        let router = Router::new()
            .route("/panic", get(async || -> &'static str { panic!("boom") }))
            .route("/bare", get(async || (StatusCode::IM_A_TEAPOT, "short and stout")))
            .route("/own", get(async || (StatusCode::CONFLICT, Json(serde_json::json!({"own": 1})))))
            .layer(middleware::from_fn_with_state(api, guard));
        for (path, status, body) in [
            ("/panic", 500, "urn:dpg:problem:internal"),
            ("/bare", 418, "urn:dpg:problem:refused"),
            ("/own", 409, "{\"own\":1}"),
        ] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status);
            let text = to_bytes(response.into_body(), 10_000).await.unwrap();
            let text = String::from_utf8(text.into()).unwrap();
            assert!(text.contains(body) && !text.contains("boom"), "{text}");
        }
    }
}
