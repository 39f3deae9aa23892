//! `/v1/deliveries`: what webhooks were told, and what they are still to be told.

use axum::extract::State;
use dpg_api::DeliveryPage;
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
struct DeliveryQuery {
    /// Only those about this job.
    job: Option<Uuid>,
    /// Only those before the one with this id: the `next` of the page before.
    before: Option<Uuid>,
    /// Deliveries on a page, 1 to 500. Default 100.
    limit: Option<u32>,
}

/// List webhooks' calls, newest first.
#[utoipa::path(
    get, path = "/v1/deliveries", tag = "jobs", operation_id = "list_deliveries", security(("token" = ["admin"])),
    params(DeliveryQuery),
    responses((status = 200, body = DeliveryPage), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn list(
    Admin(caller): Admin,
    State(api): State<Api>,
    Query(query): Query<DeliveryQuery>,
) -> Result<Json<DeliveryPage>, Refusal> {
    caller.check_all()?;
    let limit = query.limit.unwrap_or(100).clamp(1, 500);
    let deliveries = api.services.queue.deliveries(query.job, query.before, limit).await?;
    let next = deliveries.last().filter(|_| deliveries.len() == limit as usize).map(|last| last.id);
    Ok(Json(DeliveryPage { deliveries, next }))
}
