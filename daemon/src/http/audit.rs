//! `/v1/audit`: who did what, from the lines that `call.rs` writes.

use axum::extract::State;
use dpg_api::DeedPage;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    api::Api,
    auth::Admin,
    extract::{Json, Query},
    problem::Refusal,
};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    /// Only lines before the one with this id: the `next` of the page before.
    before: Option<Uuid>,
    /// Lines on a page, 1 to 500. Default 100.
    limit: Option<u32>,
}

/// List who did what, newest first.
#[utoipa::path(
    get, path = "/v1/audit", tag = "tokens", operation_id = "list_deeds", security(("token" = ["admin"])),
    params(AuditQuery),
    responses((status = 200, body = DeedPage), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn list(
    Admin(caller): Admin,
    State(api): State<Api>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<DeedPage>, Refusal> {
    caller.check_all()?;
    let limit = query.limit.unwrap_or(100).clamp(1, 500);
    let deeds = api.services.queue.deeds(query.before, limit).await?;
    let next = deeds.last().filter(|_| deeds.len() == limit as usize).map(|deed| deed.id);
    Ok(Json(DeedPage { deeds, next }))
}
