//! `/v1/datasets/{dataset}/versions/{reference}/compare`: two versions beside each other.

use axum::extract::State;
use dpg_api::{Comparison, MetricChange, Row, SettingChange};
use dpg_dataset::Split;
use dpg_registry::Version;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    auth::Reader,
    datasets::resolve,
    extract::{Json, Path, Query},
    problem::Refusal,
    rows, wire,
};

/// Rows of each kind that are shown.
const SHOWN: usize = 20;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(compare))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct CompareQuery {
    /// The version to compare with: a number or a tag, or `NAME@REFERENCE` of another dataset.
    with: String,
}

/// Compare a version with another, of the same dataset or of another.
#[utoipa::path(
    get, path = "/v1/datasets/{dataset}/versions/{reference}/compare", tag = "datasets", operation_id = "compare_versions",
    security(("token" = ["read"])),
    params(
        ("dataset" = String, Path, description = "Its name"),
        ("reference" = String, Path, description = "`latest`, a number, or a tag"), CompareQuery
    ),
    responses((status = 200, body = Comparison), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn compare(
    Reader(caller): Reader,
    State(api): State<Api>,
    Path((dataset, reference)): Path<(String, String)>,
    Query(CompareQuery { with }): Query<CompareQuery>,
) -> Result<Json<Comparison>, Refusal> {
    let (other, other_reference) = with.split_once('@').unwrap_or((&dataset, &with));
    let to = resolve(&api, &caller, &dataset, &reference).await?;
    let from = resolve(&api, &caller, other, other_reference).await?;
    let compared = api.services.registry.compare(&from, &to).await?;
    let gone = some(&api, &from, compared.gone).await?;
    let came = some(&api, &to, compared.came).await?;
    let diff = compared.diff;
    let metrics = diff.metrics.into_iter();
    let spec = diff.spec.into_iter();
    Ok(Json(Comparison {
        from: diff.from,
        to: diff.to,
        rows_added: diff.rows_added,
        rows_removed: diff.rows_removed,
        rows_kept: diff.rows_kept,
        rewards_from: wire::statistics(&diff.rewards_from),
        rewards_to: wire::statistics(&diff.rewards_to),
        rewards_correlation: compared.correlation,
        metrics: metrics.map(|of| MetricChange { name: of.name, from: of.from, to: of.to }).collect(),
        spec: spec.map(|of| SettingChange { key: of.key, from: of.from, to: of.to }).collect(),
        gone,
        came,
    }))
}

/// The first of some rows.
async fn some(api: &Api, version: &Version, mut places: Vec<usize>) -> Result<Vec<Row>, Refusal> {
    places.truncate(SHOWN);
    let rows = rows::rows(api, version, Split::Train).await?;
    Ok(rows.of(places).await?.into_iter().map(rows::row).collect())
}
